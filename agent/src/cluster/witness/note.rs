//! By which credentials the witness runs: a note in runtime_dir. It reads them at its start alone, so that one that was
//! started by others is restarted.

use std::path::PathBuf;

use forest_core::reason::Reason;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, chain};
use crate::files;
use crate::settings::Settings;

const FILE_NAME: &str = "witness-credentials.json";

/// What is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Of the credentials that its configuration has.
    pub digest: String,
    /// The process that ran when they changed: it has read those of before.
    pub stale: Option<u32>,
}

/// The note's file.
#[derive(Debug, Clone)]
pub struct NoteFile(PathBuf);

impl NoteFile {
    /// Of this node.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self(settings.runtime_dir.join(FILE_NAME))
    }

    fn read(&self) -> Option<Note> {
        serde_json::from_slice(&std::fs::read(&self.0).ok()?).ok()
    }

    /// Does it speak of other credentials than these? Where there is none, what runs has them: a note is made before any
    /// rotation.
    #[must_use]
    pub fn is_of_others(&self, digest: &str) -> bool {
        self.read().is_some_and(|note| note.digest != digest)
    }

    /// The process that has read other credentials than those noted.
    #[must_use]
    pub fn stale(&self) -> Option<u32> {
        self.read()?.stale
    }

    /// Notes that the configuration has these from now on, while `running` runs. Where it says so already, nothing
    /// changes.
    ///
    /// # Errors
    /// `state_dir` where it cannot be written.
    pub fn note(&self, digest: &str, running: Option<u32>) -> Result<(), Fault> {
        let before = self.read();
        if before.as_ref().is_some_and(|note| note.digest == digest) {
            return Ok(());
        }
        let note = Note { digest: digest.to_owned(), stale: before.and(running) };
        let fault = |err: &dyn std::error::Error| Fault::new(Reason::StateDir, chain(err));
        let text = serde_json::to_string(&note).map_err(|err| fault(&err))?;
        files::put(&self.0, text.as_bytes(), 0o600).map_err(|err| fault(&err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_while_credentials_changed_is_stale_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = NoteFile(dir.path().join(FILE_NAME));
        assert!(!file.is_of_others("a"));
        file.note("a", Some(7)).unwrap();
        assert_eq!(file.stale(), None, "it has run by these");
        assert!(file.is_of_others("b"));
        file.note("b", Some(7)).unwrap();
        file.note("b", Some(8)).unwrap();
        assert_eq!(file.stale(), Some(7), "the next was started later");
        file.note("c", None).unwrap();
        assert_eq!(file.stale(), None);
    }
}
