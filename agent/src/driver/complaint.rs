//! What a running engine complains of, for as long as it is news: a store that was full for a moment serves again,
//! and the line that said so stays among the last ones. Pure.

use std::time::{Duration, Instant};

use forest_core::reason::Reason;

use crate::engine::diagnose::trouble;
use crate::fault::Fault;
use crate::settings::EngineKind;

/// How long a line counts after it was first seen. Its own stamp is not asked: it is in a time zone that the line
/// does not tell.
const NEWS: Duration = Duration::from_secs(300);

/// The latest complaint.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    latest: Option<Complaint>,
    full: bool,
}

#[derive(Debug)]
struct Complaint {
    line: String,
    seen: Instant,
    fault: Fault,
}

impl Complaints {
    /// Takes in the engine's last lines; the same line again is the same complaint. Is there one?
    pub(super) fn heed(&mut self, kind: EngineKind, tail: &[String], now: Instant) -> bool {
        self.latest = trouble(kind, tail).map(|(fault, line)| match self.latest.take() {
            Some(known) if known.line == line => known,
            _ => Complaint { line: line.to_owned(), seen: now, fault },
        });
        self.latest.is_some()
    }

    /// Takes in whether the store's file system is all but full.
    pub(super) fn store_is_full(&mut self, full: bool) {
        self.full = full;
    }

    /// What is to be said of it now.
    pub(super) fn fault(&self, now: Instant) -> Option<&Fault> {
        let Complaint { seen, fault, .. } = self.latest.as_ref()?;
        let lasts = self.full && fault.reason == Reason::EngineStore;
        (lasts || now.saturating_duration_since(*seen) < NEWS).then_some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_ends_with_its_cause() {
        let start = Instant::now();
        let tail = vec!["[7] 2026/11/22 20:00:00.000000 [ERR] write: no space left on device".to_owned()];
        let mut complaints = Complaints::default();
        assert!(complaints.heed(EngineKind::NatsServer, &tail, start));
        assert_eq!(complaints.fault(start).unwrap().reason, Reason::EngineStore);
        // The same line later is no news, and a full store goes on being one.
        assert!(complaints.heed(EngineKind::NatsServer, &tail, start + NEWS));
        assert_eq!(complaints.fault(start + NEWS), None);
        complaints.store_is_full(true);
        assert!(complaints.fault(start + NEWS).is_some());
        complaints.store_is_full(false);
        // Another line is.
        let again = vec![tail[0].replace("20:00", "20:30")];
        complaints.heed(EngineKind::NatsServer, &again, start + NEWS);
        assert!(complaints.fault(start + NEWS).is_some());
        assert!(!complaints.heed(EngineKind::NatsServer, &[], start + NEWS));
        assert_eq!(complaints.fault(start + NEWS), None);
    }
}
