//! The report, made from a snapshot at the moment somebody asks: pure, so that an answer never waits.

use std::net::IpAddr;
use std::time::Instant;

use forest_core::health::{Check, Checks, EngineReport, HealthReport, PeerReport, Status};
use forest_core::reason::Reason;
use forest_core::time::rfc3339;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::health::{Finding, Observed, Snapshot};
use crate::probe::LONGEST_LOOK;

/// How many intervals a finding lives, beside the time that a look may take by itself.
const STALE_AFTER: u32 = 3;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// This host or a peer: sees all.
    Trusted,
    /// Anybody else: no log lines, no addresses of other nodes.
    Stranger,
}

impl Audience {
    /// Who `ip` is, by the peers of `snapshot`.
    #[must_use]
    pub fn of(ip: IpAddr, snapshot: &Snapshot) -> Self {
        let ip = ip.to_canonical();
        let own = snapshot.address.is_some_and(|address| address.ip() == ip);
        let trusted = own || ip.is_loopback() || snapshot.peer_ips.contains(&ip);
        if trusted { Self::Trusted } else { Self::Stranger }
    }
}

/// The body of /health for `audience`, at `now` (and `wall`, the same moment as people count it).
#[must_use]
pub fn report(snapshot: &Snapshot, audience: Audience, now: Instant, wall: Timestamp) -> HealthReport {
    let checks = checks(snapshot, audience, now, wall);
    HealthReport {
        status: checks.verdict(),
        version: "1".to_owned(),
        release_id: env!("CARGO_PKG_VERSION").to_owned(),
        service_id: snapshot.node.to_string(),
        forest_id: snapshot.forest.to_string(),
        node_id: snapshot.node.to_string(),
        address: snapshot.address.map(|address| address.to_string()),
        uptime_seconds: now.saturating_duration_since(snapshot.started).as_secs(),
        step: snapshot.step.to_owned(),
        engine: engine(snapshot, audience),
        rotation: snapshot.rotation,
        checks,
    }
}

fn engine(snapshot: &Snapshot, audience: Audience) -> EngineReport {
    let engine = &snapshot.engine;
    EngineReport {
        kind: engine.kind.to_owned(),
        version: engine.version.clone(),
        pid: engine.pid,
        restarts: engine.restarts,
        last_exit: engine.last_exit.clone(),
        log_tail: match audience {
            Audience::Trusted => engine.log_tail.to_vec(),
            Audience::Stranger => Vec::new(),
        },
    }
}

fn checks(snapshot: &Snapshot, audience: Audience, now: Instant, wall: Timestamp) -> Checks {
    let limit = snapshot.interval * STALE_AFTER + LONGEST_LOOK;
    let make = |finding: &Finding, unit: &str, fatal: bool| {
        let age = finding.at.map(|at| now.saturating_duration_since(at));
        let time = age.and_then(|age| SignedDuration::try_from(age).ok()).map_or(wall, |age| wall - age);
        let output = match (audience, &finding.public) {
            (Audience::Stranger, Some(public)) => public,
            _ => &finding.output,
        };
        let mut check = Check {
            status: finding.status,
            time: rfc3339(time),
            observed_value: value(finding.observed, now),
            observed_unit: unit.to_owned(),
            output: output.clone(),
            reason: finding.reason.map(|reason| reason.code().to_owned()),
            peers: finding.peers.as_ref().map(|peers| peer_reports(peers, audience)),
        };
        if let Some(age) = age.filter(|age| *age > limit) {
            check.status = if fatal { Status::Fail } else { check.status.max(Status::Warn) };
            check.reason = Some(Reason::Stale.code().to_owned());
            check.output = format!("last looked at {} s ago; it said: {}", age.as_secs(), output);
        }
        [check]
    };
    let findings = &snapshot.findings;
    Checks {
        engine_process: make(&findings.engine_process, "pid", true),
        nats_server: make(&findings.nats_server, "ms", true),
        nats_jetstream: make(&findings.nats_jetstream, "nodes", false),
        peers_reachable: make(&findings.peers_reachable, "peers", false),
        registry_entry: make(&findings.registry_entry, "s", false),
        share_mounted: make(&findings.share_mounted, "ms", false),
        firewall_rules: make(&findings.firewall_rules, "rules", false),
    }
}

fn value(observed: Observed, now: Instant) -> Value {
    match observed {
        Observed::Nothing => Value::Null,
        Observed::Count(count) => count.into(),
        Observed::Millis(ms) => ((ms * 1000.0).round() / 1000.0).into(),
        Observed::Since(at) => now.saturating_duration_since(at).as_secs().into(),
    }
}

fn peer_reports(peers: &[crate::health::Peer], audience: Audience) -> Vec<PeerReport> {
    peers
        .iter()
        .map(|peer| PeerReport {
            node_id: peer.node.clone(),
            address: (audience == Audience::Trusted).then(|| peer.address.clone()),
            tcp: peer.tcp,
            route: peer.route,
            error: peer.error.clone(),
        })
        .collect()
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
