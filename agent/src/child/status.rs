//! What a supervisor tells of its child.

use forest_core::health::LastExit;
use jiff::Timestamp;

use super::spawn::SpawnError;

/// A child as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChildStatus {
    /// Where it is.
    pub phase: ChildPhase,
    /// Starts after the first, since this agent began.
    pub restarts: u64,
    /// How it ended the last time; of an adopted one only the time is known.
    pub last_exit: Option<LastExit>,
    /// It ended too often in too short a time; until it was healthy for long. It is tried on slowly.
    pub crash_loop: bool,
    /// It did not answer TERM; from some seconds after it until the next start.
    pub ignores_term: bool,
    /// Why the last start was refused; `None` once one succeeds.
    pub spawn_error: Option<SpawnError>,
    /// The running process was started by an earlier agent.
    pub adopted: bool,
    /// It runs another command than is wanted now, or nobody knows which; the next start takes the wanted one.
    pub pending_change: bool,
    /// Its last lines, oldest first, printable, each of bounded length.
    pub log_tail: Vec<String>,
    /// It writes more than anyone can read.
    pub log_flood: bool,
}

impl ChildStatus {
    /// Its pid while it lives and nobody asked it to end.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self.phase {
            ChildPhase::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }
}

/// Where a child is. Times are those of the clock when the agent began, plus what has passed since.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ChildPhase {
    /// Nothing was wanted yet, and no living child was found.
    #[default]
    Idle,
    /// It is being started.
    Starting,
    /// It lives.
    Running {
        /// Its pid.
        pid: u32,
        /// Since when, as far as this agent knows.
        since: Timestamp,
    },
    /// It ended or could not be started, and will be tried again.
    Backoff {
        /// When.
        until: Timestamp,
        /// Failures in a row.
        attempt: u32,
    },
    /// It was asked to end.
    Stopping {
        /// When.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// It ended as wanted, or was never to start.
    Stopped {
        /// Why.
        reason: String,
    },
}
