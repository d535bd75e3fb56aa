//! What the suites need of a door: a fresh directory, and a way to look into it from the side.

use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forest_core::id::ForestId;
use forest_core::registry::{
    Clock, Document, Door, FsDoor, Limits, Outcome, Owner, Queue, Registry, UpdateError, UpdateOptions, bury,
    update,
};

use crate::faulty::{Fault, Faulty, FaultyDoor};

/// A directory behind a door.
pub(crate) trait Bench: Sync {
    /// Another client of it.
    fn door(&self) -> Box<dyn Door>;
    /// A client like those that everybody else has.
    fn other(&self) -> Box<dyn Door> {
        self.door()
    }
    /// One more, whose call `at` fails; `watch` is called after each.
    fn faulty<'a>(&'a self, at: usize, fault: Fault, watch: &'a (dyn Fn() + Sync)) -> Box<dyn Faulty + 'a> {
        Box::new(FaultyDoor::new(self.door(), at, fault, watch))
    }
    /// The directory as the server has it.
    fn dir(&self) -> PathBuf;

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir().join(name), bytes).unwrap();
    }

    fn get(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.dir().join(name)).ok()
    }

    fn registry(&self) -> Registry {
        Registry::parse(&self.get("registry.json").expect("a registry")).expect("that parses")
    }

    /// The names in the directory, sorted, but for those of the finished registry and the queue.
    fn leftovers(&self) -> Vec<String> {
        let known = ["registry.json", ".registry.last-good.json", ".registry.flock", "queue.lock"];
        let entries =
            fs::read_dir(self.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.filter(|name| !known.contains(&name.as_str())).collect();
        names.sort();
        names
    }

    fn corrupt_copies(&self) -> Vec<String> {
        self.leftovers().into_iter().filter(|name| name.starts_with("registry.json.corrupt-")).collect()
    }
}

/// A plain directory; in the second field whether files in it are replaced as on CIFS.
pub(crate) struct Plain(tempfile::TempDir, pub(crate) bool);

impl Plain {
    /// In memory where there is such a directory: suites of thousands of updates would else wait for the disk.
    pub(crate) fn new() -> Self {
        tempfile::tempdir_in("/dev/shm").map_or_else(|_| Self::on_disk(), |dir| Self(dir, false))
    }

    /// On a disk, with what its syncs cost.
    pub(crate) fn on_disk() -> Self {
        Self(tempfile::tempdir().unwrap(), false)
    }

    /// The same, where files are replaced as on CIFS.
    pub(crate) fn as_on_cifs() -> Self {
        Self(Self::new().0, true)
    }

    /// Its door with a queue.
    pub(crate) fn queued(&self, queue: Option<Arc<Queue>>) -> FsDoor {
        let door = FsDoor::open(self.0.path(), queue).unwrap();
        if self.1 { door.as_on_cifs() } else { door }
    }
}

impl Bench for Plain {
    fn door(&self) -> Box<dyn Door> {
        Box::new(self.queued(None))
    }

    fn dir(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

pub(crate) fn grove() -> ForestId {
    "grove".parse().unwrap()
}

/// An owner on a machine of its own, so that nobody can know whether it still runs.
pub(crate) fn elsewhere(label: &str) -> Owner {
    Owner { boot_id: label.to_owned(), ..Owner::current(label) }
}

/// An owner on this machine whose process is gone.
pub(crate) fn gone(label: &str) -> Owner {
    let me = Owner::current(label);
    Owner { pid_start: me.pid_start + 1, ..me }
}

pub(crate) fn creating() -> UpdateOptions {
    UpdateOptions { create_missing: true, ..UpdateOptions::default() }
}

/// The plainest change that can be told apart from every other: a tombstone of that name.
pub(crate) fn mark(
    door: &dyn Door,
    clock: &dyn Clock,
    owner: &Owner,
    limits: &Limits,
    name: &str,
) -> Result<Outcome, UpdateError<Infallible>> {
    let node = name.parse().unwrap();
    update(door, clock, owner, limits, &creating(), |registry: &Registry| {
        Ok(bury(registry, &grove(), &node, clock.now()))
    })
}

/// Is the change of [`mark`] there?
pub(crate) fn marked(registry: &Registry, name: &str) -> bool {
    registry.tombstone(&grove(), &name.parse().unwrap()).is_some()
}

/// So long that whatever lies there is stranded; files bear the real time, which goes on while a test runs.
pub(crate) fn later(limits: &Limits) -> Duration {
    limits.stranded * 2
}
