//! Whose turn it is to join the group on an empty store, as this node has watched it, and when that one has had it
//! long enough. Pure.

use std::time::{Duration, Instant};

/// A node that cannot be reached for so long loses its turn.
const OUT_OF_REACH: Duration = Duration::from_secs(30);

/// So long one node has its turn at the most: one that runs and never joins, or whose agent died with its turn not
/// ended, must not keep all others out. A join takes seconds, and up to a minute on nats-server 2.9.
const LONGEST: Duration = Duration::from_secs(300);

/// A turn that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    node: String,
    since: Instant,
    lost: Option<Instant>,
}

impl Turn {
    /// What `before` comes to when at `now` it is `joining`'s turn, which `is_reached` or not.
    #[must_use]
    pub fn seen(before: Option<Self>, joining: Option<&str>, is_reached: bool, now: Instant) -> Option<Self> {
        let node = joining?;
        let same = before.filter(|turn| turn.node == node);
        let since = same.as_ref().map_or(now, |turn| turn.since);
        let lost = same.and_then(|turn| turn.lost).unwrap_or(now);
        Some(Self { node: node.to_owned(), since, lost: (!is_reached).then_some(lost) })
    }

    /// May another node take it?
    #[must_use]
    pub fn is_stale(&self, now: Instant) -> bool {
        let for_so_long = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        self.lost.is_some_and(|since| for_so_long(since, OUT_OF_REACH)) || for_so_long(self.since, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_stale_out_of_reach_or_in_the_end_and_each_begins_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(Turn::seen(None, None, true, start), None);
        let turn = Turn::seen(None, Some("n2"), false, start);
        let lost = Turn::seen(turn.clone(), Some("n2"), false, at(29)).unwrap();
        assert!(!lost.is_stale(at(29)) && lost.is_stale(at(30)));
        let back = Turn::seen(Some(lost), Some("n2"), true, at(29)).unwrap();
        assert!(!back.is_stale(at(299)) && back.is_stale(at(300)));
        let gone = Turn::seen(Some(back.clone()), Some("n2"), false, at(100)).unwrap();
        assert!(!gone.is_stale(at(129)) && gone.is_stale(at(130)));
        let next = Turn::seen(Some(back), Some("n3"), true, at(290)).unwrap();
        assert!(!next.is_stale(at(310)));
        assert_eq!(Turn::seen(Some(next), None, true, at(311)), None);
    }
}
