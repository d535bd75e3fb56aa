//! The switch that every request passes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// What the file system does with a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Serves it.
    #[default]
    Serving,
    /// Lets it wait.
    Hanging,
    /// Answers it with this errno.
    Failing(i32),
}

/// Requests come through, wait, or are turned away.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<(State, usize)>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn set(&self, state: State) {
        self.lock().0 = state;
        self.changed.notify_all();
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().1
    }

    /// Waits as long as the file system hangs.
    pub(super) fn pass(&self) -> Result<(), Errno> {
        let mut state = self.lock();
        state.1 += 1;
        while state.0 == State::Hanging {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.1 -= 1;
        match state.0 {
            State::Failing(errno) => Err(Errno::from_raw_os_error(errno)),
            State::Serving | State::Hanging => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (State, usize)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
