//! A node leaves its forest for good, or is taken out of it when it is dead, and nothing is lost.
//!
//! ```text
//!   intent (state_dir) ──► machine: what is next, pure ──► step `leave` ──► record (under the lease), servers
//!                             ▲                               │
//!                             └── group, record, registry     └── streams: what each needs, pure; api: asks for it
//!
//!   the one who leaves: wanted ► recorded `moving` ► a witness elsewhere ► streams elsewhere, current ► leads no
//!                       more ► `stopping`: lame duck ► `stopped`
//!   one who stays:      `stopped` ► out of the meta group ► tombstone, entry gone ► record cleared
//! ```
//!
//! Every part is found again by what is recorded and by what the servers say, so whoever was killed goes on where it
//! was. While it leaves, a server bears no tag, and servers place nothing new on it.

pub mod api;
pub mod intent;
pub mod machine;
pub mod mover;
pub mod streams;
