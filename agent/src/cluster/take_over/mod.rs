//! The store of a standalone server is carried into the forest: as it is, a cluster would delete its streams.
//!
//! ```text
//!   reading:   a server of its own on the store, heard on loopback alone ──► snapshots of all streams, with consumers
//!   moving:    the store is moved aside whole, and kept ──► the agent founds or joins the group on an empty one
//!   restoring: each stream from its snapshot, compared with what was noted of it
//! ```
//!
//! The command does it; the agent leaves a standalone store alone. How far it is stands in a journal, so that a
//! command that was killed goes on when it is run again; what is next is decided by `machine`, pure. Nothing is
//! deleted but this command's own snapshots, at the end, and a stream that it began to restore and that is empty.

pub mod journal;
pub mod machine;
pub mod obstacles;
pub mod others;
pub mod server;
pub mod streams;
