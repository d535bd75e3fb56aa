//! What the following thread does at each look at the file: [`Follower::look`]. All blocking work of a log is
//! here, and memory stays bounded however much the child writes.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::file::{LogFile, Place};
use super::lines::{Splitter, printable};
use super::meter::{FloodMeter, Gate, Hidden};
use super::{LogState, Sink};
use crate::child::limits::LogLimits;

/// So much is read at once, and so much of a flood's end is looked at.
const CHUNK: usize = 64 << 10;

/// Copies of a file that grows while it is copied, before it is cut as it is.
const COPIES: u32 = 3;

/// Looks at a file that grows while it is read, before it is cut as it is.
const CATCH_UPS: u32 = 8;

/// How often the place is kept. A killed agent's successor shows again what was shown since.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// One child's log, followed.
pub(super) struct Follower {
    limits: LogLimits,
    file: LogFile,
    splitter: Splitter,
    shown: Shown,
    flood: FloodMeter,
    /// Its length at the last look, and what was added since.
    seen: u64,
    arrived: u64,
    kept: (Option<Place>, Instant),
    buffer: Vec<u8>,
    state: watch::Sender<LogState>,
}

/// Where lines go.
struct Shown {
    gate: Gate,
    sink: Sink,
    tail: VecDeque<String>,
    tail_lines: usize,
    tail_chars: usize,
    changed: bool,
}

impl Shown {
    fn line(&mut self, line: &[u8]) {
        self.remember(line);
        if self.gate.pass() {
            (self.sink)(&printable(line));
        }
    }

    fn remember(&mut self, line: &[u8]) {
        // Characters have at most four bytes; of a flood's lines no more than needed is looked at.
        let start = &line[..line.len().min(4 * self.tail_chars)];
        let text = printable(start).chars().take(self.tail_chars).collect();
        self.tail.push_back(text);
        while self.tail.len() > self.tail_lines {
            self.tail.pop_front();
        }
        self.changed = true;
    }

    fn say_hidden(&mut self, now: Instant, path: &Path) {
        let Some(Hidden { lines, bytes }) = self.gate.turn(now) else {
            return;
        };
        let unread = match bytes {
            0 => String::new(),
            bytes => format!(" and {bytes} bytes unread"),
        };
        (self.sink)(&format!("{lines} lines{unread} not shown, they are in {}", path.display()));
    }
}

impl Follower {
    /// Follows `file`. What of it was followed already is not shown again.
    pub(super) fn new(file: LogFile, limits: LogLimits, sink: Sink, state: watch::Sender<LogState>) -> Self {
        let now = Instant::now();
        let shown = Shown {
            gate: Gate::new(limits.lines_per_second, now),
            sink,
            tail: VecDeque::new(),
            tail_lines: limits.tail_lines,
            tail_chars: limits.tail_chars,
            changed: true,
        };
        Self {
            splitter: Splitter::new(limits.line_bytes),
            shown,
            flood: FloodMeter::new(limits.flood_bytes, limits.flood_hold, now),
            seen: file.offset(),
            arrived: 0,
            kept: (None, now),
            buffer: vec![0; CHUNK],
            limits,
            file,
            state,
        }
    }

    /// Fills the tail from what was followed already.
    pub(super) fn refill_tail(&mut self) -> io::Result<()> {
        let end = self.file.offset();
        let start = end.saturating_sub(CHUNK as u64);
        self.file.go_to(start);
        if start > 0 {
            self.splitter.skip();
        }
        let mut before = vec![0; usize::try_from(end - start).unwrap_or(CHUNK)];
        let read = self.file.read(&mut before)?;
        self.splitter.feed(&before[..read], |line| self.shown.remember(line));
        self.splitter.finish(|line| self.shown.remember(line));
        self.file.go_to(end);
        Ok(())
    }

    /// Reads what is new, shows it, and sets a full file aside. Tells whether much arrived.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        let len = self.file.len()?;
        self.start_over_if_cut(len);
        self.note_growth(len);
        self.skip_if_behind(len);
        self.read_on()?;
        if self.file.len()? > self.limits.file_bytes {
            self.roll()?;
        } else if self.file.follow_replaced()? {
            self.splitter.finish(|line| self.shown.line(line));
            self.seen = 0;
        }
        let arrived = std::mem::take(&mut self.arrived);
        self.publish(arrived)?;
        Ok(arrived > CHUNK as u64)
    }

    /// Takes an unfinished last line as it is: the child that wrote it is gone.
    pub(super) fn end_of_child(&mut self) -> io::Result<()> {
        self.look()?;
        self.splitter.finish(|line| self.shown.line(line));
        self.publish(0)
    }

    /// Keeps the place, whenever it was last kept.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        let place = self.file.place(self.splitter.pending())?;
        if self.kept.0 != Some(place) {
            place.save(self.file.path()).map_err(io::Error::other)?;
        }
        self.kept = (Some(place), Instant::now());
        Ok(())
    }

    fn start_over_if_cut(&mut self, len: u64) {
        if len < self.file.offset() {
            // By someone else: what is there now is new.
            self.file.go_to(0);
            self.splitter.finish(|line| self.shown.line(line));
            self.seen = 0;
        }
    }

    fn note_growth(&mut self, len: u64) {
        self.arrived += len.saturating_sub(self.seen);
        self.seen = len;
    }

    fn skip_if_behind(&mut self, len: u64) {
        if len.saturating_sub(self.file.offset()) > self.limits.unread_max {
            self.skip_to(len - CHUNK as u64);
        }
    }

    fn skip_to(&mut self, offset: u64) {
        let skipped = offset.saturating_sub(self.file.offset());
        if skipped > 0 {
            self.shown.gate.skipped(skipped);
            self.splitter.skip();
            self.file.go_to(offset);
        }
    }

    /// Reads to the end, but no further than a flood's bound: the rest is for the next look.
    fn read_on(&mut self) -> io::Result<()> {
        let stop = self.file.offset() + self.limits.unread_max;
        while self.file.offset() < stop {
            let read = self.file.read(&mut self.buffer)?;
            if read == 0 {
                break;
            }
            self.splitter.feed(&self.buffer[..read], |line| self.shown.line(line));
        }
        Ok(())
    }

    /// Sets a full file aside. While the child writes faster than it is read and copied the file is left to grow
    /// to twice its size: once the child pauses, nothing need be lost.
    fn roll(&mut self) -> io::Result<()> {
        let mut copied = Ok(0);
        for _ in 0..COPIES {
            copied = self.file.copy(self.limits.file_bytes);
            self.catch_up()?;
            if !copied.as_ref().is_ok_and(|end| *end < self.file.offset()) {
                break;
            }
        }
        let behind = copied.as_ref().is_ok_and(|end| *end < self.file.offset());
        if behind && self.file.len()? < 2 * self.limits.file_bytes {
            return Ok(());
        }
        let shifted = copied.and_then(|_| self.file.shift(self.limits.files));
        self.catch_up()?;
        let len = self.file.len()?;
        self.skip_to(len);
        // Also where the copy failed: a full disk must not become fuller.
        self.file.cut()?;
        self.note_growth(len);
        self.seen = 0;
        self.keep()?;
        shifted
    }

    /// Reads until nothing is left, or a few times.
    fn catch_up(&mut self) -> io::Result<()> {
        for _ in 0..CATCH_UPS {
            let len = self.file.len()?;
            if len == self.file.offset() {
                break;
            }
            self.skip_if_behind(len);
            self.read_on()?;
        }
        Ok(())
    }

    fn publish(&mut self, arrived: u64) -> io::Result<()> {
        let now = Instant::now();
        self.shown.say_hidden(now, self.file.path());
        let flood = self.flood.note(arrived, now);
        let changed = std::mem::take(&mut self.shown.changed);
        self.state.send_if_modified(|state| {
            if changed {
                state.tail = self.shown.tail.iter().cloned().collect();
            }
            let was = std::mem::replace(&mut state.flood, flood);
            changed || was != flood
        });
        if now.duration_since(self.kept.1) >= KEEP_EVERY {
            self.keep()?;
        }
        Ok(())
    }
}
