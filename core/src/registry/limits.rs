//! How long each wait of the algorithm lasts.

use std::time::Duration;

/// The algorithm's limits; the default is what programs use, tests use shorter ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long to stand in the queue before going on without it.
    pub queue_wait: Duration,
    /// How long the queue is left out once it was not had in time.
    pub queue_out: Duration,
    /// How long after taking the lease its holder may still commit.
    pub hold: Duration,
    /// How long a lease, or the same bad bytes, must stand unchanged before they count as left behind. Well
    /// above `hold`.
    pub stale: Duration,
    /// How long an update tries in all. Above `stale`.
    pub give_up: Duration,
    /// How long bad bytes may be a torn read.
    pub torn: Duration,
    /// The first pause between two looks.
    pub retry_min: Duration,
    /// The longest pause between two looks.
    pub retry_max: Duration,
    /// The age at which files left behind by a dead holder are cleared away.
    pub stranded: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_wait: Duration::from_secs(5),
            queue_out: Duration::from_secs(300),
            hold: Duration::from_secs(10),
            stale: Duration::from_secs(60),
            give_up: Duration::from_secs(120),
            torn: Duration::from_secs(2),
            retry_min: Duration::from_millis(10),
            retry_max: Duration::from_millis(500),
            stranded: Duration::from_secs(24 * 3600),
        }
    }
}
