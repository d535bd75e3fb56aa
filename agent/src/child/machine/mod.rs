//! When a child is started, ended and started again, as a pure function: [`step`]. It knows no process and no
//! clock; time and jitter come in with each event, the supervisor carries out the actions.
//!
//! ```text
//!            want run                 spawned
//!   Idle ───────────────► Starting ────────────► Running ──┐ exited
//!                          ▲   │ spawn failed       │      ▼
//!                  waited  │   └────────────► Backoff ◄────┘
//!                          └──────────────────────┘ │
//!                                     want stop     │ want stop
//!          Stopped ◄─── exited ── Stopping ◄── Running      (TERM, after the grace KILL)
//! ```
//!
//! It promises: at most one process (a spawn is asked for only when none lives and none is asked for already);
//! a wait between `backoff_first` and `backoff_max`; a wanted stop ends in `Stopped` once the killed process is
//! reported gone.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use super::limits::Limits;

/// What is wanted of the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    /// It shall run.
    Run,
    /// It shall not, for this reason (a fragment for a person).
    Stop(String),
}

/// Where the child is. Times are since the supervisor's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was wanted yet, nothing was found.
    Idle,
    /// A spawn is asked for.
    Starting,
    /// It lives.
    Running {
        /// Since when, as far as this supervisor knows.
        since: Duration,
    },
    /// It ended or could not be started, and will be tried again.
    Backoff {
        /// When.
        until: Duration,
    },
    /// It was asked to end.
    Stopping {
        /// When it got its TERM.
        since: Duration,
        /// Has it got its KILL?
        killed: bool,
    },
    /// Ended as wanted.
    Stopped,
}

/// All that the decisions rest on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// What is wanted; `None` until something was said, and then a found child is left as it is.
    pub(super) goal: Option<Goal>,
    /// Where it is.
    pub(super) phase: Phase,
    /// Starts after the first.
    pub(super) restarts: u64,
    /// Failures in a row: exits and refused spawns.
    pub(super) attempt: u32,
    /// Too many exits within the window; until it was healthy for long.
    pub(super) crash_loop: bool,
    /// Its last TERM went unanswered; until it is started again.
    pub(super) ignores_term: bool,
    exits: VecDeque<Duration>,
    healthy_since: Option<Duration>,
    started: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            goal: None,
            phase: Phase::Idle,
            restarts: 0,
            attempt: 0,
            crash_loop: false,
            ignores_term: false,
            exits: VecDeque::new(),
            healthy_since: None,
            started: false,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Something is wanted of it.
    Want(Goal),
    /// A child of an earlier agent was found alive; only ever the first event.
    Adopted,
    /// The spawn that was asked for succeeded.
    Spawned,
    /// The spawn that was asked for failed.
    SpawnFailed,
    /// The process is gone, with all it left behind.
    Exited,
    /// It was seen well.
    Healthy,
    /// It was seen ill.
    Unhealthy,
    /// What made it fail is gone: no reason to wait any longer.
    Retry,
    /// Time has passed.
    Tick,
}

/// When an event comes in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Now {
    /// Time since the supervisor's start; never goes back.
    pub(super) at: Duration,
    /// A random number from 0 to 1.
    pub(super) jitter: f64,
}

/// What the supervisor has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Start a process; answered by [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn,
    /// Ask the process to end.
    Term,
    /// Kill it and its group.
    Kill,
}

/// One step: what comes of `event` at `now`. Events that do not fit the phase change nothing.
#[must_use]
pub(super) fn step(mut state: State, event: Event, now: Now, limits: &Limits) -> (State, Vec<Action>) {
    state.forgive(now.at, limits);
    let mut actions = Vec::new();
    actions.extend(state.apply(event, now, limits));
    actions.extend(state.due(now.at, limits));
    (state, actions)
}

impl State {
    /// When the next [`Event::Tick`] is due; `None`: nothing waits for time.
    #[must_use]
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Duration> {
        match self.phase {
            Phase::Backoff { until } => Some(until),
            Phase::Stopping { killed: true, .. } => None,
            Phase::Stopping { since, .. } if self.ignores_term => Some(since + limits.grace),
            Phase::Stopping { since, .. } => Some(since + limits.grace.min(limits.term_patience)),
            Phase::Running { .. } if self.attempt > 0 => {
                self.healthy_since.map(|since| since + limits.healthy_reset)
            }
            _ => None,
        }
    }

    fn apply(&mut self, event: Event, now: Now, limits: &Limits) -> Option<Action> {
        match (event, self.phase) {
            (Event::Want(goal), _) => {
                self.goal = Some(goal);
                self.pursue(now.at)
            }
            (Event::Adopted, Phase::Idle) | (Event::Spawned, Phase::Starting) => {
                self.started(now.at);
                self.pursue(now.at)
            }
            (Event::SpawnFailed, Phase::Starting) => {
                self.back_off(now, limits);
                self.pursue(now.at)
            }
            (Event::Exited, Phase::Running { .. }) => {
                self.note_exit(now.at, limits);
                self.back_off(now, limits);
                self.pursue(now.at)
            }
            (Event::Exited, Phase::Stopping { .. }) => {
                self.healthy_since = None;
                self.phase = Phase::Stopped;
                self.pursue(now.at)
            }
            (Event::Healthy, Phase::Running { .. }) => {
                self.healthy_since.get_or_insert(now.at);
                None
            }
            (Event::Retry, Phase::Backoff { .. }) => {
                self.phase = Phase::Starting;
                Some(Action::Spawn)
            }
            (Event::Unhealthy, _) => {
                self.healthy_since = None;
                None
            }
            _ => None,
        }
    }

    /// Compares what is wanted with what is.
    fn pursue(&mut self, at: Duration) -> Option<Action> {
        match (&self.goal, self.phase) {
            (Some(Goal::Run), Phase::Idle | Phase::Stopped) => {
                self.phase = Phase::Starting;
                Some(Action::Spawn)
            }
            (Some(Goal::Stop(_)), Phase::Running { .. }) => {
                self.phase = Phase::Stopping { since: at, killed: false };
                Some(Action::Term)
            }
            (Some(Goal::Stop(_)), Phase::Idle | Phase::Backoff { .. }) => {
                self.phase = Phase::Stopped;
                None
            }
            _ => None,
        }
    }

    /// What time alone brings about.
    fn due(&mut self, at: Duration, limits: &Limits) -> Option<Action> {
        match self.phase {
            Phase::Backoff { until } if at >= until => {
                self.phase = Phase::Starting;
                Some(Action::Spawn)
            }
            Phase::Stopping { since, killed: false } => {
                self.ignores_term |= at >= since + limits.term_patience.min(limits.grace);
                if at < since + limits.grace {
                    return None;
                }
                self.phase = Phase::Stopping { since, killed: true };
                Some(Action::Kill)
            }
            _ => None,
        }
    }

    fn started(&mut self, at: Duration) {
        self.restarts += u64::from(self.started);
        self.started = true;
        self.ignores_term = false;
        self.healthy_since = None;
        self.phase = Phase::Running { since: at };
    }

    fn note_exit(&mut self, at: Duration, limits: &Limits) {
        self.healthy_since = None;
        self.exits.push_back(at);
        self.exits.retain(|exit| at - *exit <= limits.crash_window);
        self.crash_loop |= self.exits.len() >= limits.crash_exits;
    }

    fn back_off(&mut self, now: Now, limits: &Limits) {
        let wait = backoff(self.attempt, self.crash_loop, now.jitter, limits);
        self.attempt = self.attempt.saturating_add(1);
        self.phase = Phase::Backoff { until: now.at + wait };
    }

    /// Long health wipes out the past.
    fn forgive(&mut self, at: Duration, limits: &Limits) {
        let long = |since| at >= since + limits.healthy_reset;
        if self.healthy_since.is_some_and(long) {
            self.attempt = 0;
            self.exits.clear();
            self.crash_loop = false;
        }
    }
}

/// The wait before the next start: doubled with each failure, from half of that to one and a half, so that the
/// nodes of a forest do not start in step; a crash loop waits about the longest time at once.
fn backoff(attempt: u32, crash_loop: bool, jitter: f64, limits: &Limits) -> Duration {
    let doubled = 2u32.saturating_pow(attempt);
    let base = limits.backoff_first.saturating_mul(doubled).min(limits.backoff_max);
    let base = if crash_loop { limits.backoff_max } else { base };
    base.mul_f64(0.5 + jitter.clamp(0.0, 1.0)).clamp(limits.backoff_first, limits.backoff_max)
}
