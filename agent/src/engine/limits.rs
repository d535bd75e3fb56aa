//! How much JetStream may store: derived from the machine once, then kept.
//!
//! The limits are frozen in `state_dir/limits.json`: an old nats-server refuses a whole reload in which they
//! differ, and the new peers with it.

use std::fs;
use std::io;
use std::path::Path;

use forest_core::reason::Reason;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, chain};
use crate::files;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const FILE_NAME: &str = "limits.json";

/// JetStream's limits, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of memory streams.
    pub max_memory: u64,
    /// Of file streams.
    pub max_file: u64,
}

impl Limits {
    /// What a machine with `memory` bytes of RAM and `disk` bytes free below the store can give: a quarter of
    /// the one, three quarters of the other, in whole MiB, within bounds that keep both usable.
    #[must_use]
    pub fn derive(memory: u64, disk: u64) -> Self {
        let whole = |bytes: u64| bytes / MIB * MIB;
        Self {
            max_memory: whole(memory / 4).clamp(32 * MIB, 4 * GIB),
            max_file: whole(disk / 4 * 3).clamp(32 * MIB, 1024 * GIB),
        }
    }

    /// The kept limits, or new ones for this machine, which nobody has kept yet. Writes nothing.
    ///
    /// # Errors
    /// [`Reason::DataDir`] where the space below `data_dir` cannot be told, [`Reason::StateDir`] where
    /// limits.json cannot be read.
    pub fn kept_or_derived(state_dir: &Path, data_dir: &Path) -> Result<Self, Fault> {
        match read(&state_dir.join(FILE_NAME))? {
            Some(kept) => Ok(kept),
            None => Ok(Self::derive(memory(), free_space(data_dir)?)),
        }
    }

    /// Keeps these limits, those that the engine is started with, unless there are kept ones already.
    ///
    /// # Errors
    /// [`Reason::StateDir`] where limits.json can be neither read nor written.
    pub fn freeze(self, state_dir: &Path) -> Result<(), Fault> {
        let path = state_dir.join(FILE_NAME);
        if read(&path)?.is_some() {
            return Ok(());
        }
        let text = serde_json::to_string(&self).map_err(|err| state_dir_fault(chain(&err)))?;
        files::put(&path, text.as_bytes(), 0o600).map_err(|err| state_dir_fault(chain(&err)))
    }
}

/// `None`: there are none yet, or they were damaged and nobody can tell what they said.
fn read(path: &Path) -> Result<Option<Limits>, Fault> {
    match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(limits) => Ok(Some(limits)),
            Err(err) => {
                tracing::warn!(path = %path.display(), %err, "kept JetStream limits are damaged; deriving them anew");
                Ok(None)
            }
        },
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(state_dir_fault(format!("cannot read {}: {err}", path.display()))),
    }
}

fn state_dir_fault(message: String) -> Fault {
    Fault::new(Reason::StateDir, message)
}

fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

/// Bytes free where `data_dir` lies.
///
/// # Errors
/// [`Reason::DataDir`] where that cannot be told.
pub fn free_space(data_dir: &Path) -> Result<u64, Fault> {
    let stat = rustix::fs::statvfs(data_dir).map_err(|err| {
        let message = format!("cannot tell the free space of {}: {err}", data_dir.display());
        Fault::new(Reason::DataDir, message)
    })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn limits_stay_in_bounds(memory in any::<u64>(), disk in any::<u64>()) {
            let limits = Limits::derive(memory, disk);
            prop_assert!((32 * MIB..=4 * GIB).contains(&limits.max_memory));
            prop_assert!((32 * MIB..=1024 * GIB).contains(&limits.max_file));
            prop_assert_eq!(limits.max_memory % MIB + limits.max_file % MIB, 0);
        }
    }

    #[test]
    fn limits_are_frozen_as_the_engine_was_given_them() {
        let dir = tempfile::tempdir().unwrap();
        let kept_or_derived = || Limits::kept_or_derived(dir.path(), dir.path()).unwrap();
        let given = Limits { max_memory: 33 * MIB, max_file: 34 * MIB };
        given.freeze(dir.path()).unwrap();
        assert_eq!(kept_or_derived(), given, "whatever space there is by now");
        Limits { max_file: 35 * MIB, ..given }.freeze(dir.path()).unwrap();
        assert_eq!(kept_or_derived(), given, "the first ones stay");
        fs::write(dir.path().join(FILE_NAME), "{").unwrap();
        given.freeze(dir.path()).unwrap();
        assert_eq!(kept_or_derived(), given, "damaged ones are no limits");
    }

    #[test]
    fn what_cannot_be_measured_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let fault = Limits::kept_or_derived(dir.path(), Path::new("/nowhere")).unwrap_err();
        assert_eq!(fault.reason, Reason::DataDir);
        assert!(fault.message.contains("/nowhere"), "{fault}");
    }
}
