//! Waiting on a condition: with a bound that only says "it hangs", never "it is slow".

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// The bound of every wait: far beyond what any machine needs, so that reaching it means a hang.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `condition` gives something.
///
/// # Panics
/// After [`PATIENCE`], naming `what` and the caller.
#[track_caller]
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {} s in vain until {what}", PATIENCE.as_secs());
        pause();
    }
}

/// Looks until `look` gives a value that satisfies `condition`; the panic shows the last one.
///
/// # Panics
/// After [`PATIENCE`].
#[track_caller]
pub fn until_value<T: Debug>(what: &str, mut look: impl FnMut() -> T, condition: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let value = look();
        if condition(&value) {
            return value;
        }
        let seconds = PATIENCE.as_secs();
        assert!(start.elapsed() < PATIENCE, "waited {seconds} s in vain until {what}; it is {value:#?}");
        pause();
    }
}

/// The pause of a poll, in one place: nothing else in the tests sleeps.
#[expect(clippy::disallowed_methods, reason = "polling a condition, with a bound")]
pub fn pause() {
    std::thread::sleep(PAUSE);
}

/// Lets a random time of at most `longest` pass: for killing something at a moment nobody chose.
pub fn random_moment(longest: Duration) {
    moment(longest.mul_f64(rand::random::<f64>()));
}

/// Lets this much time pass: for a fault at a certain moment.
#[expect(clippy::disallowed_methods, reason = "the moment of a fault is the point; nothing is waited for")]
pub fn moment(after: Duration) {
    std::thread::sleep(after);
}
