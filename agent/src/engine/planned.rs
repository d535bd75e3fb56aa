//! How a server is started: its command, and the one file that it reads.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use forest_core::reason::Reason;
use jiff::Timestamp;

use crate::child::Command;
use crate::fault::{Fault, chain};
use crate::files::private_dir;

/// A server as it should be. `Debug` is left out: the text may hold passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Planned {
    /// The command.
    pub command: Command,
    /// nats-server's configuration, or NimsForest's view of the registry.
    pub file: PathBuf,
    /// What the file is to hold.
    pub text: String,
}

impl Planned {
    /// Does the file hold what it should?
    #[must_use]
    pub fn is_written(&self) -> bool {
        std::fs::read(&self.file).is_ok_and(|found| found == self.text.as_bytes())
    }

    /// When the file came to hold what it does, as the file system tells.
    #[must_use]
    pub fn written_at(&self) -> Option<Timestamp> {
        let metadata = std::fs::metadata(&self.file).ok()?;
        let nanos = i32::try_from(metadata.ctime_nsec()).ok()?;
        Timestamp::new(metadata.ctime(), nanos).ok()
    }

    /// Writes the file, 0600, and its directory where it is missing. One that says the same stays untouched.
    ///
    /// # Errors
    /// `state_dir` with the path.
    pub fn write(&self) -> Result<(), Fault> {
        if self.is_written() { Ok(()) } else { self.put(&self.file) }
    }

    /// Writes the same beside the file, for a test of it before it takes the file's place.
    ///
    /// # Errors
    /// `state_dir` with the path.
    pub fn write_draft(&self) -> Result<Draft, Fault> {
        let draft = Draft(self.file.with_added_extension("new"));
        self.put(&draft.0)?;
        Ok(draft)
    }

    fn put(&self, file: &Path) -> Result<(), Fault> {
        let dir = file.parent().unwrap_or(Path::new("/"));
        let fault = |err: &dyn std::error::Error| Fault::new(Reason::StateDir, chain(err));
        private_dir(dir).map_err(|err| fault(&err))?;
        crate::files::put(file, self.text.as_bytes(), 0o600).map_err(|err| fault(&err))
    }
}

/// A draft of a file; dropped, it is gone.
#[derive(Debug)]
pub struct Draft(PathBuf);

impl Draft {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What cannot be removed is overwritten by the next draft.
        let _ = std::fs::remove_file(&self.0);
    }
}
