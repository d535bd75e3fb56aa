//! `children.json` (0600, in runtime_dir): which processes are the agent's children, for the agent that comes
//! after it.
//!
//! A child is recorded before it is spawned, with its token and no pid, and again with its pid. The file
//! makes adoption exact; it is not needed for it (see [`super::adopt`]), so a lost or damaged one is no fault.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// One child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What it carries in its environment.
    pub(super) token: String,
    /// The boot it belongs to: a pid means nothing after the next.
    pub(super) boot_id: String,
    /// The command's digest.
    pub(super) command: String,
    /// The process; `None` from before the spawn until it is known.
    pub(super) process: Option<ProcessId>,
}

/// A process, told apart from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    /// Its pid.
    pub(super) pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks since boot.
    pub(super) start_time: u64,
}

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Records {
    path: PathBuf,
    children: Mutex<BTreeMap<String, Record>>,
}

#[derive(Default, Serialize, Deserialize)]
struct Text {
    version: u32,
    children: BTreeMap<String, Record>,
}

impl Records {
    /// Reads `path`; what cannot be read is said in the log and taken as empty.
    pub(super) fn open(path: PathBuf) -> Self {
        let children = match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes).unwrap_or_else(|err| {
                tracing::warn!(path = %path.display(), %err, "damaged; children are looked for in /proc instead");
                BTreeMap::new()
            }),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(err) => {
                tracing::warn!(path = %path.display(), %err, "unreadable; children are looked for in /proc instead");
                BTreeMap::new()
            }
        };
        Self { path, children: Mutex::new(children) }
    }

    /// What is recorded of child `name`.
    pub(super) fn get(&self, name: &str) -> Option<Record> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.get(name).cloned()
    }

    /// Records child `name`, or with `None` takes it out. A failure is said in the log and held back by nothing.
    pub(super) fn set(&self, name: &str, record: Option<Record>) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        if children.get(name) == record.as_ref() {
            return;
        }
        match record {
            Some(record) => children.insert(name.to_owned(), record),
            None => children.remove(name),
        };
        if let Err(err) = self.write(&children) {
            let err = crate::fault::chain(&err);
            tracing::warn!(child = name, err, "children.json is not up to date");
        }
    }

    fn write(&self, children: &BTreeMap<String, Record>) -> Result<(), FileError> {
        let text = Text { version: 1, children: children.clone() };
        let text = serde_json::to_vec_pretty(&text).unwrap_or_default();
        files::put(&self.path, &text, 0o600)
    }
}

fn parse(bytes: &[u8]) -> serde_json::Result<BTreeMap<String, Record>> {
    serde_json::from_slice::<Text>(bytes).map(|text| text.children)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            token: "a.b".to_owned(),
            boot_id: "c".to_owned(),
            command: "d".to_owned(),
            process: Some(ProcessId { pid: 7, start_time: 9 }),
        }
    }

    #[test]
    fn kept_for_the_next_agent_and_taken_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("children.json");
        Records::open(path.clone()).set("engine", Some(record()));
        let again = Records::open(path.clone());
        assert_eq!(again.get("engine"), Some(record()));
        assert_eq!(again.get("witness"), None);
        again.set("engine", None);
        assert_eq!(Records::open(path).get("engine"), None);
    }

    #[test]
    fn a_damaged_file_is_empty_and_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("children.json");
        for damaged in ["", "{", "[]", "{\"version\":1,\"children\":{\"engine\":{}}}"] {
            std::fs::write(&path, damaged).unwrap();
            let records = Records::open(path.clone());
            assert_eq!(records.get("engine"), None);
            records.set("engine", Some(record()));
            assert_eq!(Records::open(path.clone()).get("engine"), Some(record()));
        }
    }
}
