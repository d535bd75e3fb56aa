//! A lane: one thread for calls that may never return, such as any file operation on a network share.
//!
//! A call into a hanging file system cannot be cancelled. So each lane has exactly one thread and runs one job
//! at a time; a caller waits no longer than its deadline, and while a job is overdue everybody else is told so
//! at once. However often a hanging share is asked, it costs one thread. When the job comes back at last, its
//! result is dropped and the lane is free again. A job's panic is reported to its caller; the lane lives on.
//! Dropping a lane does not wait for its job.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// Why a lane has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// A job, this caller's or another's, has not come back in time.
    #[error("{what} has not come back for {:.1?}", since.elapsed())]
    Hung {
        /// What the job does.
        what: String,
        /// When it began.
        since: Instant,
    },
    /// The job panicked.
    #[error("{what} panicked: {message}")]
    Panicked {
        /// What the job was doing.
        what: String,
        /// The panic's message.
        message: String,
    },
    /// The lane's thread cannot be started.
    #[error("failed to start the thread {lane}")]
    Thread {
        /// The lane's name.
        lane: String,
        /// What the system said.
        source: io::Error,
    },
}

type Job = Box<dyn FnOnce() + Send>;

/// One thread, one job at a time. The thread is started by the first job.
#[derive(Debug)]
pub struct Lane {
    name: String,
    /// Held by the running job; waiters queue here, each no longer than its own deadline.
    turn: Arc<tokio::sync::Mutex<()>>,
    running: Arc<Mutex<Option<Running>>>,
    thread: Mutex<Option<SyncSender<Job>>>,
}

/// The job that holds the turn.
#[derive(Debug, Clone)]
struct Running {
    what: String,
    since: Instant,
    until: Instant,
}

impl Running {
    fn hung(self) -> LaneError {
        LaneError::Hung { what: self.what, since: self.since }
    }
}

impl Lane {
    /// A free lane; `name` becomes the thread's name, of which the kernel shows 15 bytes.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            turn: Arc::default(),
            running: Arc::default(),
            thread: Mutex::default(),
        }
    }

    /// When the job that runs now began; `None`: the lane is free.
    #[must_use]
    pub fn busy_since(&self) -> Option<Instant> {
        lock(&self.running).as_ref().map(|job| job.since)
    }

    /// Waits until no job runs, at most for `bound`; `false`: one still does. For an end that a running job is to
    /// come to first. Cancel safe.
    pub async fn idle(&self, bound: Duration) -> bool {
        timeout(bound, self.turn.lock()).await.is_ok()
    }

    /// Runs `job` in the lane's thread and waits for it, at most for `deadline`, the wait for the turn included.
    /// `what` says what the job does, for errors: "reading /mnt/forest".
    ///
    /// Cancel safe: a job whose caller has gone runs to its end all the same.
    ///
    /// # Errors
    /// This or an earlier job hangs; the job panicked; there is no thread to be had.
    pub async fn run<T, F>(&self, what: &str, deadline: Duration, job: F) -> Result<T, LaneError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let since = Instant::now();
        let running = Running { what: what.to_owned(), since, until: since + deadline };
        let turn = self.take_turn(&running).await?;
        let (sender, result) = oneshot::channel();
        let slot = Arc::clone(&self.running);
        *lock(&slot) = Some(running.clone());
        self.send(Box::new(move || {
            let outcome = panic::catch_unwind(AssertUnwindSafe(job));
            // A result that nobody waits for is dropped here, while the lane still counts as busy: closing a
            // file of a hanging share may hang too.
            drop(sender.send(outcome));
            *lock(&slot) = None;
            drop(turn);
        }))?;
        match timeout_at(running.until, result).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(panic))) => Err(panicked(what, panic.as_ref())),
            Ok(Err(_)) => Err(panicked(what, &"its result was lost")),
            Err(_) => Err(running.hung()),
        }
    }

    /// Waits until the lane is free, but never longer than the job in it may take.
    async fn take_turn(&self, next: &Running) -> Result<OwnedMutexGuard<()>, LaneError> {
        loop {
            let ahead = lock(&self.running).clone();
            let wait = ahead.map_or(next.until, |job| job.until.min(next.until));
            if let Ok(turn) = timeout_at(wait, Arc::clone(&self.turn).lock_owned()).await {
                return Ok(turn);
            }
            let now = Instant::now();
            let ahead = lock(&self.running).clone();
            match ahead {
                Some(job) if job.until <= now || next.until <= now => return Err(job.hung()),
                None if next.until <= now => return Err(next.clone().hung()),
                // Another job had its turn meanwhile, and is still within its time.
                _ => {}
            }
        }
    }

    /// Hands `job` to the thread. The turn is held, so the channel is empty and this never blocks.
    fn send(&self, job: Job) -> Result<(), LaneError> {
        let mut thread = lock(&self.thread);
        let job = match thread.as_ref() {
            Some(jobs) => match jobs.send(job) {
                Ok(()) => return Ok(()),
                Err(back) => back.0,
            },
            None => job,
        };
        let (jobs, inbox) = mpsc::sync_channel::<Job>(1);
        let started = thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || inbox.into_iter().for_each(|job| job()));
        if let Err(source) = started {
            *lock(&self.running) = None;
            let lane = self.name.clone();
            return Err(LaneError::Thread { lane, source });
        }
        // The receiver lives in the thread that has just been started.
        drop(jobs.send(job));
        *thread = Some(jobs);
        Ok(())
    }
}

/// The state in a mutex is replaced whole, so a panic elsewhere cannot have left it half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panicked(what: &str, panic: &(dyn Any + Send)) -> LaneError {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    LaneError::Panicked { what: what.to_owned(), message }
}

#[cfg(test)]
mod tests;
