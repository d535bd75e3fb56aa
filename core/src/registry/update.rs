//! The one algorithm by which every program changes a shared document, through whichever door:
//!
//! 1. stand in the queue, where the door has one, for a bounded time;
//! 2. take the lease;
//! 3. read and parse, apply a pure function; where that changes nothing: done;
//! 4. still the holder? Then stage the new text inside the lease, put it in place of the last good copy, then of
//!    the document;
//! 5. read back and compare; 6. release.
//!
//! Whoever finds that the lease was lost, or that another's text stands where its own should, starts over. An
//! update that returns `Ok` is durable and was in the document; one that fails may have had its effect, so the
//! function must be one that can be applied again.

use std::marker::PhantomData;
use std::time::Duration;

use super::clock::Clock;
use super::commit::put;
use super::document::{Corrupt, Document, Files};
use super::door::{Base, Door, DoorError, optional};
use super::fs::{OLD, old_suffix};
use super::lease::{Context, Holder, Lease};
use super::limits::Limits;
use super::owner::Owner;
use super::read::{Absent, Bad, Found, LastGood, Snapshot, Stands, last_good, look_anew};
use super::restore::{Restored, Suspicion, quarantine, set_aside};
use super::sweep::sweep;
use super::waiter::{self, TakeError};
use crate::reason::Reason;

/// Which document, and what may be made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateOptions {
    /// The document's files.
    pub files: Files,
    /// Is a missing document made? Only where the directory is certainly the right one.
    pub create_missing: bool,
}

/// What an update did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The document was as it should be; nothing was written.
    Unchanged,
    /// The document was written.
    Committed {
        /// Told where the last good copy had to be put back first.
        restored: Option<Restored>,
    },
}

/// Why an update failed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E: std::error::Error + 'static> {
    /// The change itself refused.
    #[error(transparent)]
    Change(E),
    /// Another process kept the lease for longer than this one waits.
    #[error("the registry's lease was not had in {} s; {}", .waited.as_secs(), match .holder {
        Some(holder) => format!("it is held by {holder}"),
        None => "others took it again and again".to_owned(),
    })]
    LeaseHeld {
        /// Who, as far as it is known.
        holder: Option<Box<Holder>>,
        /// How long this update waits in all.
        waited: Duration,
    },
    /// The lease was lost, or another's text found in place of this one's, again and again.
    #[error("{0} could not be written: the lease was lost each time before the commit was done")]
    Lost(String),
    /// There is no document, and none may be made.
    #[error("{0}")]
    Missing(Absent),
    /// The document is bad, and has not been so for long enough to put the last good copy back.
    #[error("{file} is corrupt")]
    Corrupt {
        /// The file.
        file: String,
        /// Where and how.
        source: Corrupt,
    },
    /// The document is bad and there is no good copy of it.
    #[error("{file} is corrupt and no good copy of it exists")]
    NoCopy {
        /// The file.
        file: String,
        /// Where and how.
        source: Corrupt,
    },
    /// A call failed.
    #[error(transparent)]
    Door(#[from] DoorError),
}

impl<E: std::error::Error + 'static> UpdateError<E> {
    /// The stable code; `None` for the change's own error, which has its own.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Change(_) => return None,
            Self::LeaseHeld { .. } => Reason::RegistryLeaseHeld,
            Self::Lost(_) => Reason::RegistryWrite,
            Self::Missing(_) => Reason::RegistryMissing,
            Self::Corrupt { .. } => Reason::RegistryCorrupt,
            Self::NoCopy { .. } => Reason::RegistryNoCopy,
            Self::Door(err) => err.reason(),
        })
    }
}

/// Applies `change` to the document, which returns `None` where nothing is to be done. Blocks for at most about
/// `limits.give_up`, and as long again plus `limits.stale` where the document is bad; `change` may be called more
/// than once.
///
/// # Errors
/// [`UpdateError`]; the change may or may not have been written then.
pub fn update<D: Document, E: std::error::Error + 'static>(
    door: &dyn Door,
    clock: &dyn Clock,
    owner: &Owner,
    limits: &Limits,
    options: &UpdateOptions,
    change: impl FnMut(&D) -> Result<Option<D>, E>,
) -> Result<Outcome, UpdateError<E>> {
    let deadline = clock.boottime() + limits.give_up;
    let cx = Context { door, clock, owner, limits, deadline };
    let mut update = Update { cx, options, change, suspicion: None, suspected: false, document: PhantomData };
    let mut backoff = cx.backoff();
    loop {
        let file = || door.shown(&options.files.file);
        match update.attempt() {
            Err(UpdateError::Door(err)) if err.passes() && !update.cx.late() => {
                tracing::debug!(%err, "starting over");
                backoff.wait(clock);
            }
            Err(err) => return Err(err),
            Ok(Attempt::Done(outcome)) => return Ok(outcome),
            Ok(Attempt::Lost) if update.cx.late() => return Err(UpdateError::Lost(file())),
            Ok(Attempt::Lost) => backoff.wait(clock),
            Ok(Attempt::Bad(source, _)) if update.cx.late() => {
                return Err(UpdateError::Corrupt { file: file(), source });
            }
            Ok(Attempt::Bad(_, patience)) => update.wait(patience)?,
        }
    }
}

enum Attempt {
    Done(Outcome),
    /// Start over.
    Lost,
    /// Look again, until the document has been the same bad one for this long.
    Bad(Corrupt, Duration),
}

struct Update<'a, D, F> {
    cx: Context<'a>,
    options: &'a UpdateOptions,
    change: F,
    suspicion: Option<Suspicion>,
    /// Was there ever a suspicion?
    suspected: bool,
    document: PhantomData<D>,
}

impl<D, E, F> Update<'_, D, F>
where
    D: Document,
    E: std::error::Error + 'static,
    F: FnMut(&D) -> Result<Option<D>, E>,
{
    fn attempt(&mut self) -> Result<Attempt, UpdateError<E>> {
        let cx = self.cx;
        let _turn = cx.door.queue(cx.clock, cx.limits, &cx.owner.label);
        let lease = waiter::take(cx).map_err(|err| match err {
            TakeError::Held(holder) => UpdateError::LeaseHeld { holder, waited: cx.limits.give_up },
            TakeError::Door(err) => err.into(),
        })?;
        let attempt = self.under(&lease);
        if let Ok(Attempt::Done(Outcome::Committed { .. })) = attempt {
            sweep(&cx);
        }
        lease.release();
        attempt
    }

    /// Steps 3 to 5, under the lease.
    fn under(&mut self, lease: &Lease<'_>) -> Result<Attempt, UpdateError<E>> {
        let files = &self.options.files;
        let Bad { stands, tag, what } = match self.cx.read(|| look_anew::<D>(self.cx.door, files))? {
            Found::Good(Snapshot { doc, tag, .. }) => {
                self.suspicion = None;
                return self.apply(lease, &doc, &Base::Tag(tag));
            }
            Found::Bad(bad) => bad,
        };
        let missing = stands == Stands::Nothing;
        let base = if missing { Base::Absent } else { Base::Tag(tag) };
        let copy = self.cx.read(|| last_good::<D>(self.cx.door, files))?;
        if stands.is_blank() && matches!(copy, LastGood::None) {
            return if self.options.create_missing {
                self.apply(lease, &D::empty(), &base)
            } else {
                let file = self.cx.door.shown(&files.file);
                Err(UpdateError::Missing(Absent { file, empty: !missing, copy: false }))
            };
        }
        let Limits { stale, torn, give_up, .. } = *self.cx.limits;
        if !std::mem::replace(&mut self.suspected, true) {
            // To look at bad bytes for long enough is no waiting for others: it gets its own time, once.
            self.cx.deadline = self.cx.clock.boottime() + stale + give_up;
        }
        let age = Suspicion::note(&mut self.suspicion, &stands, self.cx.clock.boottime());
        match copy {
            LastGood::Good(doc) if age >= stale || missing && self.died_replacing()? => {
                self.restore(lease, &doc, &stands, base)
            }
            LastGood::Good(_) => Ok(Attempt::Bad(what, stale)),
            _ if age >= torn => {
                Err(UpdateError::NoCopy { file: self.cx.door.shown(&files.file), source: what })
            }
            _ => Ok(Attempt::Bad(what, torn)),
        }
    }

    /// Did a holder die between the two renames that replace a file on CIFS? Under the lease nobody is between them,
    /// so that there is nothing to wait for.
    fn died_replacing(&self) -> Result<bool, DoorError> {
        let suffix = old_suffix(&self.options.files.file);
        let names = self.cx.read(|| optional(self.cx.door.list("")))?.unwrap_or_default();
        Ok(names.iter().any(|name| name.starts_with(OLD) && name.ends_with(&suffix)))
    }

    /// Waits for a document that was bad to become another, or old enough.
    fn wait(&mut self, patience: Duration) -> Result<(), DoorError> {
        if let Some(suspicion) = &self.suspicion
            && !suspicion.lasts(&self.cx, &self.options.files, patience)?
        {
            self.suspicion = None;
        }
        Ok(())
    }

    fn apply(&mut self, lease: &Lease<'_>, doc: &D, base: &Base) -> Result<Attempt, UpdateError<E>> {
        match (self.change)(doc).map_err(UpdateError::Change)? {
            None => Ok(Attempt::Done(Outcome::Unchanged)),
            Some(next) => Ok(self.commit(lease, &next, base, None)?),
        }
    }

    /// Sets the bad bytes aside and commits the last good copy, with the change if that does not refuse.
    fn restore(
        &mut self,
        lease: &Lease<'_>,
        good: &D,
        bad: &Stands,
        mut base: Base,
    ) -> Result<Attempt, UpdateError<E>> {
        let files = &self.options.files;
        let quarantined = match bad {
            Stands::Nothing => None,
            Stands::Bytes(bytes) => Some(quarantine(&self.cx, files, bytes)?),
            Stands::TooBig(_) if !lease.stands()? => return Ok(Attempt::Lost),
            Stands::TooBig(_) => {
                let Some(name) = set_aside(&self.cx, files)? else {
                    return Ok(Attempt::Lost);
                };
                base = Base::Absent;
                Some(name)
            }
        };
        tracing::warn!(file = files.file, ?quarantined, "putting the last good copy back");
        let restored = Some(Restored { quarantined });
        match (self.change)(good) {
            Ok(next) => Ok(self.commit(lease, next.as_ref().unwrap_or(good), &base, restored)?),
            Err(err) => {
                self.commit(lease, good, &base, restored)?;
                Err(UpdateError::Change(err))
            }
        }
    }

    fn commit(
        &self,
        lease: &Lease<'_>,
        doc: &D,
        base: &Base,
        restored: Option<Restored>,
    ) -> Result<Attempt, DoorError> {
        let committed =
            put(&self.cx, lease, &self.options.files, doc.render().as_bytes(), base, restored.is_some())?;
        Ok(if committed { Attempt::Done(Outcome::Committed { restored }) } else { Attempt::Lost })
    }
}
