//! The registry as its users see it: its text, its changes, and the update algorithm under faults, crashes,
//! interleavings and contention.
//!
//! What runs over a [`bench::Bench`] runs over any door.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod claims;
mod contention;
mod corruption;
mod every_call;
mod faults;
mod faulty;
mod instance;
mod interleaving;
mod killed;
mod text;
