//! Time as the algorithm sees it, behind a trait, so that a stale limit costs a test no time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The three things the algorithm asks of time.
pub trait Clock: Send + Sync {
    /// Time since boot, suspension included: a host that slept has let its lease pass, and must know it.
    fn boottime(&self) -> Duration;
    /// The time of day, for what people read.
    fn now(&self) -> Timestamp;
    /// Waits.
    fn sleep(&self, span: Duration);
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boottime(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        )
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the Clock that everybody else goes through")]
    fn sleep(&self, span: Duration) {
        std::thread::sleep(span);
    }
}

/// A clock for tests: it stands still but for its sleeps, which take no time.
#[derive(Debug)]
pub struct VirtualClock {
    elapsed: Mutex<Duration>,
    begun: Timestamp,
}

impl VirtualClock {
    /// A clock that shows `begun`.
    #[must_use]
    pub fn new(begun: Timestamp) -> Self {
        Self { elapsed: Mutex::new(Duration::ZERO), begun }
    }

    /// Lets `span` pass.
    pub fn advance(&self, span: Duration) {
        *self.elapsed() += span;
    }

    fn elapsed(&self) -> MutexGuard<'_, Duration> {
        self.elapsed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for VirtualClock {
    fn boottime(&self) -> Duration {
        *self.elapsed()
    }

    fn now(&self) -> Timestamp {
        self.begun + *self.elapsed()
    }

    fn sleep(&self, span: Duration) {
        self.advance(span);
    }
}

/// Pauses that grow from `min` to `max`, each spread from half to one and a half of its length, so that waiters
/// do not look in step.
pub(super) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { next: min, max }
    }

    /// Waits the next pause.
    pub(super) fn wait(&mut self, clock: &dyn Clock) {
        clock.sleep(self.next.mul_f64(rand::random_range(0.5..1.5)));
        self.next = (self.next * 2).min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_take_no_real_time() {
        let clock = VirtualClock::new(Timestamp::UNIX_EPOCH);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4));
        let mut last = Duration::ZERO;
        for limit in [1, 2, 4, 4] {
            backoff.wait(&clock);
            let pause = clock.boottime() - last;
            last = clock.boottime();
            assert!(pause * 2 >= Duration::from_secs(limit) && pause * 2 <= Duration::from_secs(3 * limit));
        }
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH + last);
    }

    #[test]
    fn the_systems_clock_runs() {
        let before = SystemClock.boottime();
        SystemClock.sleep(Duration::from_millis(1));
        assert!(SystemClock.boottime() >= before + Duration::from_millis(1));
    }
}
