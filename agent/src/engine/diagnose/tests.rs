//! The lines are those of nats-server 2.9.10 and 2.15.1, provoked; NimsForest's as it prints them.

use super::*;

const START: &str = "[11579] 2026/11/22 21:09:51.320897 [INF] Starting nats-server";
const STAMP: &str = "[11579] 2026/11/22 21:09:51.322511";

fn tail(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn fault_of(kind: EngineKind, lines: &[&str]) -> Fault {
    let exit = LastExit { code: Some(1), signal: None, time: "2026-11-22T21:09:51Z".to_owned() };
    diagnose(&Evidence { kind, exit: Some(&exit), tail: &tail(lines), spawn: None, holder: None })
}

fn nats(line: &str) -> Fault {
    fault_of(EngineKind::NatsServer, &[START, &format!("{STAMP} {line}")])
}

fn forest(line: &str) -> Fault {
    fault_of(EngineKind::Nimsforest, &["🌲 Starting NimsForest...", line])
}

#[test]
fn a_taken_port_is_named_with_its_address() {
    for (line, ip, port) in [
        (
            r#"[FTL] Error listening on port: 127.0.0.1:14333, "listen tcp 127.0.0.1:14333: bind: address already in use""#,
            Some("127.0.0.1"),
            14333,
        ),
        (
            "[FTL] Can't start monitoring: can't listen to the monitor port: listen tcp [::1]:8222: bind: address already in use",
            Some("::1"),
            8222,
        ),
        (
            "[FTL] Error listening on router port: 6222 - listen tcp :6222: bind: address already in use",
            None,
            6222,
        ),
    ] {
        let taken = taken_port(&tail(&[START, line])).unwrap();
        assert_eq!((taken.ip, taken.port), (ip.map(|ip| ip.parse().unwrap()), port));
        let fault = nats(line);
        assert_eq!(fault.reason, Reason::EnginePortTaken);
        assert!(fault.message.starts_with(&format!("port {port} ")), "{fault}");
    }
}

#[test]
fn the_holder_of_a_taken_port_is_told() {
    let holder = Holder::Process { pid: 123, name: "nginx".to_owned() };
    let fault = diagnose(&Evidence {
        kind: EngineKind::NatsServer,
        exit: None,
        tail: &tail(&["[FTL] x: listen tcp 127.0.0.1:4222: bind: address already in use"]),
        spawn: None,
        holder: Some(&holder),
    });
    assert_eq!(fault.message, "port 4222 of 127.0.0.1 is taken by pid 123 (nginx)");
}

#[test]
fn each_known_line_has_its_reason_and_is_quoted() {
    for (reason, line, quoted) in [
        (
            Reason::EngineListen,
            r#"[FTL] Error listening on port: 192.0.2.1:14334, "listen tcp 192.0.2.1:14334: bind: cannot assign requested address""#,
            "cannot assign requested address",
        ),
        (
            Reason::EngineListen,
            r#"[FTL] Error listening on port: 127.0.0.1:99, "listen tcp 127.0.0.1:99: bind: permission denied""#,
            "permission denied",
        ),
        (
            Reason::EngineStore,
            "[FTL] Can't start JetStream: could not create storage directory - mkdir /srv/js: read-only file system",
            "mkdir /srv/js: read-only file system",
        ),
        (
            Reason::EngineStore,
            "[FTL] Can't start JetStream: storage directory is not a directory",
            "not a directory",
        ),
        (
            Reason::EngineStore,
            "[FTL] Can't start JetStream: storage directory is not writable",
            "not writable",
        ),
        (Reason::StandaloneStore, "[WRN] Detected orphaned stream 'G > ORDERS', will cleanup", "ORDERS"),
    ] {
        let fault = nats(line);
        assert_eq!(fault.reason, reason, "{line}");
        assert!(fault.message.contains(quoted), "{fault}");
        assert!(!fault.message.contains(STAMP), "{fault}");
    }
}

#[test]
fn a_full_store_is_seen_while_the_engine_runs() {
    let full = "[31181] 2026/11/22 21:33:01.043086 [ERR] Filestore [S] Critical write error: \
                write /srv/js/jetstream/$G/streams/S/msgs/1.blk: no space left on device";
    let lines = tail(&[START, full, "[INF] something else"]);
    let (fault, line) = trouble(EngineKind::NatsServer, &lines).unwrap();
    assert_eq!(line, full);
    assert_eq!(fault.reason, Reason::EngineStore);
    assert!(fault.message.starts_with("the store is full"), "{fault}");
    let past = tail(&[full, START]);
    assert_eq!(trouble(EngineKind::NatsServer, &past), None);
    assert_eq!(trouble(EngineKind::NatsServer, &tail(&[START, "[FTL] bind: permission denied"])), None);
}

#[test]
fn the_first_line_of_a_go_panic_is_quoted() {
    let line = "fatal error: failed to reserve page summary memory";
    let fault = fault_of(EngineKind::NatsServer, &[START, line, "", "runtime stack:"]);
    assert_eq!(fault.reason, Reason::EngineExited);
    assert_eq!(fault.message, format!("the engine gave up: \"{line}\""));
}

#[test]
fn a_refused_configuration_stands_without_a_start_line() {
    let refused = "nats-server: bad.conf:1:0: unknown field \"jetstreem\"";
    let fault = fault_of(EngineKind::NatsServer, &[refused, ""]);
    assert_eq!(fault.reason, Reason::EngineConfigRefused);
    assert!(fault.message.ends_with("\"bad.conf:1:0: unknown field \"jetstreem\"\""), "{fault}");
}

#[test]
fn nimsforests_faults_have_reasons_of_their_own() {
    for (reason, line) in [
        (
            Reason::NimsforestWorkQueue,
            "2026/11/22 20:00:00 ❌ Failed to start tree: nats: filtered consumer not unique on workqueue stream",
        ),
        (
            Reason::NimsforestConsumerBound,
            "2026/11/22 20:00:00 ❌ Failed to start tree: nats: consumer is already bound to a subscription",
        ),
        (
            Reason::NimsforestNodeInfo,
            "2026/11/22 20:00:00 [NATSClusterConfig] FATAL: Node configuration required at /etc/morpheus/node-info.json",
        ),
        (
            Reason::NimsforestNodeInfo,
            "2026/11/22 20:00:00 [NATSClusterConfig] FATAL: node_id is required in /etc/morpheus/node-info.json",
        ),
        (
            Reason::NimsforestNoAddress,
            "2026/11/22 20:00:00 ❌ No IPv6 address found. NimsForest requires IPv6.",
        ),
        (
            Reason::NimsforestNoRoute,
            "2026/11/22 20:00:00 ❌ Failed to start embedded NATS server: NATS server failed to start within timeout",
        ),
        (
            Reason::NimsforestNoRoute,
            "2026/11/22 20:00:00 ❌ Failed to create river: context deadline exceeded",
        ),
    ] {
        assert_eq!(forest(line).reason, reason, "{line}");
        assert_eq!(
            fault_of(EngineKind::NatsServer, &[line]).reason,
            Reason::EngineExited,
            "nats-server never means that: {line}"
        );
    }
}

#[test]
fn a_taken_port_explains_more_than_the_timeout_that_follows() {
    let fault = fault_of(
        EngineKind::Nimsforest,
        &[
            "🌲 Starting NimsForest...",
            START,
            "[FTL] Can't start monitoring: can't listen to the monitor port: listen tcp :8222: bind: address already in use",
            "❌ Failed to start embedded NATS server: NATS server failed to start within timeout",
        ],
    );
    assert_eq!(fault.reason, Reason::EnginePortTaken);
}

#[test]
fn an_earlier_run_is_not_the_cause() {
    let fault = fault_of(
        EngineKind::NatsServer,
        &[
            START,
            "[FTL] x: listen tcp 127.0.0.1:4222: bind: address already in use",
            START,
            "[FTL] Can't start JetStream: storage directory is not writable",
        ],
    );
    assert_eq!(fault.reason, Reason::EngineStore);
}

#[test]
fn what_no_rule_knows_is_said_with_the_exit_and_the_line_that_complains() {
    let fault = fault_of(EngineKind::Nimsforest, &["❌ something new", "goodbye\u{1b}[0m"]);
    assert_eq!(fault.reason, Reason::EngineExited);
    assert_eq!(fault.message, "nimsforest ended with exit code 1; it said \"❌ something new\"");
    let fault = fault_of(EngineKind::Nimsforest, &["goodbye\u{1b}[0m"]);
    assert_eq!(fault.message, "nimsforest ended with exit code 1; it said \"goodbye\\u{1b}[0m\"");
}

#[test]
fn a_kill_and_a_failed_spawn_are_said() {
    let mut evidence = Evidence {
        kind: EngineKind::NatsServer,
        exit: None,
        tail: &[],
        spawn: Some((SpawnKind::Missing, "there is no /opt/nats-server")),
        holder: None,
    };
    assert_eq!(diagnose(&evidence), Fault::new(Reason::EngineMissing, "there is no /opt/nats-server"));
    evidence.spawn = None;
    let killed = LastExit { code: None, signal: Some(9), time: String::new() };
    evidence.exit = Some(&killed);
    assert!(diagnose(&evidence).message.contains("killed (signal 9)"));
}

#[test]
fn long_lines_are_cut() {
    let fault = fault_of(EngineKind::NatsServer, &[&"x".repeat(5000)]);
    assert!(fault.message.chars().count() < QUOTE + 80, "{}", fault.message.len());
}
