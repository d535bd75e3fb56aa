//! The times and sizes of supervision, as one value so that tests can shrink them.

use std::time::Duration;

/// Times and counts of one child's supervision.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The shortest wait before another start.
    pub backoff_first: Duration,
    /// The longest wait, and about the pace of a crash loop.
    pub backoff_max: Duration,
    /// So long healthy without a break: its past exits are forgiven.
    pub healthy_reset: Duration,
    /// So many exits within [`Limits::crash_window`] are a crash loop.
    pub crash_exits: usize,
    /// See [`Limits::crash_exits`].
    pub crash_window: Duration,
    /// From TERM to KILL.
    pub grace: Duration,
    /// A TERM unanswered for so long is reported.
    pub term_patience: Duration,
    /// How long a shutdown waits for the end of a killed child.
    pub kill_wait: Duration,
    /// Of its log.
    pub log: LogLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            healthy_reset: Duration::from_secs(60),
            crash_exits: 5,
            crash_window: Duration::from_secs(60),
            grace: Duration::from_secs(10),
            term_patience: Duration::from_secs(3),
            kill_wait: Duration::from_secs(5),
            log: LogLimits::default(),
        }
    }
}

/// Sizes and rates of a child's log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLimits {
    /// The live file is set aside once it is larger; an old one is a quarter larger at most.
    pub file_bytes: u64,
    /// Files kept in all: the live one and the old ones.
    pub files: u32,
    /// How often the live file is looked at; ten times as often while much arrives.
    pub poll: Duration,
    /// Longer lines are cut.
    pub line_bytes: usize,
    /// Lines kept for the health report.
    pub tail_lines: usize,
    /// Each of them is cut to so many characters.
    pub tail_chars: usize,
    /// So many lines a second are forwarded, the rest is counted.
    pub lines_per_second: u32,
    /// More bytes than this within a second are a flood.
    pub flood_bytes: u64,
    /// How long a flood stays reported.
    pub flood_hold: Duration,
    /// More unread bytes than this are skipped, but for the last of them.
    pub unread_max: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            file_bytes: 8 << 20,
            files: 3,
            poll: Duration::from_millis(200),
            line_bytes: 4096,
            tail_lines: 20,
            tail_chars: 400,
            lines_per_second: 200,
            flood_bytes: 2 << 20,
            flood_hold: Duration::from_secs(60),
            unread_max: 4 << 20,
        }
    }
}
