//! Every nats-server there is: configuration, probing, and what it says when it cannot start.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;

use forest_agent::child::Command;
use forest_agent::engine::diagnose::taken_port;
use forest_agent::engine::limits::Limits;
use forest_agent::engine::nats_config::{NatsConfig, Role};
use forest_agent::engine::nats_server::{check_config, command, write_config};
use forest_agent::engine::ports::{Holder, holder};
use forest_agent::engine::verdict::{jetstream_check, nats_check};
use forest_core::health::Status;
use forest_core::reason::Reason;
use forest_tests::nats::servers;
use rustix::process::Signal;
use serde_json::Value;

use super::*;

fn config_in(place: &Place, store: &Path) -> PathBuf {
    let config = NatsConfig {
        name: "grove-node-1",
        role: Role::Engine { monitor: place.at(MONITOR), takes_streams: true },
        client: place.at(CLIENT),
        store_dir: store,
        limits: Limits { max_memory: 32 << 20, max_file: 64 << 20 },
        cluster: None,
    };
    write_config(place.dir.path(), &config).unwrap()
}

fn start(server: &Path, place: &Place) -> Running {
    let config = config_in(place, &place.store());
    Running::start(&command(server, &config, &place.store()), &place.path("log")).unwrap()
}

/// Starts it with a configuration that the agent would not write.
fn start_with(server: &Path, place: &Place, config: &str) -> Running {
    let path = place.path("other.conf");
    write(&path, config);
    Running::start(&command(server, &path, &place.store()), &place.path("log")).unwrap()
}

fn well(seen: &EngineObservation) -> bool {
    nats_check(seen).status == Status::Pass && jetstream_check(seen).status == Status::Pass
}

#[tokio::test]
async fn runs_on_the_written_configuration_and_passes_both_checks() {
    for server in servers() {
        let place = Place::new();
        let target = place.target(Some(place.at(CLIENT)));
        check_config(&server, &config_in(&place, &place.store())).await.unwrap();
        let mut running = start(&server, &place);
        let seen = until(&mut probe(), &target, well).await;
        assert!(nats_check(&seen).value.as_f64().unwrap() > 0.0);
        let jetstream = jetstream_check(&seen);
        assert_eq!(jetstream.value, Value::Null);
        assert!(jetstream.text.contains("standalone") && jetstream.text.contains("of 64 MiB on disk"));
        assert!(place.store().join("jetstream").is_dir());
        assert!(running.runs());
    }
}

#[tokio::test]
async fn a_directory_of_any_name_is_its_store_and_nothing_else() {
    for server in servers() {
        let place = Place::new();
        let odd = OsStr::from_bytes(b"a\"b\\c\nhttp: 1 } $HOME #'\xc3\xa9\xff\t");
        let store = place.store().join(odd);
        check_config(&server, &config_in(&place, &store)).await.unwrap();
        let config = config_in(&place, &store);
        let _running =
            Running::start(&command(&server, &config, &place.store()), &place.path("log")).unwrap();
        until(&mut probe(), &place.target(Some(place.at(CLIENT))), well).await;
        assert!(store.join("jetstream").is_dir());
        assert_eq!(std::fs::read_dir(place.store()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn no_path_makes_a_configuration_that_is_refused() {
    for server in servers() {
        let place = Place::new();
        for _ in 0..24 {
            let name: Vec<u8> = (0..40).map(|_| rand::random_range(1..=u8::MAX)).collect();
            let store = place.path("x").join(OsStr::from_bytes(&name));
            let checked = check_config(&server, &config_in(&place, &store)).await;
            assert_eq!(checked, Ok(()), "{store:?}");
        }
    }
}

#[tokio::test]
async fn a_bad_configuration_is_refused_with_its_own_words() {
    for server in servers() {
        let place = Place::new();
        let path = place.path("bad.conf");
        write(&path, "jetstreem: { x: 1 }\n");
        let fault = check_config(&server, &path).await.unwrap_err();
        assert_eq!(fault.reason, Reason::EngineConfigRefused);
        assert!(fault.message.contains("unknown field \"jetstreem\""), "{fault}");
        let mut running = start_with(&server, &place, "jetstreem: { x: 1 }\n");
        let fault = fault_of(EngineKind::NatsServer, &mut running).await;
        assert_eq!(fault.reason, Reason::EngineConfigRefused, "{fault}");
    }
}

#[tokio::test]
async fn the_probe_finds_a_restarted_server_again() {
    for server in servers() {
        let place = Place::new();
        let target = place.target(Some(place.at(CLIENT)));
        let mut probe = probe();
        let mut first = start(&server, &place);
        until(&mut probe, &target, well).await;
        first.signal(Signal::KILL);
        first.ended().await;
        let seen = probe.look(&target).await;
        assert_eq!(nats_check(&seen).reason, Some(Reason::NatsUnreachable));
        let _second = start(&server, &place);
        until(&mut probe, &target, well).await;
    }
}

#[tokio::test]
async fn a_frozen_server_is_noticed_and_found_again() {
    for server in servers() {
        let place = Place::new();
        let target = place.target(Some(place.at(CLIENT)));
        let mut probe = Probe::new(Duration::from_millis(500)).unwrap();
        let running = start(&server, &place);
        until(&mut probe, &target, well).await;
        running.signal(Signal::STOP);
        let unreachable = |seen: &EngineObservation| nats_check(seen).reason == Some(Reason::NatsUnreachable);
        until(&mut probe, &target, unreachable).await;
        running.signal(Signal::CONT);
        until(&mut probe, &target, well).await;
    }
}

#[tokio::test]
async fn another_server_is_not_taken_for_ours() {
    for server in servers() {
        let place = Place::new();
        let _running = start(&server, &place);
        let mut target = place.target(Some(place.at(CLIENT)));
        target.node = "grove-node-2".parse().unwrap();
        let seen = until(&mut probe(), &target, |seen| seen.varz.is_ok()).await;
        let verdict = nats_check(&seen);
        assert_eq!(verdict.reason, Some(Reason::NatsWrongServer));
        assert!(verdict.text.contains("grove-node-1") && verdict.text.contains("grove-node-2"));
    }
}

#[tokio::test]
async fn without_jetstream_or_a_leader_the_check_says_which() {
    for server in servers() {
        for (extra, reason) in
            [(String::new(), Reason::JetstreamDisabled), (clustered_with_nobody(), Reason::JetstreamNoLeader)]
        {
            let place = Place::new();
            let config = format!(
                "server_name: grove-node-1\nlisten: \"{}\"\nhttp: \"{}\"\n{}",
                place.at(CLIENT),
                place.at(MONITOR),
                extra.replace("STORE", place.store().to_str().unwrap()).replace("IP", &place.ip.to_string()),
            );
            let _running = start_with(&server, &place, &config);
            let mut probe = Probe::new(Duration::from_millis(500)).unwrap();
            let target = place.target(Some(place.at(CLIENT)));
            let seen = until(&mut probe, &target, |seen| {
                nats_check(seen).status == Status::Pass && jetstream_check(seen).reason == Some(reason)
            })
            .await;
            assert!(seen.api.is_err());
        }
    }
}

fn clustered_with_nobody() -> String {
    format!(
        "jetstream {{ store_dir: \"STORE\" }}\n\
         cluster {{ name: grove, listen: \"IP:{CLUSTER}\", routes: [\"nats://127.0.0.1:1\"] }}\n"
    )
}

#[tokio::test]
async fn a_taken_port_is_told_with_its_holder() {
    for server in servers() {
        for port in [CLIENT, MONITOR] {
            let place = Place::new();
            let _socket = TcpListener::bind(place.at(port)).unwrap();
            let mut running = start(&server, &place);
            let fault = fault_of(EngineKind::NatsServer, &mut running).await;
            assert_eq!(fault.reason, Reason::EnginePortTaken, "{fault}");
            let taken = taken_port(&running.lines()).unwrap();
            assert_eq!((taken.ip, taken.port), (Some(place.ip), port));
            let Some(Holder::Process { pid, .. }) = holder(taken.ip, taken.port) else {
                panic!("this process holds it")
            };
            assert_eq!(pid, std::process::id());
        }
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_told() {
    for server in servers() {
        let place = Place::new();
        write(&place.path("file"), "");
        let config = config_in(&place, &place.path("file"));
        let spec = Command { cwd: place.store(), ..command(&server, &config, Path::new("/")) };
        let mut running = Running::start(&spec, &place.path("log")).unwrap();
        let fault = fault_of(EngineKind::NatsServer, &mut running).await;
        assert_eq!(fault.reason, Reason::EngineStore, "{fault}");
        assert!(fault.message.contains("not a directory"), "{fault}");
    }
}

#[tokio::test]
async fn a_foreign_address_is_told() {
    for server in servers() {
        let place = Place::new();
        let mut running = start_with(&server, &place, "listen: \"192.0.2.1:24222\"\n");
        let fault = fault_of(EngineKind::NatsServer, &mut running).await;
        assert_eq!(fault.reason, Reason::EngineListen, "{fault}");
    }
}
