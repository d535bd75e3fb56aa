//! NimsForest as the agent starts, views and probes it, played by the stand-in.

use std::net::Ipv6Addr;

use forest_agent::child::Command;
use forest_agent::engine::nimsforest::{Entry, Lone, Paths, command, own_ipv6, view, write_view};
use forest_agent::engine::verdict::{jetstream_check, nats_check};
use forest_core::health::Status;
use forest_core::reason::Reason;
use forest_tests::{nats, stand_in};
use rustix::process::Signal;

use super::*;

/// A stand-in's command in `place`, as the agent makes it, with further variables of the stand-in.
pub(super) fn stand_in(place: &Place, variables: &[(&str, &str)]) -> Command {
    write(&place.path("node-info.json"), r#"{"forest_id":"grove","node_id":"grove-node-1"}"#);
    let mut command = command(Paths {
        binary: &stand_in::binary(),
        node_info: &place.path("node-info.json"),
        view: &place.path("registry.json"),
        data_dir: &place.store(),
    });
    let ip = place.ip.to_string();
    let ports = [("STAND_IN_MONITOR", MONITOR), ("STAND_IN_CLUSTER", CLUSTER)];
    command.env.extend(ports.map(|(name, port)| (name.into(), port.to_string().into())));
    command.env.push(("STAND_IN_ADDRESS".into(), ip.into()));
    command.env.push(("STAND_IN_NATS_SERVER".into(), nats::server().into()));
    // The real one's ten seconds are no time for a loaded machine.
    command.env.push(("STAND_IN_TIMEOUT".into(), "60000".into()));
    command.env.extend(variables.iter().map(|(name, value)| (name.into(), value.into())));
    command
}

pub(super) fn start(place: &Place, variables: &[(&str, &str)]) -> Running {
    Running::start(&stand_in(place, variables), &place.path("log")).unwrap()
}

#[tokio::test]
async fn a_lone_node_runs_and_its_random_client_port_is_found() {
    let place = Place::new();
    let mut running = start(&place, &[]);
    let well = |seen: &EngineObservation| {
        nats_check(seen).status == Status::Pass && jetstream_check(seen).status == Status::Pass
    };
    let seen = until(&mut probe(), &place.target(None), well).await;
    assert_ne!(seen.varz.unwrap().port, CLIENT);
    running.signal(Signal::TERM);
    assert_eq!(running.ended().await.code, Some(0));
}

#[tokio::test]
async fn the_view_makes_it_know_its_own_entry() {
    let place = Place::new();
    let own = own_ipv6();
    // On a machine without IPv6 the view does not matter: NimsForest cannot run, which is what is expected then.
    let (first, outcome) = match &own {
        Ok(first) => (*first, "peers: none"),
        Err(_) => (Ipv6Addr::LOCALHOST, "No IPv6 address found"),
    };
    let entries = [Entry { id: "grove-node-1".to_owned(), ip: "10.0.0.7".to_owned() }];
    let view = view(
        &"grove".parse().unwrap(),
        &"grove-node-1".parse().unwrap(),
        "10.0.0.7".parse().unwrap(),
        first,
        &entries,
        Lone::Standalone,
    );
    write_view(place.dir.path(), &view).unwrap();
    // It listens on every address here, so its port must be its own.
    let mut command = stand_in(&place, &[("STAND_IN_MONITOR", "28223")]);
    command.env.retain(|(name, _)| name != "STAND_IN_ADDRESS");
    let running = Running::start(&command, &place.path("log")).unwrap();
    let begun = Instant::now();
    while !running.lines().iter().any(|line| line.contains(outcome)) {
        assert!(begun.elapsed() < HANG, "{:?}", running.lines());
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn each_fault_is_diagnosed_from_its_log() {
    for (fault, reason) in [
        ("work_queue", Reason::NimsforestWorkQueue),
        ("consumer_bound", Reason::NimsforestConsumerBound),
        ("no_route", Reason::NimsforestNoRoute),
        ("exit:7", Reason::EngineExited),
    ] {
        let place = Place::new();
        std::fs::create_dir(place.store().join("jetstream")).unwrap();
        let timeout = if fault == "no_route" { "1000" } else { "60000" };
        let mut running = start(&place, &[("STAND_IN_FAULT", fault), ("STAND_IN_TIMEOUT", timeout)]);
        let diagnosed = fault_of(EngineKind::Nimsforest, &mut running).await;
        assert_eq!(diagnosed.reason, reason, "{diagnosed}");
    }
}

#[tokio::test]
async fn a_missing_node_info_is_diagnosed() {
    let place = Place::new();
    let command = stand_in(&place, &[]);
    std::fs::remove_file(place.path("node-info.json")).unwrap();
    let mut running = Running::start(&command, &place.path("log")).unwrap();
    let fault = fault_of(EngineKind::Nimsforest, &mut running).await;
    assert_eq!(fault.reason, Reason::NimsforestNodeInfo);
    assert!(fault.message.contains("node-info.json"), "{fault}");
}

#[tokio::test]
async fn a_taken_monitoring_port_is_diagnosed() {
    let place = Place::new();
    let _socket = std::net::TcpListener::bind(place.at(MONITOR)).unwrap();
    let mut running = start(&place, &[]);
    let fault = fault_of(EngineKind::Nimsforest, &mut running).await;
    assert_eq!(fault.reason, Reason::EnginePortTaken, "{fault}");
}
