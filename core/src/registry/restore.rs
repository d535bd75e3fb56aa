//! A document that has gone bad: how long that is only suspected, and how its bytes are set aside before the
//! last good copy takes their place. A bad document is never replaced by a fresh one.

use std::time::Duration;

use super::document::Files;
use super::door::{Door, DoorError, Kind};
use super::lease::{Context, new_nonce};
use super::read::{Stands, corrupt_copies, stands};
use crate::time::compact;

/// How the names of copies begin while they are written.
pub(super) const NEW: &str = ".registry.new.";

/// What an update put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The name of the copy that keeps the corrupt bytes; `None` where the file was missing.
    pub quarantined: Option<String>,
}

/// What stands in a document's place and is none, and since when it has been the same.
#[derive(Debug)]
pub(super) struct Suspicion {
    stands: Stands,
    since: Duration,
}

impl Suspicion {
    /// Notes what was seen in place of a document: the same as before, or something that starts anew.
    pub(super) fn note(suspicion: &mut Option<Self>, found: &Stands, now: Duration) -> Duration {
        match suspicion {
            Some(known) if known.stands == *found => now.saturating_sub(known.since),
            _ => {
                *suspicion = Some(Self { stands: found.clone(), since: now });
                Duration::ZERO
            }
        }
    }

    /// Waits, without the lease, until something else stands there, or the same has stood there for `patience`.
    /// Tells whether the suspicion still holds.
    pub(super) fn lasts(
        &self,
        cx: &Context<'_>,
        files: &Files,
        patience: Duration,
    ) -> Result<bool, DoorError> {
        let mut backoff = cx.backoff();
        while !cx.late() && cx.clock.boottime() < self.since + patience {
            backoff.wait(cx.clock);
            match stands(cx.door, &files.file) {
                Ok((found, _)) if found != self.stands => return Ok(false),
                Err(err) if !err.passes() && err.kind != Kind::Other => return Err(err),
                // The same, or not known.
                _ => {}
            }
        }
        Ok(true)
    }
}

/// Keeps `bytes` in a file named by the time, and returns its name; a copy that exists already is enough.
pub(super) fn quarantine(cx: &Context<'_>, files: &Files, bytes: &[u8]) -> Result<String, DoorError> {
    for name in corrupt_copies(cx.door, files)? {
        if matches!(stands(cx.door, &name)?.0, Stands::Bytes(copy) if copy == bytes) {
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

/// Moves a file away that is too big to be copied, and returns its new name. Where another has put a document
/// there in the meantime, that is put back; `None`.
pub(super) fn set_aside(cx: &Context<'_>, files: &Files) -> Result<Option<String>, DoorError> {
    let name = format!("{}{}", files.corrupt_prefix(), compact(cx.clock.now()));
    let name = move_to_free_name(cx.door, &files.file, &name)?;
    if matches!(stands(cx.door, &name)?.0, Stands::TooBig(_)) {
        return Ok(Some(name));
    }
    cx.door.move_new(&name, &files.file)?;
    Ok(None)
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
