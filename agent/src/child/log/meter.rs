//! How much of a log may be shown, and whether it is a flood. Pure: the time comes in.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);

/// Lets a number of lines a second through and counts the others.
#[derive(Debug)]
pub(super) struct Gate {
    per_window: u32,
    since: Instant,
    passed: u32,
    hidden: Hidden,
}

/// What was not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hidden {
    /// Lines.
    pub(super) lines: u64,
    /// Bytes that nobody counted as lines.
    pub(super) bytes: u64,
}

impl Gate {
    /// So many lines a second.
    pub(super) fn new(per_window: u32, now: Instant) -> Self {
        Self { per_window, since: now, passed: 0, hidden: Hidden::default() }
    }

    /// May this line be shown?
    pub(super) fn pass(&mut self) -> bool {
        let open = self.passed < self.per_window;
        if open {
            self.passed += 1;
        } else {
            self.hidden.lines += 1;
        }
        open
    }

    /// Counts bytes that were not even read.
    pub(super) fn skipped(&mut self, bytes: u64) {
        self.hidden.bytes += bytes;
    }

    /// Opens the next window when it is time, and then tells what was hidden, once.
    pub(super) fn turn(&mut self, now: Instant) -> Option<Hidden> {
        if now.duration_since(self.since) < WINDOW {
            return None;
        }
        self.since = now;
        self.passed = 0;
        Some(std::mem::take(&mut self.hidden)).filter(|hidden| *hidden != Hidden::default())
    }
}

/// Sees that more arrives than anyone can read.
#[derive(Debug)]
pub(super) struct FloodMeter {
    limit: u64,
    hold: Duration,
    since: Instant,
    bytes: u64,
    until: Option<Instant>,
}

impl FloodMeter {
    /// More than `limit` bytes within a second are a flood, which stays one for `hold` after.
    pub(super) fn new(limit: u64, hold: Duration, now: Instant) -> Self {
        Self { limit, hold, since: now, bytes: 0, until: None }
    }

    /// Notes that `bytes` have arrived; is it a flood?
    pub(super) fn note(&mut self, bytes: u64, now: Instant) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            self.since = now;
            self.bytes = 0;
        }
        self.bytes += bytes;
        if self.bytes > self.limit {
            self.until = Some(now + self.hold);
        }
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_rate_are_counted_and_told_once() {
        let start = Instant::now();
        let mut gate = Gate::new(2, start);
        assert_eq!([(); 5].map(|()| gate.pass()), [true, true, false, false, false]);
        assert_eq!(gate.turn(start), None);
        let hidden = Hidden { lines: 3, bytes: 0 };
        assert_eq!(gate.turn(start + WINDOW), Some(hidden));
        assert!(gate.pass());
        assert_eq!(gate.turn(start + 2 * WINDOW), None);
    }

    #[test]
    fn a_flood_stays_one_for_a_while() {
        let start = Instant::now();
        let hold = Duration::from_secs(10);
        let mut meter = FloodMeter::new(100, hold, start);
        assert!(!meter.note(100, start));
        assert!(!meter.note(100, start + WINDOW));
        assert!(meter.note(1, start + WINDOW));
        assert!(meter.note(0, start + 5 * WINDOW));
        assert!(!meter.note(0, start + WINDOW + hold));
    }
}
