//! The machine in a small world of its own: a process that is there or not, and a clock.

use proptest::prelude::*;

use super::*;

/// What a random world does next.
#[derive(Debug, Clone, Copy)]
enum Happening {
    WantRun,
    WantStop,
    SpawnWorks,
    SpawnFails,
    Dies,
    Healthy,
    Unhealthy,
    Retry,
    Nothing,
}

/// The machine and the one process there may be.
struct World {
    limits: Limits,
    state: State,
    at: Duration,
    asked: bool,
    alive: bool,
    termed: bool,
    killed: bool,
    /// Exits that were not wanted, and long health, as an independent account of the crash loop.
    exits: Vec<Duration>,
    healthy_since: Option<Duration>,
    looped: bool,
}

impl World {
    fn new() -> Self {
        Self {
            limits: Limits::default(),
            state: State::default(),
            at: Duration::ZERO,
            asked: false,
            alive: false,
            termed: false,
            killed: false,
            exits: Vec::new(),
            healthy_since: None,
            looped: false,
        }
    }

    fn feed(&mut self, event: Event, jitter: f64) {
        let before = self.state.phase;
        let state = std::mem::take(&mut self.state);
        let now = Now { at: self.at, jitter };
        let (state, actions) = step(state, event, now, &self.limits);
        self.state = state;
        for action in actions {
            self.act(action);
        }
        self.check_backoff(before);
        assert_eq!(self.asked, self.state.phase == Phase::Starting);
        let lives = matches!(self.state.phase, Phase::Running { .. } | Phase::Stopping { .. });
        assert_eq!(self.alive, lives);
        assert_eq!(self.state.crash_loop, self.looped);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn => {
                assert!(!self.alive && !self.asked, "a second process was asked for");
                self.asked = true;
            }
            Action::Term => {
                assert!(self.alive && !self.termed);
                self.termed = true;
            }
            Action::Kill => {
                assert!(self.alive && self.termed && !self.killed);
                self.killed = true;
            }
        }
    }

    fn check_backoff(&self, before: Phase) {
        if let Phase::Backoff { until } = self.state.phase
            && before != self.state.phase
        {
            let wait = until - self.at;
            assert!(wait >= self.limits.backoff_first && wait <= self.limits.backoff_max);
            let slow = wait >= self.limits.backoff_max / 2;
            assert!(slow || !self.state.crash_loop, "a crash loop was tried on fast");
        }
    }

    fn account(&mut self, event: &Event) {
        let running = matches!(self.state.phase, Phase::Running { .. });
        let reset = self.limits.healthy_reset;
        if self.healthy_since.is_some_and(|since| self.at - since >= reset) {
            self.exits.clear();
            self.looped = false;
        }
        match event {
            Event::Exited if running => {
                self.exits.push(self.at);
                let recent = |exit: &&Duration| self.at - **exit <= self.limits.crash_window;
                self.looped |= self.exits.iter().filter(recent).count() >= self.limits.crash_exits;
                self.healthy_since = None;
            }
            Event::Healthy if running => drop(self.healthy_since.get_or_insert(self.at)),
            Event::Exited | Event::Unhealthy => self.healthy_since = None,
            Event::Want(_) | Event::Spawned | Event::SpawnFailed => {}
            Event::Adopted | Event::Healthy | Event::Retry | Event::Tick => {}
        }
    }

    fn happen(&mut self, happening: Happening, jitter: f64) {
        let event = match happening {
            Happening::WantRun => Event::Want(Goal::Run),
            Happening::WantStop => Event::Want(Goal::Stop("test".to_owned())),
            Happening::SpawnWorks if self.asked => {
                (self.asked, self.alive) = (false, true);
                (self.termed, self.killed) = (false, false);
                Event::Spawned
            }
            Happening::SpawnFails if self.asked => {
                self.asked = false;
                Event::SpawnFailed
            }
            Happening::Dies if self.alive => {
                self.alive = false;
                Event::Exited
            }
            Happening::Healthy => Event::Healthy,
            Happening::Unhealthy => Event::Unhealthy,
            Happening::Retry => Event::Retry,
            _ => Event::Tick,
        };
        self.account(&event);
        self.feed(event, jitter);
    }

    /// A process that only KILL ends, ticks at each deadline.
    fn run_to_rest(&mut self) {
        for _ in 0..8 {
            if self.asked {
                self.happen(Happening::SpawnWorks, 0.5);
            } else if self.killed && self.alive {
                self.happen(Happening::Dies, 0.5);
            } else if let Some(deadline) = self.state.deadline(&self.limits) {
                self.at = self.at.max(deadline);
                self.happen(Happening::Nothing, 0.5);
            } else {
                return;
            }
        }
        panic!("no rest: {:?}", self.state);
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => Just(Happening::WantRun),
        1 => Just(Happening::WantStop),
        5 => Just(Happening::SpawnWorks),
        1 => Just(Happening::SpawnFails),
        5 => Just(Happening::Dies),
        2 => Just(Happening::Healthy),
        1 => Just(Happening::Unhealthy),
        1 => Just(Happening::Retry),
        4 => Just(Happening::Nothing),
    ]
}

fn life() -> impl Strategy<Value = Vec<(Happening, u64, f64)>> {
    let pause = prop_oneof![0u64..2_000, 0u64..70_000];
    prop::collection::vec((happening(), pause, 0.0..=1.0), 1..120)
}

proptest! {
    #[test]
    fn never_two_processes_backoff_bounded_crash_loop_exact(life in life()) {
        let mut world = World::new();
        for (happening, pause, jitter) in life {
            world.at += Duration::from_millis(pause);
            world.happen(happening, jitter);
        }
    }

    #[test]
    fn every_wanted_stop_ends_in_stopped(life in life()) {
        let mut world = World::new();
        for (happening, pause, jitter) in life {
            world.at += Duration::from_millis(pause);
            world.happen(happening, jitter);
        }
        world.happen(Happening::WantStop, 0.5);
        world.run_to_rest();
        prop_assert_eq!(world.state.phase, Phase::Stopped);
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn waits_double_and_long_health_resets_them() {
    let mut world = World::new();
    world.happen(Happening::WantRun, 0.5);
    let mut waits = Vec::new();
    for _ in 0..8 {
        world.happen(Happening::SpawnFails, 0.5);
        let Phase::Backoff { until } = world.state.phase else { panic!("{:?}", world.state) };
        waits.push((until - world.at).as_secs());
        world.at = until;
        world.happen(Happening::Nothing, 0.5);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert!(!world.state.crash_loop, "a refused spawn is no exit");

    world.happen(Happening::SpawnWorks, 0.5);
    world.happen(Happening::Healthy, 0.5);
    assert_eq!(world.state.deadline(&world.limits), Some(world.at + secs(60)));
    world.at += secs(60);
    world.happen(Happening::Nothing, 0.5);
    assert_eq!(world.state.attempt, 0);
}

#[test]
fn a_term_unanswered_is_flagged_before_the_kill_and_until_the_next_start() {
    let mut world = World::new();
    world.happen(Happening::WantRun, 0.5);
    world.happen(Happening::SpawnWorks, 0.5);
    world.happen(Happening::WantStop, 0.5);
    world.at += world.limits.term_patience;
    world.happen(Happening::Nothing, 0.5);
    assert!(world.state.ignores_term && !world.killed);
    world.at += world.limits.grace;
    world.happen(Happening::Nothing, 0.5);
    assert!(world.killed);
    world.happen(Happening::Dies, 0.5);
    assert_eq!(world.state.phase, Phase::Stopped);
    assert!(world.state.ignores_term);
    world.happen(Happening::WantRun, 0.5);
    world.happen(Happening::SpawnWorks, 0.5);
    assert!(!world.state.ignores_term);
}

#[test]
fn wanted_again_while_it_stops_it_starts_once_it_is_gone() {
    let mut world = World::new();
    for happening in [Happening::WantRun, Happening::SpawnWorks, Happening::WantStop] {
        world.happen(happening, 0.5);
    }
    world.happen(Happening::WantRun, 0.5);
    assert!(matches!(world.state.phase, Phase::Stopping { .. }));
    world.happen(Happening::Dies, 0.5);
    assert_eq!(world.state.phase, Phase::Starting);
}

#[test]
fn a_found_child_is_left_as_it_is_until_something_is_wanted() {
    let mut world = World::new();
    world.alive = true;
    world.feed(Event::Adopted, 0.5);
    assert!(matches!(world.state.phase, Phase::Running { .. }));
    world.happen(Happening::WantRun, 0.5);
    assert_eq!(world.state.restarts, 0);
    world.happen(Happening::WantStop, 0.5);
    assert!(world.termed);
}
