//! That this node is to leave, and what came of it: a file in state_dir, written by `forest-agent leave`, read and
//! answered by the daemon, so that neither's end is the end of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::{Fault, chain};
use crate::files;
use crate::settings::Settings;

const FILE_NAME: &str = "leave.json";

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A person wants it.
    Wanted,
    /// It was refused: the node stays.
    Refused,
    /// It has left.
    Left,
}

/// A stream that was pinned to another node, so that it moves there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its placement before.
    pub placement: Value,
    /// Its last message's number before: the copy has no smaller one.
    pub last_seq: u64,
}

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The forest.
    pub forest_id: String,
    /// The node.
    pub node_id: String,
    /// Tells one request from the next.
    pub request: String,
    /// Whatever is lost?
    pub force: bool,
    /// How far.
    pub state: State,
    /// Why it was refused; a stable code.
    #[serde(default)]
    pub reason: Option<String>,
    /// What is being done, or what came of it.
    #[serde(default)]
    pub message: String,
    /// Streams that are pinned to another node for now.
    #[serde(default)]
    pub pinned: BTreeMap<String, Pin>,
    /// Streams whose only copy was moved.
    #[serde(default)]
    pub moved: Vec<String>,
    /// Streams that have fewer replicas now, for no more nodes stay.
    #[serde(default)]
    pub lowered: Vec<String>,
    /// Streams that would be lost (refused), or are (forced).
    #[serde(default)]
    pub lost: Vec<String>,
}

/// The file.
#[derive(Debug, Clone)]
pub struct IntentFile {
    path: PathBuf,
    forest: ForestId,
    node: NodeId,
}

impl IntentFile {
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

    /// A new request.
    #[must_use]
    pub fn request(&self, force: bool) -> Intent {
        Intent {
            forest_id: self.forest.to_string(),
            node_id: self.node.to_string(),
            request: format!("{:016x}", rand::random::<u64>()),
            force,
            state: State::Wanted,
            reason: None,
            message: String::new(),
            pinned: BTreeMap::new(),
            moved: Vec::new(),
            lowered: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// What it says; `None`: there is none, or it is damaged or another node's, which had this state_dir before.
    #[must_use]
    pub fn read(&self) -> Option<Intent> {
        let intent: Intent = serde_json::from_slice(&std::fs::read(&self.path).ok()?).ok()?;
        let mine = intent.forest_id == self.forest.as_str() && intent.node_id == self.node.as_str();
        mine.then_some(intent)
    }

    /// Writes it; durable when this returns.
    ///
    /// # Errors
    /// `state_dir` with the path.
    pub fn write(&self, intent: &Intent) -> Result<(), Fault> {
        let fault = |err: &dyn std::error::Error| Fault::new(Reason::StateDir, chain(err));
        let text = serde_json::to_string(intent).map_err(|err| fault(&err))?;
        files::put(&self.path, text.as_bytes(), 0o600).map_err(|err| fault(&err))
    }
}
