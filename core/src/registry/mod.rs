//! The registry: the one file in which the nodes of all forests find each other, and the one algorithm by
//! which every program changes it.
//!
//! - [`model`] is the file's text as a value, [`claim()`], [`change`] and [`forests`] the pure changes to it, [`diff`]
//!   their picture.
//! - [`door`] is the small trait over the directory the file lies in; [`fs`] is its file-system side. The other,
//!   WebDAV, is morpheus's: this crate knows no HTTP.
//! - [`update()`] changes a document under the lease, [`read()`] reads one without it.
//! - [`clock`], [`owner`] and [`Limits`] are what the algorithm needs to know of time and of itself.
//!
//! Only `fs`, `flock`, `owner` and `clock` touch the system.

pub mod change;
pub mod claim;
pub mod clock;
mod commit;
pub mod diff;
pub mod document;
pub mod door;
pub mod flock;
pub mod forests;
pub mod fs;
mod lease;
mod limits;
pub mod model;
pub mod owner;
pub mod read;
mod restore;
mod sweep;
pub mod update;
mod waiter;

pub use change::{Action, Change, bury, remove_entry, take_out};
pub use claim::{Claim, ClaimError, Ports, Probes, claim};
pub use clock::{Clock, SystemClock, VirtualClock};
pub use document::{Corrupt, Document, Files};
pub use door::{Base, Door, DoorError, Kind, MAX_BYTES, Op, Publish, Tag};
pub use flock::{InstanceError, InstanceLock, Queue, Turn};
pub use forests::{edit_forest, remove_forest};
pub use fs::FsDoor;
pub use lease::Holder;
pub use limits::Limits;
pub use model::{Entry, Registry};
pub use owner::Owner;
pub use read::{Absent, ReadError, Snapshot, corrupt_copies, read};
pub use restore::Restored;
pub use update::{Outcome, UpdateError, UpdateOptions, update};
