//! The convergence of a node, as a pure state machine.
//!
//! ```text
//!              PassDue                       Looked: stands
//!    resting ───────────► looking at a step ───────────────► the next step … ► resting
//!                              │ Looked: differs, and its time has come
//!                              ▼
//!                         Act(step) in the background; the pass goes on, and whatever
//!                         needs this step is held. Acted ► another pass
//! ```
//!
//! Level-triggered: every pass looks at every step again, whatever happened before. Nothing here waits, reads a
//! clock or touches the machine: time comes in with the events, effects go out as actions.

use std::time::{Duration, Instant};

use crate::driver::step::{Look, StepName};
use crate::fault::Fault;

/// The longest pause between two tries of a step that fails.
pub const SLOWEST_RETRY: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Time for a pass, or something changed that calls for one.
    PassDue,
    /// A look came back.
    Looked(StepName, Result<Look, Fault>),
    /// An act came back.
    Acted(StepName, Result<String, Fault>),
}

/// What the driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Compare what is with what should be.
    Look(StepName),
    /// Make it so.
    Act(StepName),
}

/// How a step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not looked at yet.
    Unknown,
    /// As it should be.
    Stands(String),
    /// Not as it should be, and an act is to put it right; the fault says what is missing.
    Due(Fault),
    /// Not as it should be, and it cannot be put right for now; the fault says what failed.
    Differs(Fault),
    /// Not looked at, because the named step does not stand.
    Held(StepName),
}

/// One step's record.
#[derive(Debug, Clone)]
pub struct StepRecord {
    /// How it stands.
    pub standing: Standing,
    /// When that was last seen.
    pub seen: Option<Instant>,
    /// Is its act under way?
    pub acting: bool,
    /// What stands is the fault of an act, which says more than what a look finds: it stays until an act ends.
    act_failed: bool,
    failures: u32,
    retry_at: Option<Instant>,
}

/// The whole machine.
#[derive(Debug, Clone)]
pub struct Machine {
    records: Vec<(StepName, StepRecord)>,
    cursor: Option<usize>,
    again: bool,
    first_retry: Duration,
}

impl Machine {
    /// A machine that has seen nothing, for these steps in this order; a failed act is tried again after
    /// `first_retry`, then twice as long, up to [`SLOWEST_RETRY`].
    #[must_use]
    pub fn new(steps: &[StepName], first_retry: Duration) -> Self {
        let record = StepRecord {
            standing: Standing::Unknown,
            seen: None,
            acting: false,
            act_failed: false,
            failures: 0,
            retry_at: None,
        };
        let records = steps.iter().map(|step| (*step, record.clone())).collect();
        Self { records, cursor: None, again: false, first_retry }
    }

    /// Takes in an event at `now` and says what to do. `jitter` in 0..1 spreads the retries of many nodes.
    pub fn step(&mut self, event: Event, now: Instant, jitter: f64) -> Vec<Action> {
        match event {
            Event::PassDue if self.cursor.is_some() => {
                self.again = true;
                Vec::new()
            }
            Event::PassDue => self.look_from(0, now),
            Event::Looked(step, result) => self.looked(step, result, now),
            Event::Acted(step, result) => self.acted(step, result, now, jitter),
        }
    }

    /// Is a pass under way?
    #[must_use]
    pub fn in_pass(&self) -> bool {
        self.cursor.is_some()
    }

    /// The record of `step`, if the machine has it.
    #[must_use]
    pub fn record(&self, step: StepName) -> Option<&StepRecord> {
        self.records.iter().find(|(name, _)| *name == step).map(|(_, record)| record)
    }

    /// Does `step` stand? A step that this machine does not have holds nobody back.
    #[must_use]
    pub fn stands(&self, step: StepName) -> bool {
        self.record(step).is_none_or(|record| matches!(record.standing, Standing::Stands(_)))
    }

    /// The first step that does not stand; `None` where the node has converged.
    #[must_use]
    pub fn current(&self) -> Option<StepName> {
        self.records
            .iter()
            .find(|(_, record)| !matches!(record.standing, Standing::Stands(_)))
            .map(|(step, _)| *step)
    }

    fn index(&self, step: StepName) -> Option<usize> {
        self.records.iter().position(|(name, _)| *name == step)
    }

    fn looked(&mut self, step: StepName, result: Result<Look, Fault>, now: Instant) -> Vec<Action> {
        let Some(index) = self.index(step) else {
            return Vec::new();
        };
        let record = &mut self.records[index].1;
        record.seen = Some(now);
        let mut actions = Vec::new();
        match result {
            Ok(Look::Stands(detail)) => {
                record.standing = Standing::Stands(detail);
                record.act_failed = false;
                record.failures = 0;
                record.retry_at = None;
            }
            Ok(Look::Differs(fault)) => {
                if !record.act_failed {
                    record.standing = Standing::Due(fault);
                }
                if record.retry_at.is_none_or(|at| now >= at) && !record.acting {
                    record.acting = true;
                    actions.push(Action::Act(step));
                }
            }
            Err(fault) => {
                record.standing = Standing::Differs(fault);
                record.act_failed = false;
            }
        }
        if self.cursor == Some(index) {
            actions.extend(self.look_from(index + 1, now));
        }
        actions
    }

    fn acted(
        &mut self,
        step: StepName,
        result: Result<String, Fault>,
        now: Instant,
        jitter: f64,
    ) -> Vec<Action> {
        let first_retry = self.first_retry;
        let Some(index) = self.index(step) else {
            return Vec::new();
        };
        let record = &mut self.records[index].1;
        record.acting = false;
        match result {
            Ok(_) => {
                // Only a look can say that it stands. An act that claims success and changes nothing must not spin.
                record.act_failed = false;
                record.failures = record.failures.saturating_add(1);
                record.retry_at = Some(now + if record.failures > 3 { first_retry } else { Duration::ZERO });
            }
            Err(fault) => {
                record.standing = Standing::Differs(fault);
                record.act_failed = true;
                record.seen = Some(now);
                record.failures = record.failures.saturating_add(1);
                record.retry_at = Some(now + retry_delay(first_retry, record.failures, jitter));
                return Vec::new();
            }
        }
        self.step(Event::PassDue, now, jitter)
    }

    /// Looks at the first step from `index` on that nothing holds back; the end of the list ends the pass.
    fn look_from(&mut self, mut index: usize, now: Instant) -> Vec<Action> {
        while let Some((step, _)) = self.records.get(index) {
            let step = *step;
            let Some(holder) = step.needs().iter().copied().find(|needed| !self.stands(*needed)) else {
                self.cursor = Some(index);
                return vec![Action::Look(step)];
            };
            let record = &mut self.records[index].1;
            record.standing = Standing::Held(holder);
            // Once nothing holds it any more it is tried at once.
            record.act_failed = false;
            record.failures = 0;
            record.retry_at = None;
            record.seen = Some(now);
            index += 1;
        }
        self.cursor = None;
        if std::mem::take(&mut self.again) { self.look_from(0, now) } else { Vec::new() }
    }
}

/// `first`, doubled with each failure, up to [`SLOWEST_RETRY`], and up to a quarter less by jitter.
fn retry_delay(first: Duration, failures: u32, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(SLOWEST_RETRY).mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use forest_core::reason::Reason;
    use proptest::prelude::*;

    use super::*;

    fn differs() -> Look {
        Look::Differs(Fault::new(Reason::EntryMissing, "not there yet"))
    }

    fn fault() -> Fault {
        Fault::new(Reason::ShareUnreachable, "no answer")
    }

    fn machine() -> Machine {
        Machine::new(&StepName::ALL, Duration::from_secs(5))
    }

    /// Runs a pass in which `world` answers the looks; returns the acts asked for.
    fn pass(
        machine: &mut Machine,
        now: Instant,
        mut world: impl FnMut(StepName) -> Result<Look, Fault>,
    ) -> Vec<StepName> {
        let mut actions = machine.step(Event::PassDue, now, 0.0);
        let mut acts = Vec::new();
        while let Some(action) = actions.pop() {
            match action {
                Action::Look(step) => {
                    let result = world(step);
                    actions.extend(machine.step(Event::Looked(step, result), now, 0.0));
                }
                Action::Act(step) => acts.push(step),
            }
        }
        assert!(!machine.in_pass(), "every pass ends");
        acts
    }

    #[test]
    fn a_failing_share_holds_the_entry_and_not_the_engine() {
        let mut machine = machine();
        let now = Instant::now();
        let acts = pass(&mut machine, now, |step| {
            if step == StepName::Share { Err(fault()) } else { Ok(Look::Stands(String::new())) }
        });
        assert_eq!(acts, []);
        assert_eq!(machine.record(StepName::Registry).unwrap().standing, Standing::Held(StepName::Share));
        assert!(machine.stands(StepName::Engine));
        assert_eq!(machine.current(), Some(StepName::Share));
    }

    #[test]
    fn a_failed_act_is_tried_again_later_and_its_fault_stays_in_between() {
        let mut machine = machine();
        let start = Instant::now();
        let world = |step| {
            if step == StepName::Share { Ok(differs()) } else { Ok(Look::Stands(String::new())) }
        };
        assert_eq!(pass(&mut machine, start, world), [StepName::Share]);
        machine.step(Event::Acted(StepName::Share, Err(fault())), start, 0.0);
        assert_eq!(pass(&mut machine, start + Duration::from_secs(4), world), []);
        assert_eq!(machine.record(StepName::Share).unwrap().standing, Standing::Differs(fault()));
        // Nor does the next try take it away: only its end does.
        assert_eq!(pass(&mut machine, start + Duration::from_secs(5), world), [StepName::Share]);
        let standing = |machine: &Machine| machine.record(StepName::Share).unwrap().standing.clone();
        assert_eq!(standing(&machine), Standing::Differs(fault()));
        assert_eq!(pass(&mut machine, start + Duration::from_secs(6), world), []);
        assert_eq!(standing(&machine), Standing::Differs(fault()));
        machine.step(Event::Acted(StepName::Share, Ok(String::new())), start + Duration::from_secs(7), 0.0);
        assert!(machine.in_pass());
        machine.step(Event::Looked(StepName::Address, Err(fault())), start, 0.0);
        machine.step(Event::Looked(StepName::Share, Ok(differs())), start, 0.0);
        assert!(matches!(standing(&machine), Standing::Due(_)), "{:?}", standing(&machine));
    }

    #[test]
    fn an_act_under_way_is_not_started_twice() {
        let mut machine = machine();
        let now = Instant::now();
        let world = |step| {
            if step == StepName::Registry { Ok(differs()) } else { Ok(Look::Stands(String::new())) }
        };
        assert_eq!(pass(&mut machine, now, world), [StepName::Registry]);
        assert_eq!(pass(&mut machine, now, world), []);
    }

    #[test]
    fn retries_slow_down_and_stay_bounded() {
        let first = Duration::from_secs(5);
        assert_eq!(retry_delay(first, 1, 0.0), Duration::from_secs(5));
        assert_eq!(retry_delay(first, 3, 0.0), Duration::from_secs(20));
        assert_eq!(retry_delay(first, 500, 0.0), SLOWEST_RETRY);
        assert_eq!(retry_delay(first, 500, 1.0), SLOWEST_RETRY.mul_f64(0.75));
    }

    #[derive(Debug, Clone)]
    enum Answer {
        Stands,
        Differs,
        Fails,
    }

    fn answers() -> impl Strategy<Value = Vec<Answer>> {
        let one = prop_oneof![Just(Answer::Stands), Just(Answer::Differs), Just(Answer::Fails)];
        proptest::collection::vec(one, StepName::ALL.len())
    }

    proptest! {
        /// Whatever the steps say, and whether acts come back well, badly or late: a pass ends, no step that
        /// needs one that does not stand is touched, and no act runs twice at once.
        #[test]
        fn order_and_needs_are_kept(
            rounds in proptest::collection::vec((answers(), any::<u8>(), 0u64..90), 1..30)
        ) {
            let mut machine = machine();
            let mut now = Instant::now();
            let mut running: Vec<StepName> = Vec::new();
            for (answers, how, wait) in rounds {
                now += Duration::from_secs(wait);
                let mut stood: Vec<StepName> = Vec::new();
                let acts = pass(&mut machine, now, |step| {
                    for needed in step.needs() {
                        assert!(stood.contains(needed), "{step:?} was looked at without {needed:?}");
                    }
                    match answers[StepName::ALL.iter().position(|s| *s == step).unwrap()] {
                        Answer::Stands => { stood.push(step); Ok(Look::Stands(String::new())) }
                        Answer::Differs => Ok(differs()),
                        Answer::Fails => Err(fault()),
                    }
                });
                for act in acts {
                    prop_assert!(!running.contains(&act));
                    running.push(act);
                }
                if how % 3 != 0 {
                    for step in running.drain(..) {
                        let result = if how % 3 == 1 { Ok(String::new()) } else { Err(fault()) };
                        let mut actions = machine.step(Event::Acted(step, result), now, 0.5);
                        while let Some(action) = actions.pop() {
                            if let Action::Look(step) = action {
                                actions.extend(machine.step(Event::Looked(step, Err(fault())), now, 0.5));
                            }
                        }
                    }
                }
            }
        }
    }
}
