//! What the running engine was started by, as far as no reload can change it: noted in runtime_dir when its process
//! is first seen, so that a later agent with another agent.yaml can tell that they do not fit.

use std::fs;
use std::io;
use std::path::PathBuf;

use forest_core::reason::Reason;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::child::Command;
use crate::fault::{Fault, chain};
use crate::files;
use crate::settings::Settings;

const FILE_NAME: &str = "engine-started.json";

/// The note, and what it should say.
#[derive(Debug)]
pub struct Started {
    path: PathBuf,
    digest: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    pid: u32,
    digest: String,
}

impl Started {
    /// By these settings and this command.
    #[must_use]
    pub fn new(settings: &Settings, command: &Command) -> Self {
        let Settings { forest, node, listen, engine, .. } = settings;
        let text = format!(
            "{forest} {node} {} {} {} {} {:?} {:?} {:?}",
            listen.client,
            listen.cluster,
            listen.monitor,
            engine.kind.as_str(),
            engine.data_dir,
            command.program,
            command.args
        );
        let digest = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { path: settings.runtime_dir.join(FILE_NAME), digest }
    }

    /// Was the process `pid` started so? One that is seen for the first time was, and that is noted.
    ///
    /// # Errors
    /// `state_dir` where the note can be neither read nor written.
    pub fn fits(&self, pid: u32) -> Result<bool, Fault> {
        let fault = |message: String| Fault::new(Reason::StateDir, message);
        let noted = match fs::read(&self.path) {
            // A damaged note is no note.
            Ok(bytes) => serde_json::from_slice::<Note>(&bytes).ok(),
            Err(err) if err.kind() == io::ErrorKind::NotFound => None,
            Err(err) => return Err(fault(format!("cannot read {}: {err}", self.path.display()))),
        };
        if let Some(noted) = noted.filter(|noted| noted.pid == pid) {
            return Ok(noted.digest == self.digest);
        }
        let note = Note { pid, digest: self.digest.clone() };
        let text = serde_json::to_string(&note).map_err(|err| fault(chain(&err)))?;
        files::put(&self.path, text.as_bytes(), 0o600).map_err(|err| fault(chain(&err)))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_process_is_held_to_what_it_was_first_seen_with() {
        let dir = tempfile::tempdir().unwrap();
        let started = |port: u16| {
            let text = format!(
                "forest_id: grove\nnode_id: n\nruntime_dir: {}\nlisten: {{ client: \"127.0.0.1:{port}\" }}\n",
                dir.path().display()
            );
            let settings = Settings::parse(&text, Path::new("agent.yaml")).unwrap();
            let program = Path::new("/opt/nats-server");
            let command =
                super::super::nats_server::command(program, Path::new("/run/x"), Path::new("/var/x"));
            Started::new(&settings, &command)
        };
        assert_eq!(started(4222).fits(7), Ok(true));
        assert_eq!(started(4222).fits(7), Ok(true));
        assert_eq!(started(5222).fits(7), Ok(false), "the same process, another configuration");
        assert_eq!(started(5222).fits(8), Ok(true), "another process");
        assert_eq!(started(4222).fits(8), Ok(false));
    }
}
