//! How far a take-over is: a file in state_dir, written before each deed that it speaks of.

use std::path::{Path, PathBuf};

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use forest_core::time::rfc3339;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::{Fault, chain};
use crate::files;
use crate::settings::Settings;

const FILE_NAME: &str = "take-over.json";

/// How far the whole is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Snapshots are being made of the store, which is where it was.
    Reading,
    /// They are whole; the store is being moved to `aside`.
    Moving,
    /// It is there; streams are being restored.
    Restoring,
    /// All of them are.
    Done,
}

/// How far a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Nothing of it was asked of the forest.
    Waiting,
    /// It was asked to restore it.
    Begun,
    /// It has it.
    Restored,
    /// It had it, with consumers that were not where they were: it is taken away, to be restored once more.
    Undoing,
}

/// A durable consumer as it stood in the old store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Its name.
    pub name: String,
    /// All messages up to this stream sequence are acknowledged.
    pub ack_floor: u64,
    /// The last stream sequence that was delivered.
    pub delivered: u64,
}

/// What is in a stream, as its state tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extent {
    /// How many messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first one's sequence number.
    pub first_seq: u64,
    /// When it was stored.
    pub first_ts: String,
    /// The last one's sequence number, also where that is gone by now.
    pub last_seq: u64,
    /// When it was stored.
    pub last_ts: String,
}

impl Extent {
    /// Is this what `before` has come to be, with or without what was written and consumed since? Times tell it from a
    /// stream of the same name that somebody else began.
    #[must_use]
    pub fn continues(&self, before: &Self) -> bool {
        if self.last_seq == before.last_seq {
            return self.messages == 0 || self.last_ts == before.last_ts;
        }
        self.last_seq > before.last_seq
            && (before.messages == 0
                || self.first_seq > before.first_seq
                || (self.first_seq == before.first_seq && self.first_ts == before.first_ts))
    }
}

/// A stream that is carried over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Its name.
    pub name: String,
    /// Its snapshot's file, in the directory of snapshots.
    pub snapshot: String,
    /// Its configuration, as the old server told.
    pub config: Value,
    /// Its state, as the old server told.
    pub state: Value,
    /// What was in it.
    pub extent: Extent,
    /// Its durable consumers.
    pub consumers: Vec<Position>,
    /// How far it is.
    pub progress: Progress,
}

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The forest.
    pub forest_id: String,
    /// The node.
    pub node_id: String,
    /// Since when the streams are away.
    pub begun: Timestamp,
    /// Until when they were.
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// How far.
    pub stage: Stage,
    /// Where the store is moved to.
    #[serde(default)]
    pub aside: PathBuf,
    /// What is carried over.
    #[serde(default)]
    pub streams: Vec<Carried>,
    /// What is not, as a person wants it; it stays in the store that was moved aside.
    #[serde(default)]
    pub left_behind: Vec<String>,
}

impl Journal {
    /// For how long the streams were away, in seconds; `None`: they are still.
    #[must_use]
    pub fn outage(&self) -> Option<f64> {
        Some(self.ended?.duration_since(self.begun).as_secs_f64())
    }

    /// What was restored before is looked at once more: a power cut may have taken what a server had not written out.
    pub fn doubt(&mut self) {
        if self.stage == Stage::Restoring {
            let restored = |stream: &&mut Carried| stream.progress == Progress::Restored;
            self.streams.iter_mut().filter(restored).for_each(|stream| stream.progress = Progress::Begun);
        }
    }

    /// In words, for /health; `None`: there is nothing to say any more.
    #[must_use]
    pub fn unfinished(&self) -> Option<String> {
        let restored = self.streams.iter().filter(|stream| stream.progress == Progress::Restored).count();
        let what = match self.stage {
            Stage::Reading => "its streams are being read".to_owned(),
            Stage::Moving => "it is being moved aside".to_owned(),
            Stage::Restoring => format!("{restored} of {} streams are restored", self.streams.len()),
            Stage::Done => return None,
        };
        Some(format!(
            "the store of a standalone server is being taken over since {}: {what}",
            rfc3339(self.begun)
        ))
    }
}

/// The file.
#[derive(Debug, Clone)]
pub struct JournalFile {
    path: PathBuf,
    forest: ForestId,
    node: NodeId,
}

impl JournalFile {
    /// Of this node.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let (forest, node) = (settings.forest.clone(), settings.node.clone());
        Self { path: settings.state_dir.join(FILE_NAME), forest, node }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new one, which begins now.
    #[must_use]
    pub fn begin(&self, left_behind: Vec<String>) -> Journal {
        Journal {
            forest_id: self.forest.to_string(),
            node_id: self.node.to_string(),
            begun: Timestamp::now(),
            ended: None,
            stage: Stage::Reading,
            aside: PathBuf::new(),
            streams: Vec::new(),
            left_behind,
        }
    }

    /// What it says; `None`: there is none, or it is of another node, which had this state_dir before.
    ///
    /// # Errors
    /// `state_dir` where there is one and nobody can tell what it says.
    pub fn read(&self) -> Result<Option<Journal>, Fault> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(self.fault(&err)),
        };
        let journal: Journal = serde_json::from_slice(&bytes).map_err(|err| self.fault(&err))?;
        let mine = journal.forest_id == self.forest.as_str() && journal.node_id == self.node.as_str();
        Ok(mine.then_some(journal))
    }

    fn fault(&self, err: &dyn std::error::Error) -> Fault {
        let message = format!("cannot read {}: {}", self.path.display(), chain(err));
        Fault::new(Reason::StateDir, message)
    }

    /// Writes it; durable when this returns.
    ///
    /// # Errors
    /// `state_dir` with the path.
    pub fn write(&self, journal: &Journal) -> Result<(), Fault> {
        let fault = |err: &dyn std::error::Error| Fault::new(Reason::StateDir, chain(err));
        let text = serde_json::to_string(journal).map_err(|err| fault(&err))?;
        files::put(&self.path, text.as_bytes(), 0o600).map_err(|err| fault(&err))
    }
}
