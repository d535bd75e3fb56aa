//! The registry of the local mode: read, and changed by the one algorithm that every program follows.

use std::sync::Arc;

use forest_core::reason::Reason;
use forest_core::registry::{
    Document as _, DoorError, Files, FsDoor, Limits, Outcome, Owner, Queue, ReadError, Registry, SystemClock,
    UpdateError, UpdateOptions, read, update,
};

use super::layout::Layout;
use crate::failure::{Failure, chain};
use crate::files;

/// The registry's directory, open.
pub struct Store {
    door: FsDoor,
    shown: String,
}

impl Store {
    /// Opens the registry of `layout`, whose directory is made if need be.
    ///
    /// # Errors
    /// [`Failure`] where the directory cannot be made or opened.
    pub fn open(layout: &Layout) -> Result<Self, Failure> {
        files::make_dir(layout.root())?;
        let door = FsDoor::open(layout.root(), Some(Arc::new(Queue::new(layout.queue()))))
            .map_err(|err| failed(&err))?;
        Ok(Self { door, shown: layout.registry().display().to_string() })
    }

    /// The registry as it stands; a missing one is empty.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be read.
    pub fn read(&self) -> Result<Registry, Failure> {
        match read(&self.door, &SystemClock, &Limits::default(), &Files::default()) {
            Ok(snapshot) => Ok(snapshot.doc),
            Err(ReadError::Missing(_)) => Ok(Registry::empty()),
            Err(err) => Err(Failure::new(err.reason(), self.sentence(&err))),
        }
    }

    /// Changes the registry. Waits for others, two minutes at most.
    ///
    /// # Errors
    /// The change's own, or a [`Failure`] that says who or what is in the way.
    pub fn update(
        &self,
        change: impl FnMut(&Registry) -> Result<Option<Registry>, Failure>,
    ) -> Result<(), Failure> {
        let options = UpdateOptions { create_missing: true, ..UpdateOptions::default() };
        let owner = Owner::current("morpheus");
        match update(&self.door, &SystemClock, &owner, &Limits::default(), &options, change) {
            Ok(Outcome::Unchanged | Outcome::Committed { .. }) => Ok(()),
            Err(UpdateError::Change(failure)) => Err(failure),
            Err(err) => Err(Failure::new(err.reason().unwrap_or(Reason::RegistryWrite), self.sentence(&err))),
        }
    }

    fn sentence(&self, err: &dyn std::error::Error) -> String {
        format!("{}: {}", self.shown, chain(err))
    }
}

fn failed(err: &DoorError) -> Failure {
    Failure::new(err.reason(), chain(err))
}
