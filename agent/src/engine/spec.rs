//! What a supervisor needs to know to start a child.

use std::ffi::OsString;
use std::path::PathBuf;

/// A program with all it is given. Of the agent's own environment nothing is passed on but what the supervisor
/// chooses; no secret stands in `args` or `env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Path of the executable.
    pub program: PathBuf,
    /// Arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Variables to set.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; it must exist.
    pub cwd: PathBuf,
}
