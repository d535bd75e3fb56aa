//! The handle of one child's supervisor.
//!
//! The child outlives its supervisor in every case but one, [`SupervisorHandle::shutdown`]. An agent that is
//! killed leaves it running, and the next one adopts it.

use forest_core::reason::Reason;
use tokio::sync::{mpsc, oneshot, watch};

use super::command::Command;
use super::driver::{Driver, Parts};
use super::limits::Limits;
use super::status::ChildStatus;
use crate::fault::Fault;

/// What is wanted of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// It runs, by this command. A living one is never restarted for another command.
    Run(Command),
    /// It does not run.
    Stop {
        /// Why: a fragment for a person.
        reason: String,
    },
}

/// What the handle tells the driver.
pub(super) enum Message {
    Want(Want),
    Healthy(bool),
    Retry,
    Shutdown(oneshot::Sender<()>),
    Detach(oneshot::Sender<()>),
}

/// The supervisor of one child. Dropped, it lets go of the child, which lives on.
#[derive(Debug)]
pub struct SupervisorHandle {
    inbox: mpsc::UnboundedSender<Message>,
    status: watch::Receiver<ChildStatus>,
    limits: Limits,
}

impl SupervisorHandle {
    /// Starts the task, within a tokio runtime. It first adopts a living child.
    pub(super) fn start(parts: Parts) -> Self {
        let (inbox, messages) = mpsc::unbounded_channel();
        let (sender, status) = watch::channel(ChildStatus::default());
        let limits = parts.limits.clone();
        tokio::spawn(Driver::new(parts, sender).run(messages));
        Self { inbox, status, limits }
    }

    /// Says what is wanted; the latest counts. Saying the same again changes nothing.
    pub fn want(&self, want: Want) {
        // The task ends only by what consumes the handle.
        let _ = self.inbox.send(Message::Want(want));
    }

    /// Says whether the child was just seen well; long health makes its past exits forgotten.
    pub fn healthy(&self, healthy: bool) {
        let _ = self.inbox.send(Message::Healthy(healthy));
    }

    /// Says that what made it fail is gone: a start that is put off comes now.
    pub fn retry(&self) {
        let _ = self.inbox.send(Message::Retry);
    }

    /// What is; changes whenever anything of it does.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ChildStatus> {
        self.status.clone()
    }

    /// Ends the child: TERM, after the grace KILL of its group; reaped, and its record taken out.
    ///
    /// # Errors
    /// `engine_ignores_term` where it still lives some seconds after KILL (it hangs in the kernel); it stays
    /// recorded, and the next agent adopts it.
    pub async fn shutdown(self) -> Result<(), Fault> {
        let (done, wait) = oneshot::channel();
        let _ = self.inbox.send(Message::Shutdown(done));
        let bound = self.limits.grace + self.limits.kill_wait;
        let ended = tokio::time::timeout(bound, wait).await;
        ended.map(drop).map_err(|_| {
            let phase = &self.status.borrow().phase;
            let message = format!("the child did not end within {bound:?} ({phase:?})");
            Fault::new(Reason::EngineIgnoresTerm, message)
        })
    }

    /// Lets go of the child, for an agent that is about to execute its successor: waits until nothing is being
    /// started and the record and the log's place are kept.
    pub async fn detach(self) {
        let (done, wait) = oneshot::channel();
        let _ = self.inbox.send(Message::Detach(done));
        // Bounded, for a start can hang with the file system of the program.
        let _ = tokio::time::timeout(self.limits.kill_wait, wait).await;
    }
}
