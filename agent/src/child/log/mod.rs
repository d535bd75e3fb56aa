//! A child's output: `<state_dir>/log/<name>.log`, bounded on disk, followed line by line from a thread of its
//! own into the agent's log, and its end kept for /health.
//!
//! A file and not a pipe, for a pipe ends with its reader: a Go program dies at the next line it writes, or hangs.

mod file;
mod follower;
mod lines;
mod meter;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub(super) use self::file::open_or_make;

use self::file::LogFile;
use self::follower::Follower;
use super::limits::LogLimits;

/// What health says of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LogState {
    /// The last lines, oldest first.
    pub(super) tail: Vec<String>,
    /// More arrives than anyone can read.
    pub(super) flood: bool,
}

/// Takes each line that is shown.
pub(super) type Sink = Box<dyn FnMut(&str) + Send>;

/// Shows a line in the agent's log.
pub(super) fn to_tracing(child: &str) -> Sink {
    let child = child.to_owned();
    Box::new(move |line| tracing::info!(target: "engine", child, "{line}"))
}

/// Where the log of child `name` is.
pub(super) fn path(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join("log").join(format!("{name}.log"))
}

/// Makes the directory of the logs, for its owner alone: what a child writes may be a secret.
pub(super) fn make_dir(state_dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(state_dir.join("log"))
}

/// The thread's handle. Dropped, the thread looks once more, keeps its place and ends.
pub(super) struct Log {
    state: watch::Receiver<LogState>,
    asks: mpsc::Sender<Ask>,
    thread: JoinHandle<()>,
}

impl Log {
    /// Follows the log at `path` into `sink`.
    pub(super) fn follow(path: PathBuf, limits: LogLimits, sink: Sink) -> io::Result<Self> {
        let (sender, state) = watch::channel(LogState::default());
        let (asks, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("child-log".to_owned())
            .spawn(move || follow(&path, limits, sink, sender, &inbox))?;
        Ok(Self { state, asks, thread })
    }

    /// What is known of it; changes as the child writes.
    pub(super) fn state(&self) -> watch::Receiver<LogState> {
        self.state.clone()
    }

    /// Waits until the file is followed, so that nothing of a child started after this is missed; or until it
    /// could not be opened.
    pub(super) async fn followed(&self) {
        self.ask(Question::Followed).await;
    }

    /// The child is gone: waits until all it wrote is in the state, its unfinished last line too.
    pub(super) async fn child_ended(&self) {
        self.ask(Question::ChildEnded).await;
    }

    async fn ask(&self, question: Question) {
        let (done, wait) = oneshot::channel();
        // A log that cannot be opened was complained of.
        if self.asks.send(Ask { question, done }).is_ok() {
            let _ = wait.await;
        }
    }

    /// Ends the thread, its place kept.
    pub(super) async fn close(self) {
        let Self { asks, thread, .. } = self;
        drop(asks);
        let _ = tokio::task::spawn_blocking(|| thread.join()).await;
    }
}

enum Question {
    Followed,
    ChildEnded,
}

/// Answered by `done`.
struct Ask {
    question: Question,
    done: oneshot::Sender<()>,
}

type Asks = mpsc::Receiver<Ask>;

/// The thread.
fn follow(path: &Path, limits: LogLimits, sink: Sink, state: watch::Sender<LogState>, asks: &Asks) {
    let mut complain = Complaints::default();
    let poll = limits.poll;
    let Some(file) = open(path, poll, asks, &mut complain) else {
        return;
    };
    let mut follower = Follower::new(file, limits, sink, state);
    complain.about(path, follower.refill_tail());
    let mut wait = poll;
    loop {
        match asks.recv_timeout(wait) {
            Ok(Ask { question, done }) => {
                match question {
                    Question::Followed => complain.about(path, follower.look().map(drop)),
                    Question::ChildEnded => complain.about(path, follower.end_of_child()),
                };
                // The one who asked may have gone.
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Timeout) => {
                let much = complain.about(path, follower.look()).unwrap_or_default();
                wait = if much { poll / 10 } else { poll };
            }
            Err(RecvTimeoutError::Disconnected) => {
                complain.about(path, follower.look());
                complain.about(path, follower.keep());
                return;
            }
        }
    }
}

/// Tries until it can be opened; `None`: nobody wants it any more.
fn open(path: &Path, poll: Duration, asks: &Asks, complain: &mut Complaints) -> Option<LogFile> {
    loop {
        if let Some(file) = complain.about(path, LogFile::open(path)) {
            return Some(file);
        }
        match asks.recv_timeout(poll) {
            // Nothing of it can be known, and the one who asked shall not wait for that.
            Ok(ask) => drop(ask),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Says a failure once, and again only after it was gone.
#[derive(Default)]
struct Complaints {
    said: bool,
}

impl Complaints {
    fn about<T>(&mut self, path: &Path, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.said = false;
                Some(value)
            }
            Err(err) => {
                if !std::mem::replace(&mut self.said, true) {
                    tracing::warn!(path = %path.display(), %err, "cannot follow this log as it should be");
                }
                None
            }
        }
    }
}
