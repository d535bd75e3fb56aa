//! The user-data that plants forest-agent on a new machine: built from types, pure text, no I/O.
//!
//! cloud-init does one thing: it puts the agent there and starts it. It writes the agent's settings and the
//! share's password, fetches the agent with curl, compares its SHA-256 before anything of it is executed, and calls
//! `forest-agent install`. Nothing is installed from a distribution. What goes wrong ends the script, so that
//! cloud-init itself says so, on the console too.
//!
//! Promises: no value reaches a command line or a shell, only files that cloud-init writes, those with a secret
//! with mode 0600; any text survives the way through YAML unharmed, or is refused by name before.

mod agent_yaml;
mod curl;
mod document;
mod plan;

pub use plan::{Download, Engine, EngineKind, Fetch, RenderError, Sha256, Share, UserData};
