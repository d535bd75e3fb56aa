//! The lease: the one thing that excludes, from every door.
//!
//! It is a directory, `.registry.lease`, in which a file named by the holder's nonce says who holds it. It is
//! prepared whole under a name of its own and then moved into place, which fails where one stands.
//!
//! The prepared directory already holds the two files that a commit is staged in, `NONCE.good` and `NONCE.json`,
//! empty; a holder opens them without creating them and moves them out. So whoever takes a stale lease away, by
//! first moving these files off and then the nonce's, has fenced its holder for good: should that one wake up
//! in the middle of its commit, the files it needs are gone, it can neither leave a file in its successor's
//! lease nor replace the registry or its last good copy, and learns so by "not found".

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::{Backoff, Clock};
use super::door::{Door, DoorError, Kind, optional};
use super::limits::Limits;
use super::owner::Owner;

/// The standing lease.
pub(super) const LEASE: &str = ".registry.lease";
/// How the names of leases in preparation begin; the nonce follows.
pub(super) const PREPARED: &str = ".registry.lease.";
/// How the names of files begin that were moved out of a lease.
pub(super) const GONE: &str = ".registry.gone.";

/// The last leases that this process was done with and may have left standing, as when the share gave no answer:
/// it need not wait for itself until they are stale.
static LEFT: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
const MOST_LEFT: usize = 64;

/// What the algorithm works with; the same for the whole of one update.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) door: &'a dyn Door,
    pub(super) clock: &'a dyn Clock,
    pub(super) owner: &'a Owner,
    pub(super) limits: &'a Limits,
    /// When the update gives up, on the clock's boottime.
    pub(super) deadline: Duration,
}

impl Context<'_> {
    pub(super) fn late(&self) -> bool {
        self.clock.boottime() >= self.deadline
    }

    /// Reads once more, and again, where that fails in passing: so does CIFS, with EINVAL, right after a rename
    /// onto a file that is open.
    pub(super) fn read<T>(&self, read: impl Fn() -> Result<T, DoorError>) -> Result<T, DoorError> {
        let mut backoff = self.backoff();
        for _ in 0..2 {
            match read() {
                Err(err) if matches!(err.kind, Kind::Ambiguous | Kind::Other) => backoff.wait(self.clock),
                done => return done,
            }
        }
        read()
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.limits.retry_min, self.limits.retry_max)
    }
}

/// The content of the nonce's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) owner: Owner,
    pub(super) since: String,
}

/// Who holds the lease, as far as its file tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// The process; `None` where the file cannot be read.
    pub owner: Option<Owner>,
    /// RFC 3339: when it made its lease ready, at most a few seconds before it took it; may be empty.
    pub since: String,
}

impl From<Record> for Holder {
    fn from(Record { owner, since }: Record) -> Self {
        Self { owner: Some(owner), since }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner} since {}", self.since),
            None => f.write_str("an unknown process"),
        }
    }
}

/// A lease that this process holds, unless it was taken away in the meantime.
pub(super) struct Lease<'a> {
    cx: Context<'a>,
    nonce: String,
    record: Vec<u8>,
    /// Before the request that took it was sent, on the clock's boottime.
    taken: Duration,
}

impl<'a> Lease<'a> {
    pub(super) fn new(cx: Context<'a>, nonce: String, record: Vec<u8>, taken: Duration) -> Self {
        Self { cx, nonce, record, taken }
    }

    /// The file in which the last good copy is staged.
    pub(super) fn good(&self) -> String {
        format!("{LEASE}/{}.good", self.nonce)
    }

    /// The file in which the document is staged.
    pub(super) fn json(&self) -> String {
        format!("{LEASE}/{}.json", self.nonce)
    }

    /// May it still commit, by the clock?
    pub(super) fn in_time(&self) -> bool {
        self.cx.clock.boottime().saturating_sub(self.taken) < self.cx.limits.hold
    }

    /// Is it still this process's? Opens the file anew: what is cached proves nothing.
    pub(super) fn stands(&self) -> Result<bool, DoorError> {
        let path = format!("{LEASE}/{}", self.nonce);
        let found = optional(self.cx.read(|| self.cx.door.read(&path)))?;
        Ok(self.in_time() && found.is_some_and(|(bytes, _)| bytes == self.record))
    }

    /// Gives it back. What fails here is tried again, then left to this process's next update, which knows it,
    /// and to the waiters elsewhere, who find it stale.
    pub(super) fn release(self) {
        let mut backoff = self.cx.backoff();
        for tries in 1.. {
            match release(self.cx.door, &self.nonce) {
                Ok(()) => return,
                Err(err) if tries == 3 => {
                    leave(self.nonce);
                    return tracing::warn!(%err, "cannot release the registry's lease");
                }
                Err(_) => backoff.wait(self.cx.clock),
            }
        }
    }
}

/// Notes that nothing will be done under `nonce` any more, wherever its lease stands.
pub(super) fn leave(nonce: String) {
    let mut left = left();
    left.truncate(MOST_LEFT - 1);
    left.push_front(nonce);
}

/// Is `nonce` the lease of an update of this process that has ended?
pub(super) fn was_left(nonce: &str) -> bool {
    left().iter().any(|one| one == nonce)
}

fn left() -> MutexGuard<'static, VecDeque<String>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moves the files of `nonce` out of the standing lease, the nonce's last, and removes it if that empties it; or
/// all in one, where the door would have it so.
pub(super) fn release(door: &dyn Door, nonce: &str) -> Result<(), DoorError> {
    if let Some(removed) = door.remove_whole(LEASE, nonce) {
        return optional(removed).map(drop);
    }
    for suffix in [".json", ".good"] {
        optional(door.remove(&format!("{LEASE}/{nonce}{suffix}")))?;
    }
    let gone = format!("{GONE}{nonce}");
    if optional(door.move_new(&format!("{LEASE}/{nonce}"), &gone))?.is_some() {
        remove_if_empty(door)?;
    }
    optional(door.remove(&gone))?;
    Ok(())
}

/// Takes a lease away by the names of its files, those of the holder's staging first. Whatever has moved on
/// in the meantime is not found, and so not touched.
pub(super) fn take_away(door: &dyn Door, files: &[String]) -> Result<(), DoorError> {
    let (nonces, others): (Vec<&String>, Vec<&String>) = files.iter().partition(|name| is_nonce(name));
    let mut gone = Vec::new();
    for name in others.into_iter().chain(nonces) {
        let target = format!("{GONE}{}.{name}", new_nonce());
        if optional(door.move_new(&format!("{LEASE}/{name}"), &target))?.is_some() {
            gone.push(target);
        }
    }
    remove_if_empty(door)?;
    for path in gone {
        // A directory, say. The lease is rid of it, and the sweep will be.
        if let Err(err) = optional(door.remove(&path)) {
            tracing::debug!(%err, "cannot remove what lay in a lease");
        }
    }
    Ok(())
}

fn remove_if_empty(door: &dyn Door) -> Result<(), DoorError> {
    match door.rmdir(LEASE) {
        Err(err) if !matches!(err.kind, Kind::NotFound | Kind::NotEmpty | Kind::Exists) => Err(err),
        _ => Ok(()),
    }
}

/// 32 hexadecimal digits that nobody else has.
pub(super) fn new_nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

pub(super) fn is_nonce(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests;
