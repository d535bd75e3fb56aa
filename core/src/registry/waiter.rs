//! Waiting for the lease: preparing one's own, moving it into place where none stands, telling a stale one from
//! one that is held, and giving up.

use std::time::Duration;

use super::document::join;
use super::door::{Door, DoorError, Kind, optional};
use super::lease::{
    Context, Holder, LEASE, Lease, PREPARED, Record, is_nonce, leave, new_nonce, release, take_away, was_left,
};
use crate::time::rfc3339;

/// Why the lease was not had.
#[derive(Debug)]
pub(super) enum TakeError {
    Held(Option<Box<Holder>>),
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
            Ok(None) if cx.late() => {
                break Err(TakeError::Held(waiter.seen.map(|seen| seen.holder().into())));
            }
            Err(err) if cx.late() || !err.passes() => break Err(err.into()),
            // What a look that failed in passing would have shown is not known yet.
            Ok(None) | Err(_) => backoff.wait(cx.clock),
        }
    };
    if let Some(prepared) = waiter.prepared {
        abandon(cx.door, prepared);
    }
    result
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
        Lease::new(cx, nonce, record, taken)
    }
}

/// Removes a prepared lease that is not wanted, wherever an answer that was lost may have put it.
fn abandon(door: &dyn Door, prepared: Prepared) {
    discard(door, &prepared);
    let _ = release(door, &prepared.nonce);
    leave(prepared.nonce);
}

/// Removes a prepared lease that was never asked to be moved.
fn discard(door: &dyn Door, prepared: &Prepared) {
    let dir = prepared.dir();
    for suffix in ["", ".json", ".good"] {
        let _ = door.remove(&format!("{dir}/{}{suffix}", prepared.nonce));
    }
    let _ = door.rmdir(&dir);
}

/// A lease of somebody else, and since when this waiter has seen it.
struct Seen {
    nonce: String,
    since: Duration,
    /// `None` until its file could be read.
    holder: Option<Holder>,
}

impl Seen {
    fn holder(self) -> Holder {
        self.holder.unwrap_or_default()
    }
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
        let Some(files) = optional(self.cx.read(|| self.cx.door.list(LEASE)))? else {
            return self.try_move();
        };
        if let Some(nonce) = files.iter().find(|name| is_nonce(name)) {
            if let Some(prepared) = self.prepared.take_if(|prepared| prepared.nonce == *nonce) {
                return Ok(Some(prepared.into_lease(self.cx)));
            }
            if !self.stale(nonce) {
                return Ok(None);
            }
            let holder = self.seen.as_ref().and_then(|seen| seen.holder.as_ref()).map(Holder::to_string);
            tracing::warn!(holder, "taking a stale lease away");
        }
        // Without a nonce nobody holds it, whatever else lies in it.
        take_away(self.cx.door, &files)?;
        self.try_move()
    }

    /// Is the lease `nonce` left behind? This process itself left it, its process is gone, or it has not changed
    /// for the stale limit on this waiter's own clock: other machines' clocks and the file's times prove nothing.
    /// Its file may be unreadable all the while.
    fn stale(&mut self, nonce: &str) -> bool {
        if was_left(nonce) {
            return true;
        }
        let cx = self.cx;
        let now = cx.clock.boottime();
        let known = self.seen.take().filter(|seen| seen.nonce == nonce);
        let seen = self.seen.insert(known.unwrap_or_else(|| Seen {
            nonce: nonce.to_owned(),
            since: now,
            holder: None,
        }));
        if seen.holder.is_none() {
            match optional(cx.read(|| cx.door.read(&join(LEASE, nonce)))) {
                Ok(None) => return false,
                Ok(Some((bytes, _))) => {
                    let record: Option<Record> = serde_json::from_slice(&bytes).ok();
                    seen.holder = Some(record.map(Holder::from).unwrap_or_default());
                }
                Err(err) => tracing::debug!(%err, "cannot read who holds the lease"),
            }
        }
        let owner = seen.holder.as_ref().and_then(|holder| holder.owner.as_ref());
        let gone = owner.is_some_and(|owner| owner.is_gone(cx.owner));
        gone || cx.clock.boottime().saturating_sub(seen.since) >= cx.limits.stale
    }

    fn try_move(&mut self) -> Result<Option<Lease<'a>>, DoorError> {
        let cx = self.cx;
        // An old one is made anew, so that its `since` is about when it was taken.
        if let Some(old) =
            self.prepared.take_if(|prepared| cx.clock.boottime() >= prepared.at + cx.limits.hold)
        {
            abandon(cx.door, old);
        }
        let mut prepared = match self.prepared.take() {
            Some(prepared) => prepared,
            None => self.prepare()?,
        };
        prepared.asked = cx.clock.boottime();
        let moved = cx.door.move_new(&prepared.dir(), LEASE);
        let Err(err) = moved else {
            return Ok(Some(prepared.into_lease(cx)));
        };
        // Whatever the answer is but "done": only a look tells whether it is this process's.
        let kind = err.kind;
        let mine = cx.door.list(LEASE).is_ok_and(|files| files.contains(&prepared.nonce));
        if mine {
            return Ok(Some(prepared.into_lease(cx)));
        }
        match kind {
            // Swept away, or taken and lost again unseen: the next try makes a new one.
            Kind::NotFound => abandon(cx.door, prepared),
            _ => self.prepared = Some(prepared),
        }
        match kind {
            Kind::Exists | Kind::NotEmpty | Kind::NotFound | Kind::Ambiguous => Ok(None),
            _ => Err(err),
        }
    }

    fn prepare(&self) -> Result<Prepared, DoorError> {
        let cx = self.cx;
        let record = Record { owner: cx.owner.clone(), since: rfc3339(cx.clock.now()) };
        let now = cx.clock.boottime();
        let prepared = Prepared {
            nonce: new_nonce(),
            record: serde_json::to_vec(&record).unwrap_or_default(),
            at: now,
            asked: now,
        };
        let fill = || {
            let dir = prepared.dir();
            cx.door.mkdir(&dir)?;
            for suffix in [".json", ".good"] {
                cx.door.write_new(&format!("{dir}/{}{suffix}", prepared.nonce), b"")?;
            }
            cx.door.write_new(&join(&dir, &prepared.nonce), &prepared.record)
        };
        if let Err(mut err) = fill() {
            discard(cx.door, &prepared);
            // Nobody else has the nonce: what exists was made by a call that was sent twice.
            if err.kind == Kind::Exists {
                err.kind = Kind::Ambiguous;
            }
            return Err(err);
        }
        Ok(prepared)
    }
}
