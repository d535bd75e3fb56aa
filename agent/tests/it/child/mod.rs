//! Supervision with real processes: shell scripts in a temporary directory, and agents that are killed.

mod adoption;
mod faults;
mod helper;
mod kit;
