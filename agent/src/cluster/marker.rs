//! What this node keeps for itself of how it came into its group: one small file in state_dir, written before
//! the deed that it speaks of.
//!
//! `founding`: this node may start the group's first server on an empty store. `joining`: its server was started
//! on an empty store to join the others, and has not been seen as a member yet. `member`: it has been. Every
//! phase names the founding it belongs to, so that the store of an earlier forest of the same name is known.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use forest_core::reason::Reason;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, chain};
use crate::files;

const FILE_NAME: &str = "cluster.json";

/// How far this node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It founded, or is about to.
    Founding,
    /// It was started to join.
    Joining,
    /// It is a member.
    Member,
}

/// The marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The founding, as the forest's record names it.
    pub founding: String,
    /// How far.
    pub phase: Phase,
}

/// The marker's file.
#[derive(Debug, Clone)]
pub struct MarkerFile(PathBuf);

impl MarkerFile {
    /// In this state directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE_NAME))
    }

    /// What it says; `None`: there is none.
    ///
    /// # Errors
    /// `state_dir` where there is one that cannot be read: then nobody knows what this node did.
    pub fn read(&self) -> Result<Option<Marker>, Fault> {
        let path = self.0.display();
        match fs::read(&self.0) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(marker) => Ok(Some(marker)),
                Err(err) => Err(Fault::new(Reason::StateDir, format!("{path} is damaged: {err}"))),
            },
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(Fault::new(Reason::StateDir, format!("cannot read {path}: {err}"))),
        }
    }

    /// Forgets all: the next engine begins as a stranger does.
    ///
    /// # Errors
    /// `state_dir` where it stays.
    pub fn remove(&self) -> Result<(), Fault> {
        match fs::remove_file(&self.0) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(Fault::new(Reason::StateDir, format!("cannot delete {}: {err}", self.0.display())))
            }
            _ => Ok(()),
        }
    }

    /// Notes the phase; durable when this returns. A file that says so already stays untouched.
    ///
    /// # Errors
    /// `state_dir` where it cannot be written.
    pub fn write(&self, founding: &str, phase: Phase) -> Result<(), Fault> {
        let marker = Marker { founding: founding.to_owned(), phase };
        if self.read().is_ok_and(|found| found.as_ref() == Some(&marker)) {
            return Ok(());
        }
        let fault = |err: &dyn std::error::Error| Fault::new(Reason::StateDir, chain(err));
        let text = serde_json::to_string(&marker).map_err(|err| fault(&err))?;
        files::put(&self.0, text.as_bytes(), 0o600).map_err(|err| fault(&err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_tells_damaged_from_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = MarkerFile::new(dir.path());
        assert_eq!(file.read(), Ok(None));
        file.write("f1", Phase::Founding).unwrap();
        file.write("f1", Phase::Member).unwrap();
        assert_eq!(file.read(), Ok(Some(Marker { founding: "f1".to_owned(), phase: Phase::Member })));
        fs::write(dir.path().join(FILE_NAME), "{").unwrap();
        assert_eq!(file.read().unwrap_err().reason, Reason::StateDir);
    }
}
