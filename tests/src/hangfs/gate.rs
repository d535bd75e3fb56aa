//! The switch that every request passes.
//!
//! The file system has one thread, and it hangs by not answering one request: a statfs of its own, the hold.
//! All other requests are left in the kernel unread, where their callers wait as they do for a lost server: a
//! SIGKILL ends them. A request that has been read and not answered would keep its caller from dying.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::Pid;

/// What the file system does with requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Serves them.
    #[default]
    Serving,
    /// Waits for the hold, which this thread sends.
    Holding(Pid),
    /// Leaves them alone.
    Hanging,
    /// Answers them with this errno.
    Failing(i32),
}

/// Where the state is kept, and changes of it are waited for.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn set(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_all();
    }

    pub(super) fn state(&self) -> State {
        *self.lock()
    }

    /// Waits until the hold has come.
    pub(super) fn until_hanging(&self) {
        let mut state = self.lock();
        while *state != State::Hanging {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// If `sender` is the thread that holds: waits until the state is changed again.
    pub(super) fn hold(&self, sender: u32) {
        let mut state = self.lock();
        let State::Holding(holder) = *state else {
            return;
        };
        if u32::try_from(holder.as_raw_pid()) != Ok(sender) {
            return;
        }
        *state = State::Hanging;
        self.changed.notify_all();
        while *state == State::Hanging {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The errno to answer with, if the file system is dead.
    pub(super) fn pass(&self) -> Result<(), Errno> {
        match self.state() {
            State::Failing(errno) => Err(Errno::from_raw_os_error(errno)),
            State::Serving | State::Holding(_) | State::Hanging => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
