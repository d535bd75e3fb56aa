use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::fault::Fault;
use crate::health::{EngineView, Events, Findings, Peer};

fn snapshot(now: Instant) -> Snapshot {
    let pass = |observed| Finding::pass(observed, "fine", now);
    Snapshot {
        forest: "grove".parse().unwrap(),
        node: "grove-node-1".parse().unwrap(),
        instance: "i".into(),
        started: now,
        interval: Duration::from_secs(5),
        beat: now,
        address: Some("fd00::2".parse().unwrap()),
        step: "ready",
        engine: EngineView {
            kind: "nats-server",
            log_tail: Arc::from(vec!["listening on 10.0.0.7".to_owned()]),
            ..EngineView::default()
        },
        findings: Findings {
            engine_process: pass(Observed::Count(4711)),
            nats_server: pass(Observed::Millis(0.512_345)),
            nats_jetstream: pass(Observed::Nothing),
            peers_reachable: Finding {
                peers: Some(vec![Peer {
                    node: "grove-node-2".to_owned(),
                    address: "fd00::3".to_owned(),
                    tcp: true,
                    route: true,
                    error: None,
                }]),
                ..pass(Observed::Count(1))
            },
            registry_entry: pass(Observed::Since(now)),
            share_mounted: pass(Observed::Nothing),
            firewall_rules: pass(Observed::Nothing),
        },
        peer_ips: Arc::from(vec!["fd00::3".parse().unwrap()]),
        rotation: None,
        events: Events::default(),
    }
}

fn wall() -> Timestamp {
    "2026-11-22T20:16:55Z".parse().unwrap()
}

#[test]
fn a_fresh_snapshot_passes() {
    let now = Instant::now();
    let report = report(&snapshot(now), Audience::Trusted, now + Duration::from_secs(2), wall());
    assert_eq!(report.status, Status::Pass);
    assert_eq!(report.checks.engine_process[0].observed_value, 4711);
    assert_eq!(report.checks.nats_server[0].observed_value, 0.512);
    assert_eq!(report.checks.registry_entry[0].observed_value, 2);
    assert_eq!(report.checks.registry_entry[0].time, "2026-11-22T20:16:53Z");
    assert!(report.checks.iter().iter().all(|(_, check)| check.reason.is_none()));
}

#[test]
fn what_is_older_than_three_intervals_and_a_look_is_stale_and_the_fatal_two_fail() {
    let now = Instant::now();
    let at = |seconds| report(&snapshot(now), Audience::Trusted, now + Duration::from_secs(seconds), wall());
    let limit = 15 + LONGEST_LOOK.as_secs();
    assert_eq!(at(limit).status, Status::Pass);
    let stale = at(limit + 1);
    assert_eq!(stale.status, Status::Fail);
    for (key, check) in stale.checks.iter() {
        assert_eq!(check.reason.as_deref(), Some("stale"), "{key}");
        let fatal = matches!(key, "engine:process" | "nats:server");
        assert_eq!(check.status, if fatal { Status::Fail } else { Status::Warn }, "{key}");
    }
}

#[test]
fn strangers_see_neither_log_lines_nor_addresses_of_peers() {
    let now = Instant::now();
    let snapshot = snapshot(now);
    let peers = |ip: &str| {
        let report = report(&snapshot, Audience::of(ip.parse().unwrap(), &snapshot), now, wall());
        (
            report.engine.log_tail.len(),
            report.checks.peers_reachable[0].peers.as_ref().unwrap()[0].address.is_some(),
        )
    };
    assert_eq!(peers("127.3.2.1"), (1, true));
    assert_eq!(peers("::ffff:127.0.0.1"), (1, true));
    assert_eq!(peers("fd00::3"), (1, true));
    assert_eq!(peers("fd00::2"), (1, true), "the node itself");
    assert_eq!(peers("fd00::4"), (0, false));
    assert_eq!(peers("203.0.113.7"), (0, false));
}

#[test]
fn before_the_first_look_everything_fails_as_starting() {
    let now = Instant::now();
    let mut snapshot = snapshot(now);
    snapshot.findings = Findings::starting();
    let report = report(&snapshot, Audience::Trusted, now + Duration::from_secs(60), wall());
    assert_eq!(report.status, Status::Fail);
    for (key, check) in report.checks.iter() {
        assert_eq!((check.status, check.reason.as_deref()), (Status::Fail, Some("starting")), "{key}");
    }
}

#[test]
fn a_warning_says_what_to_do() {
    let now = Instant::now();
    let mut snapshot = snapshot(now);
    let fault = Fault::new(Reason::RegistryFull, "failed to write /mnt/forest/registry.json: no space left");
    snapshot.findings.registry_entry = Finding::of(Status::Warn, &fault, Observed::Nothing, now);
    let report = report(&snapshot, Audience::Trusted, now, wall());
    assert_eq!(report.status, Status::Warn);
    let check = &report.checks.registry_entry[0];
    assert_eq!(check.reason.as_deref(), Some("registry_full"));
    assert!(check.output.contains("/mnt/forest/registry.json") && check.output.contains("free space"));
}

#[test]
fn strangers_do_not_read_what_is_withheld() {
    let now = Instant::now();
    let mut snapshot = snapshot(now);
    let fault = Fault::new(Reason::EngineExited, "it ended; it said \"hunter2\"").withhold("it ended");
    snapshot.findings.engine_process = Finding::of(Status::Fail, &fault, Observed::Nothing, now);
    let output = |audience| report(&snapshot, audience, now, wall()).checks.engine_process[0].output.clone();
    assert!(output(Audience::Trusted).contains("hunter2"));
    assert_eq!(output(Audience::Stranger), format!("it ended; {}", Reason::EngineExited.remedy()));
}
