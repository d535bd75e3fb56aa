//! That the running engine goes on with the list of routes that it has read, although its file lists others: a note in
//! runtime_dir for the agent that comes next, which cannot ask the engine.

use std::path::PathBuf;

use forest_core::reason::Reason;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cluster::routes::rest;
use crate::fault::{Fault, chain};
use crate::files;
use crate::settings::Settings;

const FILE_NAME: &str = "engine-behind.json";

/// The note's file.
#[derive(Debug)]
pub struct BehindFile(PathBuf);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    pid: u32,
    /// Of all that it has read but the routes.
    digest: String,
}

impl Note {
    fn new(pid: u32, text: &str) -> Self {
        let digest = Sha256::digest(rest(text));
        Self { pid, digest: digest.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

impl BehindFile {
    /// Of this node.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self(settings.runtime_dir.join(FILE_NAME))
    }

    fn read(&self) -> Option<Note> {
        serde_json::from_slice(&std::fs::read(&self.0).ok()?).ok()
    }

    /// Has the process `pid` read all of `text` but the routes?
    #[must_use]
    pub fn is_noted(&self, pid: u32, text: &str) -> bool {
        self.read() == Some(Note::new(pid, text))
    }

    /// It has. A note that says so already stays untouched.
    ///
    /// # Errors
    /// `state_dir` where it cannot be written.
    pub fn note(&self, pid: u32, text: &str) -> Result<(), Fault> {
        if self.is_noted(pid, text) {
            return Ok(());
        }
        let fault = |err: &dyn std::error::Error| Fault::new(Reason::StateDir, chain(err));
        let note = serde_json::to_string(&Note::new(pid, text)).map_err(|err| fault(&err))?;
        files::put(&self.0, note.as_bytes(), 0o600).map_err(|err| fault(&err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_of_one_process_and_of_all_but_its_routes() {
        let dir = tempfile::tempdir().unwrap();
        let file = BehindFile(dir.path().join(FILE_NAME));
        let text = |user: &str, route: &str| format!("user: {user}\n  \"nats://{route}\"\n");
        file.note(7, &text("a", "b")).unwrap();
        assert!(file.is_noted(7, &text("a", "c")));
        assert!(!file.is_noted(8, &text("a", "b")) && !file.is_noted(7, &text("b", "b")));
    }
}
