//! Why a command failed: a stable code, a sentence, and the exit code that follows from the first.

use std::io;
use std::path::Path;

pub use forest_core::error::chain;
use forest_core::reason::Reason;
use forest_core::yaml::ConfigError;
use serde_json::{Value, json};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or healthy.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No such forest or node.
    Unknown = 3,
    /// Acted, but not healthy.
    Unhealthy = 4,
    /// The configuration is wrong.
    Config = 78,
}

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The stable code.
    pub reason: Reason,
    /// A sentence for a person, what to do included; never a secret.
    pub message: String,
}

impl Failure {
    /// A failure of `reason`, said as `message`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The laptop's own state: `doing` is what was tried with `path`.
    #[must_use]
    pub fn state(doing: &str, path: &Path, err: &io::Error) -> Self {
        Self::new(Reason::LocalState, format!("cannot {doing} {}: {err}", path.display()))
    }

    /// The operating system gives no more threads or descriptors.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "so that map_err takes it by name")]
    pub fn no_runtime(err: io::Error) -> Self {
        Self::new(Reason::LocalState, format!("cannot start: {err}"))
    }

    /// The exit code: it follows from the reason.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.reason {
            Reason::Usage | Reason::ConfirmationNeeded => Exit::Usage,
            Reason::ForestUnknown | Reason::NodeUnknown => Exit::Unknown,
            Reason::NotHealthy | Reason::RotationUnfinished => Exit::Unhealthy,
            Reason::ConfigInvalid | Reason::ConfigUnreadable => Exit::Config,
            _ => Exit::Failed,
        }
    }

    /// `{"reason","message"}`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({"reason": self.reason.code(), "message": self.message})
    }
}

impl From<ConfigError> for Failure {
    fn from(err: ConfigError) -> Self {
        Self::new(err.reason(), err.to_string())
    }
}
