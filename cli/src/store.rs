//! The registry as the commands use it: read, and changed by the one algorithm that every program follows, through
//! whichever door it lies behind.

use std::path::Path;
use std::sync::Arc;

use forest_core::id::ForestId;
use forest_core::reason::Reason;
use forest_core::registry::{
    Document, Door, DoorError, Files, FsDoor, Kind, Limits, Outcome, Owner, Queue, ReadError, Registry,
    SystemClock, UpdateError, UpdateOptions, read, update,
};

use forest_core::secrets::{self, Secrets};

use crate::config::RegistryAt;
use crate::failure::{Failure, chain};
use crate::files;
use crate::local::layout::Layout;
use crate::webdav::{Client, WebDav};

/// The registry's directory.
pub struct Store {
    door: Box<dyn Door>,
    files: Files,
}

impl Store {
    /// The registry of the local forests, whose directory is made if need be.
    ///
    /// # Errors
    /// [`Failure`] where the directory cannot be made or opened.
    pub fn local(layout: &Layout) -> Result<Self, Failure> {
        files::make_dir(layout.root())?;
        Self::directory(&layout.registry(), Some(Arc::new(Queue::new(layout.queue()))))
    }

    /// The registry that is configured. A server is not asked anything yet.
    ///
    /// # Errors
    /// [`Failure`] where there is no such directory, or no HTTP to be had.
    pub fn configured(at: RegistryAt) -> Result<Self, Failure> {
        match at {
            RegistryAt::Directory(path) => Self::directory(&path, None),
            RegistryAt::Storagebox(place, login) => {
                let client = Client::new(&place, login)?;
                let files = Files::of(place.file());
                Ok(Self { door: Box::new(WebDav::new(place, Box::new(client))), files })
            }
        }
    }

    fn directory(file: &Path, queue: Option<Arc<Queue>>) -> Result<Self, Failure> {
        let dir = file.parent().unwrap_or(Path::new("/"));
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let door = FsDoor::open(dir, queue).map_err(|err| failed(&err))?;
        Ok(Self { door: Box::new(door), files: Files::of(&name) })
    }

    /// The registry as it stands; a missing one is empty, unless a last good copy of it is there; a missing directory is not.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be read.
    pub fn read(&self) -> Result<Registry, Failure> {
        match read(&*self.door, &SystemClock, &Limits::default(), &self.files) {
            Ok(snapshot) => Ok(snapshot.doc),
            Err(ReadError::Missing(absent)) if !absent.copy => {
                self.door.list("").map(|_| Registry::empty()).map_err(|err| failed(&err))
            }
            Err(ReadError::Unreadable(err)) => Err(failed(&err)),
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
        self.change(&UpdateOptions { create_missing: true, files: self.files.clone() }, change)
    }

    /// The secrets of `forest`.
    ///
    /// # Errors
    /// [`Failure`] where they cannot be read, or there are none.
    pub fn secrets(&self, forest: &ForestId) -> Result<Secrets, Failure> {
        let files = secrets::files(forest);
        match read::<Secrets>(&*self.door, &SystemClock, &Limits::default(), &files) {
            Ok(snapshot) => Ok(snapshot.doc),
            Err(ReadError::Unreadable(err)) => Err(failed(&err)),
            Err(err) => {
                let reason = match &err {
                    ReadError::Missing(_) => Reason::SecretsMissing,
                    _ => err.reason(),
                };
                Err(Failure::new(reason, format!("{}: {}", self.door.shown(&files.file), chain(&err))))
            }
        }
    }

    /// Changes the secrets of `forest`, which have to be there.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn update_secrets(
        &self,
        forest: &ForestId,
        change: impl FnMut(&Secrets) -> Result<Option<Secrets>, Failure>,
    ) -> Result<(), Failure> {
        self.change(&UpdateOptions { create_missing: false, files: secrets::files(forest) }, change)
    }

    fn change<D: Document>(
        &self,
        options: &UpdateOptions,
        change: impl FnMut(&D) -> Result<Option<D>, Failure>,
    ) -> Result<(), Failure> {
        let owner = Owner::current("morpheus");
        match update(&*self.door, &SystemClock, &owner, &Limits::default(), options, change) {
            Ok(Outcome::Unchanged | Outcome::Committed { .. }) => Ok(()),
            Err(UpdateError::Change(failure)) => Err(failure),
            Err(UpdateError::Door(err)) => Err(failed(&err)),
            Err(err) => {
                let sentence = format!("{}: {}", self.door.shown(&options.files.file), chain(&err));
                Err(Failure::new(err.reason().unwrap_or(Reason::RegistryWrite), sentence))
            }
        }
    }

    /// Deletes the secrets of `forest`, every copy of them; that there are none is no failure.
    ///
    /// # Errors
    /// [`Failure`] naming what cannot be deleted.
    pub fn forget_secrets(&self, forest: &ForestId) -> Result<(), Failure> {
        let files = secrets::files(forest);
        let copies = format!("{}.corrupt-", files.file);
        let names = match self.door.list(secrets::DIR) {
            Ok(names) => names,
            Err(err) if err.kind == Kind::NotFound => return Ok(()),
            Err(err) => return Err(failed(&err)),
        };
        let paths = names.into_iter().map(|name| format!("{}/{name}", secrets::DIR));
        let of_it =
            |path: &String| *path == files.file || *path == files.last_good || path.starts_with(&copies);
        for path in paths.filter(of_it) {
            match self.door.remove(&path) {
                Err(err) if err.kind != Kind::NotFound => return Err(failed(&err)),
                _ => {}
            }
        }
        // Only an empty one goes.
        let _ = self.door.rmdir(secrets::DIR);
        Ok(())
    }

    fn sentence(&self, err: &dyn std::error::Error) -> String {
        format!("{}: {}", self.door.shown(&self.files.file), chain(err))
    }
}

/// The error of a door names its path or URL itself.
fn failed(err: &DoorError) -> Failure {
    Failure::new(err.reason(), chain(err))
}
