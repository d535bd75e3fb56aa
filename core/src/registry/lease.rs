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

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::{Backoff, Clock};
use super::document::join;
use super::door::{Door, DoorError, Kind, optional};
use super::limits::Limits;
use super::owner::Owner;
use crate::time::rfc3339;

/// The standing lease.
pub(super) const LEASE: &str = ".registry.lease";
/// How the names of leases in preparation begin; the nonce follows.
pub(super) const PREPARED: &str = ".registry.lease.";
/// How the names of files begin that were moved out of a lease.
pub(super) const GONE: &str = ".registry.gone.";

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

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.limits.retry_min, self.limits.retry_max)
    }
}

/// The content of the nonce's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    #[serde(flatten)]
    owner: Owner,
    since: String,
}

/// Who holds the lease, as far as its file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process; `None` where the file cannot be read.
    pub owner: Option<Owner>,
    /// RFC 3339: when it made its lease ready, at most a few seconds before it took it; may be empty.
    pub since: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner} since {}", self.since),
            None => f.write_str("an unknown process"),
        }
    }
}

/// Why the lease was not had.
#[derive(Debug)]
pub(super) enum TakeError {
    Held(Option<Holder>),
    Door(DoorError),
}

impl From<DoorError> for TakeError {
    fn from(err: DoorError) -> Self {
        Self::Door(err)
    }
}

/// Waits for the lease and takes it; a stale one is taken away first.
pub(super) fn take(cx: Context<'_>) -> Result<Lease<'_>, TakeError> {
    let mut waiter = Waiter { cx, prepared: None, seen: None };
    let mut backoff = cx.backoff();
    let result = loop {
        match waiter.look() {
            Ok(Some(lease)) => return Ok(lease),
            Ok(None) if cx.late() => break Err(TakeError::Held(waiter.seen.map(|seen| seen.holder))),
            Ok(None) => backoff.wait(cx.clock),
            Err(err) => break Err(err.into()),
        }
    };
    if let Some(prepared) = waiter.prepared {
        abandon(cx.door, &prepared);
    }
    result
}

/// A lease that this process holds, unless it was taken away in the meantime.
pub(super) struct Lease<'a> {
    cx: Context<'a>,
    nonce: String,
    record: Vec<u8>,
    /// Before the request that took it was sent, on the clock's boottime.
    taken: Duration,
}

impl Lease<'_> {
    /// The file in which the last good copy is staged.
    pub(super) fn good(&self) -> String {
        format!("{LEASE}/{}.good", self.nonce)
    }

    /// The file in which the document is staged.
    pub(super) fn json(&self) -> String {
        format!("{LEASE}/{}.json", self.nonce)
    }

    /// How long it has been held.
    pub(super) fn held(&self) -> Duration {
        self.cx.clock.boottime().saturating_sub(self.taken)
    }

    /// May it still commit, by the clock?
    pub(super) fn in_time(&self) -> bool {
        self.held() < self.cx.limits.hold
    }

    /// Is it still this process's? Opens the file anew: what is cached proves nothing.
    pub(super) fn stands(&self) -> Result<bool, DoorError> {
        let found = optional(self.cx.door.read(&format!("{LEASE}/{}", self.nonce)))?;
        Ok(self.in_time() && found.is_some_and(|(bytes, _)| bytes == self.record))
    }

    /// Gives it back. What fails here is tried again, then left to the waiters, who find it stale.
    pub(super) fn release(self) {
        let mut backoff = self.cx.backoff();
        for tries in 1.. {
            match release(self.cx.door, &self.nonce) {
                Ok(()) => return,
                Err(err) if tries == 3 => return tracing::warn!(%err, "cannot release the registry's lease"),
                Err(_) => backoff.wait(self.cx.clock),
            }
        }
    }
}

/// Moves the files of `nonce` out of the standing lease, the nonce's last, and removes it if that empties it.
fn release(door: &dyn Door, nonce: &str) -> Result<(), DoorError> {
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
fn take_away(door: &dyn Door, files: &[String]) -> Result<(), DoorError> {
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
        optional(door.remove(&path))?;
    }
    Ok(())
}

fn remove_if_empty(door: &dyn Door) -> Result<(), DoorError> {
    match door.rmdir(LEASE) {
        Err(err) if !matches!(err.kind, Kind::NotFound | Kind::NotEmpty | Kind::Exists) => Err(err),
        _ => Ok(()),
    }
}

/// A lease that is ready to be moved into place.
struct Prepared {
    nonce: String,
    record: Vec<u8>,
    /// When it was made ready.
    at: Duration,
    /// When it was last asked to be moved into place.
    asked: Duration,
}

impl Prepared {
    fn dir(&self) -> String {
        format!("{PREPARED}{}", self.nonce)
    }

    fn into_lease(self, cx: Context<'_>) -> Lease<'_> {
        let Self { nonce, record, asked: taken, .. } = self;
        Lease { cx, nonce, record, taken }
    }
}

/// Removes a prepared lease that is not wanted, wherever an answer that was lost may have put it.
fn abandon(door: &dyn Door, prepared: &Prepared) {
    let dir = prepared.dir();
    let files = ["", ".json", ".good"].map(|suffix| format!("{}{suffix}", prepared.nonce));
    for name in &files {
        let _ = door.remove(&join(&dir, name));
    }
    let _ = door.rmdir(&dir);
    let _ = release(door, &prepared.nonce);
}

/// A lease of somebody else, and since when this waiter has seen it.
struct Seen {
    nonce: String,
    since: Duration,
    holder: Holder,
}

/// One waiter. It keeps its prepared lease from look to look, so that a move whose answer was lost is found
/// whenever it takes effect.
struct Waiter<'a> {
    cx: Context<'a>,
    prepared: Option<Prepared>,
    seen: Option<Seen>,
}

impl<'a> Waiter<'a> {
    /// One look at the lease, and one try to take it if it is free.
    fn look(&mut self) -> Result<Option<Lease<'a>>, DoorError> {
        let Some(files) = optional(self.cx.door.list(LEASE))? else {
            return self.try_move();
        };
        if let Some(nonce) = files.iter().find(|name| is_nonce(name)) {
            if let Some(prepared) = self.prepared.take_if(|prepared| prepared.nonce == *nonce) {
                return Ok(Some(prepared.into_lease(self.cx)));
            }
            if !self.stale(nonce)? {
                return Ok(None);
            }
            tracing::warn!(holder = ?self.seen.as_ref().map(|seen| seen.holder.to_string()), "taking a stale lease away");
        }
        // Without a nonce nobody holds it, whatever else lies in it.
        take_away(self.cx.door, &files)?;
        self.try_move()
    }

    /// Is the lease `nonce` left behind? Its process is gone, or it has not changed for the stale limit on this
    /// waiter's own clock: other machines' clocks and the file's times prove nothing.
    fn stale(&mut self, nonce: &str) -> Result<bool, DoorError> {
        let Context { door, clock, owner, limits, .. } = self.cx;
        if self.seen.as_ref().is_none_or(|seen| seen.nonce != nonce) {
            let Some((bytes, _)) = optional(door.read(&join(LEASE, nonce)))? else {
                return Ok(false);
            };
            let record: Option<Record> = serde_json::from_slice(&bytes).ok();
            let holder = Holder {
                since: record.as_ref().map(|record| record.since.clone()).unwrap_or_default(),
                owner: record.map(|record| record.owner),
            };
            self.seen = Some(Seen { nonce: nonce.to_owned(), since: clock.boottime(), holder });
        }
        Ok(self.seen.as_ref().is_some_and(|seen| {
            let gone = seen.holder.owner.as_ref().is_some_and(|holder| holder.is_gone(owner));
            gone || clock.boottime().saturating_sub(seen.since) >= limits.stale
        }))
    }

    fn try_move(&mut self) -> Result<Option<Lease<'a>>, DoorError> {
        let Context { door, clock, limits, .. } = self.cx;
        // An old one is made anew, so that its `since` is about when it was taken.
        if let Some(old) = self.prepared.take_if(|prepared| clock.boottime() >= prepared.at + limits.hold) {
            abandon(door, &old);
        }
        let mut prepared = match self.prepared.take() {
            Some(prepared) => prepared,
            None => self.prepare()?,
        };
        prepared.asked = clock.boottime();
        let moved = door.move_new(&prepared.dir(), LEASE);
        let Err(err) = moved else {
            return Ok(Some(prepared.into_lease(self.cx)));
        };
        // Whatever the answer is but "done": only a look tells whether it is this process's.
        let kind = err.kind;
        let mine = door.list(LEASE).is_ok_and(|files| files.contains(&prepared.nonce));
        if mine {
            return Ok(Some(prepared.into_lease(self.cx)));
        }
        match kind {
            // Swept away, or taken and lost again unseen: the next try makes a new one.
            Kind::NotFound => abandon(door, &prepared),
            _ => self.prepared = Some(prepared),
        }
        match kind {
            Kind::Exists | Kind::NotEmpty | Kind::NotFound | Kind::Ambiguous => Ok(None),
            _ => Err(err),
        }
    }

    fn prepare(&self) -> Result<Prepared, DoorError> {
        let Context { door, clock, owner, .. } = self.cx;
        let record = Record { owner: owner.clone(), since: rfc3339(clock.now()) };
        let now = clock.boottime();
        let prepared = Prepared {
            nonce: new_nonce(),
            record: serde_json::to_vec(&record).unwrap_or_default(),
            at: now,
            asked: now,
        };
        let fill = || {
            let dir = prepared.dir();
            door.mkdir(&dir)?;
            for suffix in [".json", ".good"] {
                door.write_new(&format!("{dir}/{}{suffix}", prepared.nonce), b"")?;
            }
            door.write_new(&join(&dir, &prepared.nonce), &prepared.record)
        };
        if let Err(err) = fill() {
            abandon(door, &prepared);
            return Err(err);
        }
        Ok(prepared)
    }
}

/// 32 hexadecimal digits that nobody else has.
pub(super) fn new_nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn is_nonce(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests;
