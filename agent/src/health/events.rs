//! The last state changes, for `/events`: what changed, when, and why.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

/// How many changes are kept.
const KEPT: usize = 100;

/// One state change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventRecord {
    /// RFC 3339.
    pub time: String,
    /// The step or the check's key.
    pub step: String,
    /// `pass`, `warn`, `fail`, or a word of the step's own (`ready`, `reload`, `stopping`).
    pub status: String,
    /// The stable code, where there is one.
    pub reason: Option<&'static str>,
    /// A sentence.
    pub message: String,
}

/// A ring of the last hundred changes, oldest first; a clone shares it.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<VecDeque<EventRecord>>);

impl Events {
    /// Adds a change, dated now; the oldest makes room.
    pub fn push(&mut self, step: &str, status: &str, reason: Option<&'static str>, message: &str) {
        let ring = Arc::make_mut(&mut self.0);
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(EventRecord {
            time: forest_core::time::rfc3339(Timestamp::now()),
            step: step.to_owned(),
            status: status.to_owned(),
            reason,
            message: message.to_owned(),
        });
    }

    /// All that are kept, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<EventRecord> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut events = Events::default();
        for n in 0..=KEPT {
            events.push("share", "pass", None, &n.to_string());
        }
        let all = events.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].message, "1");
        assert_eq!(all[KEPT - 1].message, KEPT.to_string());
    }
}
