//! A door that fails in a chosen way: once, at a chosen call, or again and again for a while.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use forest_core::registry::{Door, DoorError, FsDoor, Kind, Op, Publish, Tag};
use jiff::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error, without effect.
    Refused,
    /// An answer that is lost before the effect.
    LostBefore,
    /// An answer that is lost after the effect.
    LostAfter,
    /// The process dies before the effect: this call and all after it fail.
    DeadBefore,
    /// The process dies after the effect.
    DeadAfter,
    /// The process dies between the two renames by which a file is replaced on CIFS; calls that publish nothing are
    /// left alone.
    DeadBetween,
    /// A read returns half of what is there; other calls are left alone.
    Torn,
    /// So many calls in a row are lost before their effect, from the chosen one on; those that publish never.
    Outage(usize),
    /// So many publications in a row are refused, and what they were to replace is gone: a CIFS client does so where
    /// a program of the same machine has it open.
    Occupied(usize),
    /// Of every so many calls, as many are answered as are lost; those that publish are always answered.
    Spells,
}

impl Fault {
    pub(crate) const ALL: [Fault; 7] = [
        Fault::Refused,
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::DeadBefore,
        Fault::DeadAfter,
        Fault::DeadBetween,
        Fault::Torn,
    ];
}

/// A door with a fault.
pub(crate) trait Faulty {
    fn door(&self) -> &dyn Door;
    /// The chosen call.
    fn op(&self) -> Option<Op>;
    /// Was the chosen call made?
    fn struck(&self) -> bool;
}

pub(crate) struct FaultyDoor<'a> {
    inner: Box<dyn Door + 'a>,
    at: usize,
    fault: Fault,
    calls: AtomicUsize,
    refusals: AtomicUsize,
    dead: AtomicBool,
    op: OnceLock<Op>,
    /// Called after each call, whatever came of it.
    watch: &'a (dyn Fn() + Sync),
}

impl<'a> FaultyDoor<'a> {
    pub(crate) fn new(
        inner: Box<dyn Door + 'a>,
        at: usize,
        fault: Fault,
        watch: &'a (dyn Fn() + Sync),
    ) -> Self {
        let (calls, dead, op) = (AtomicUsize::new(0), AtomicBool::new(false), OnceLock::new());
        Self { inner, at, fault, calls, refusals: AtomicUsize::new(0), dead, op, watch }
    }

    fn call<T>(
        &self,
        op: Op,
        path: &str,
        run: impl FnOnce() -> Result<T, DoorError>,
    ) -> Result<T, DoorError> {
        let err = |kind| {
            let source = io::Error::other("injected").into();
            Err(DoorError { op, path: path.to_owned(), kind, source })
        };
        if self.dead.load(Ordering::SeqCst) {
            return err(Kind::Other);
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let strikes = match self.fault {
            Fault::Spells => (call / self.at).is_multiple_of(2) && !publishes(op),
            Fault::Outage(calls) => (self.at..self.at + calls).contains(&call) && !publishes(op),
            _ => call == self.at,
        };
        if strikes {
            let _ = self.op.set(op);
        }
        let dies = match self.fault {
            Fault::DeadBefore | Fault::DeadAfter => strikes,
            Fault::DeadBetween => strikes && op == Op::Publish,
            _ => false,
        };
        self.dead.store(dies, Ordering::SeqCst);
        let result = match self.fault {
            Fault::Refused | Fault::DeadBefore if strikes => err(Kind::Other),
            Fault::LostBefore | Fault::Outage(_) | Fault::Spells if strikes => err(Kind::Ambiguous),
            Fault::LostAfter if strikes => run().and_then(|_| err(Kind::Ambiguous)),
            Fault::DeadAfter | Fault::DeadBetween if dies => run().and_then(|_| err(Kind::Other)),
            _ => run(),
        };
        (self.watch)();
        result
    }
}

impl Faulty for FaultyDoor<'_> {
    fn door(&self) -> &dyn Door {
        self
    }

    fn op(&self) -> Option<Op> {
        self.op.get().copied()
    }

    fn struck(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.at
    }
}

pub(crate) fn publishes(op: Op) -> bool {
    matches!(op, Op::Publish | Op::Sync)
}

impl Door for FaultyDoor<'_> {
    fn shown(&self, path: &str) -> String {
        self.inner.shown(path)
    }

    fn read(&self, path: &str) -> Result<(Vec<u8>, Tag), DoorError> {
        let torn = self.fault == Fault::Torn && self.calls.load(Ordering::SeqCst) == self.at;
        let (mut bytes, tag) = self.call(Op::Read, path, || self.inner.read(path))?;
        if torn {
            bytes.truncate(bytes.len() / 2);
        }
        Ok((bytes, tag))
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> Result<(), DoorError> {
        self.call(Op::WriteNew, path, || self.inner.write_new(path, bytes))
    }

    fn mkdir(&self, path: &str) -> Result<(), DoorError> {
        self.call(Op::Mkdir, path, || self.inner.mkdir(path))
    }

    fn move_new(&self, from: &str, to: &str) -> Result<(), DoorError> {
        self.call(Op::MoveNew, from, || self.inner.move_new(from, to))
    }

    fn rmdir(&self, path: &str) -> Result<(), DoorError> {
        self.call(Op::Rmdir, path, || self.inner.rmdir(path))
    }

    fn remove_whole(&self, dir: &str, name: &str) -> Option<Result<(), DoorError>> {
        if self.dead.load(Ordering::SeqCst) {
            return None;
        }
        // No call of its own: in a door that has it, it is made of several, which the door's own suite strikes.
        let removed = self.inner.remove_whole(dir, name);
        (self.watch)();
        removed
    }

    fn remove(&self, path: &str) -> Result<(), DoorError> {
        self.call(Op::Remove, path, || self.inner.remove(path))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, DoorError> {
        self.call(Op::List, path, || self.inner.list(path))
    }

    fn modified(&self, path: &str) -> Result<Timestamp, DoorError> {
        self.call(Op::Modified, path, || self.inner.modified(path))
    }

    fn stage(&self, path: &str, bytes: &[u8]) -> Result<(), DoorError> {
        self.call(Op::Stage, path, || self.inner.stage(path, bytes))
    }

    fn publish(&self, publish: &Publish<'_>) -> Result<(), DoorError> {
        if let Fault::Occupied(times) = self.fault
            && self.refusals.fetch_add(1, Ordering::SeqCst) < times
        {
            let _ = self.inner.remove(publish.target);
            let (path, source) = (publish.target.to_owned(), io::Error::other("injected").into());
            return Err(DoorError { op: Op::Publish, path, kind: Kind::Denied, source });
        }
        self.call(Op::Publish, publish.target, || {
            if self.fault == Fault::DeadBetween && self.dead.load(Ordering::SeqCst) {
                let aside = FsDoor::aside(publish.staged, publish.target);
                return self.inner.move_new(publish.target, &aside);
            }
            self.inner.publish(publish)
        })
    }

    fn sync(&self, path: &str) -> Result<(), DoorError> {
        self.call(Op::Sync, path, || self.inner.sync(path))
    }
}
