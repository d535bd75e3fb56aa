//! That the engine is to be restarted, once, by what is configured now: a file in state_dir that names its process.
//! Written by `forest-agent restart`, done by the daemon, which takes it away when both servers are new.

use std::io;
use std::path::PathBuf;

use forest_core::reason::Reason;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, chain};
use crate::files;
use crate::settings::Settings;

/// The processes that are to make way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// The engine's.
    pub engine: u32,
    /// The witness's, which goes once the new engine is well.
    #[serde(default)]
    pub witness: Option<u32>,
}

/// The file.
#[derive(Debug, Clone)]
pub struct RestartFile(PathBuf);

impl RestartFile {
    /// Of this node.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self(settings.state_dir.join("restart.json"))
    }

    /// What it says; a damaged one says nothing.
    #[must_use]
    pub fn read(&self) -> Option<Restart> {
        serde_json::from_slice(&std::fs::read(&self.0).ok()?).ok()
    }

    /// Writes it; durable when this returns.
    ///
    /// # Errors
    /// `state_dir` with the path.
    pub fn write(&self, restart: &Restart) -> Result<(), Fault> {
        let fault = |err: &dyn std::error::Error| Fault::new(Reason::StateDir, chain(err));
        let text = serde_json::to_string(restart).map_err(|err| fault(&err))?;
        files::put(&self.0, text.as_bytes(), 0o600).map_err(|err| fault(&err))
    }

    /// Takes it away.
    ///
    /// # Errors
    /// `state_dir` where it stays.
    pub fn remove(&self) -> Result<(), Fault> {
        match std::fs::remove_file(&self.0) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(Fault::new(Reason::StateDir, format!("cannot delete {}: {err}", self.0.display())))
            }
            _ => Ok(()),
        }
    }
}
