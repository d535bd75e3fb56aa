//! The rate budget: a project has so many requests an hour, which come back one by one. Pure.

use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;

/// What is left of it, as the last answer said; nothing is known before the first.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Budget {
    limit: u32,
    remaining: u32,
    /// When the last of the reserved requests goes out.
    last: Option<Instant>,
}

impl Budget {
    /// Takes up what the headers of an answer say.
    pub(super) fn note(&mut self, headers: &HeaderMap) {
        let number = |name| headers.get(name)?.to_str().ok()?.trim().parse().ok();
        if let (Some(limit), Some(remaining)) = (number("ratelimit-limit"), number("ratelimit-remaining")) {
            (self.limit, self.remaining) = (limit, remaining);
        }
    }

    /// How long the next request waits. While there is plenty: not at all. When less than a twentieth is left,
    /// requests go out only as fast as they come back, so that other programs of the project find some too.
    pub(super) fn reserve(&mut self, now: Instant) -> Duration {
        if self.limit == 0 || self.remaining > self.limit / 20 {
            return Duration::ZERO;
        }
        let refill = Duration::from_secs(3600) / self.limit;
        let next = self.last.map_or(now, |last| (last + refill).max(now));
        self.last = Some(next);
        next - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(limit: &'static str, remaining: &'static str) -> HeaderMap {
        let pair = |name: &'static str, value: &'static str| (name.parse().unwrap(), value.parse().unwrap());
        [pair("ratelimit-limit", limit), pair("ratelimit-remaining", remaining)].into_iter().collect()
    }

    #[test]
    fn a_nearly_empty_budget_is_spent_as_fast_as_it_fills() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        assert_eq!(budget.reserve(now), Duration::ZERO, "nothing is known");
        budget.note(&headers("3600", "3599"));
        assert_eq!(budget.reserve(now), Duration::ZERO, "plenty");
        budget.note(&headers("3600", "180"));
        let waits: Vec<u64> = (0..4).map(|_| budget.reserve(now).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 3]);
        assert_eq!(budget.reserve(now + Duration::from_secs(9)), Duration::ZERO, "the past is forgotten");
        budget.note(&headers("many", ""));
        assert_eq!(budget.reserve(now + Duration::from_secs(9)).as_secs(), 1, "nonsense changes nothing");
        budget.note(&headers("3600", "500"));
        assert_eq!(budget.reserve(now), Duration::ZERO);
    }
}
