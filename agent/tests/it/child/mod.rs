//! Supervision with real processes: shell scripts in a temporary directory, and agents that are killed.

mod adoption;
mod faults;
#[expect(clippy::unwrap_used, reason = "what a test is made of panics as tests do")]
mod helper;
#[expect(clippy::unwrap_used, reason = "what a test is made of panics as tests do")]
mod kit;
