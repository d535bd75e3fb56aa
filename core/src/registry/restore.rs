//! A document that has gone bad: how long that is only suspected, and how its bytes are set aside before the
//! last good copy takes their place. A bad document is never replaced by a fresh one.

use std::time::Duration;

use super::document::Files;
use super::door::{Door, DoorError, Kind, optional};
use super::lease::{Context, new_nonce};
use super::read::corrupt_copies;
use crate::time::compact;

/// How the names of copies begin while they are written.
pub(super) const NEW: &str = ".registry.new.";

/// What an update put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The name of the copy that keeps the corrupt bytes; `None` where the file was missing.
    pub quarantined: Option<String>,
}

/// Bad bytes (`None`: a file that is missing and should not be), and since when they have been the same.
#[derive(Debug)]
pub(super) struct Suspicion {
    bytes: Option<Vec<u8>>,
    since: Duration,
}

impl Suspicion {
    /// Notes what was seen in place of a document: the same as before, or something that starts anew.
    pub(super) fn note(suspicion: &mut Option<Self>, bytes: Option<Vec<u8>>, now: Duration) -> Duration {
        match suspicion {
            Some(known) if known.bytes == bytes => now.saturating_sub(known.since),
            _ => {
                *suspicion = Some(Self { bytes, since: now });
                Duration::ZERO
            }
        }
    }

    /// Waits, without the lease, until the file holds something else, or has held the same for `patience`.
    pub(super) fn wait(&self, cx: &Context<'_>, files: &Files, patience: Duration) -> Result<(), DoorError> {
        let mut backoff = cx.backoff();
        while !cx.late() && cx.clock.boottime() < self.since + patience {
            backoff.wait(cx.clock);
            let found = optional(cx.door.read(&files.file))?.map(|(bytes, _)| bytes);
            if found != self.bytes {
                break;
            }
        }
        Ok(())
    }
}

/// Keeps `bytes` in a file named by the time, and returns its name; a copy that exists already is enough.
pub(super) fn quarantine(cx: &Context<'_>, files: &Files, bytes: &[u8]) -> Result<String, DoorError> {
    for name in corrupt_copies(cx.door, files)? {
        if optional(cx.door.read(&name))?.is_some_and(|(copy, _)| copy == bytes) {
            return Ok(name);
        }
    }
    // Written aside and moved: no half a copy ever bears the name.
    let staged = format!("{NEW}{}", new_nonce());
    cx.door.write_new(&staged, bytes)?;
    let name = format!("{}{}", files.corrupt_prefix(), compact(cx.clock.now()));
    let moved = move_to_free_name(cx.door, &staged, &name);
    if moved.is_err() {
        let _ = cx.door.remove(&staged);
    }
    moved
}

/// Two corruptions within one second: the second is numbered.
fn move_to_free_name(door: &dyn Door, staged: &str, name: &str) -> Result<String, DoorError> {
    let mut free = name.to_owned();
    for number in 2.. {
        match door.move_new(staged, &free) {
            Err(err) if err.kind == Kind::Exists && number < 100 => free = format!("{name}-{number}"),
            moved => return moved.map(|()| free),
        }
    }
    unreachable!("the numbers do not end")
}
