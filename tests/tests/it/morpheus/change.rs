//! Forests that are changed while they serve: shrunk and upgraded.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::stream;
use forest_agent::engine::version::is_before_2_10;
use forest_tests::client::{Client, Publisher};
use forest_tests::process::signal;
use forest_tests::wait::{moment, until};
use forest_tests::{http, nats};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::Value;

use super::{Laptop, names};
use crate::cluster::chaos::{rounds, rounds_with};
use crate::cluster::growth::numbers;

impl Laptop {
    fn addresses(&self, forest: &str, port: u16) -> Vec<SocketAddr> {
        let status = self.run(&["status", forest]).1;
        let nodes = status["nodes"].as_array().unwrap();
        let address = |node: &Value| format!("{}:{port}", node["ip"].as_str().unwrap()).parse().unwrap();
        nodes.iter().map(address).collect()
    }

    fn versions(&self, forest: &str) -> Vec<String> {
        let status = self.run(&["status", forest]).1;
        let nodes = status["nodes"].as_array().unwrap();
        let version = |node: &Value| node["health"]["engine"]["version"].as_str().unwrap().to_owned();
        nodes.iter().map(version).collect()
    }
}

fn orders(client: &Client) {
    client.run(|js| async move {
        let config = stream::Config {
            name: "orders".to_owned(),
            subjects: vec!["orders.>".to_owned()],
            num_replicas: 3,
            ..stream::Config::default()
        };
        js.create_stream(config).await.unwrap();
    });
}

#[track_caller]
fn none_lost(client: &Client, acknowledged: &[u64]) {
    let kept: HashSet<u64> = client.run(|js| async move { numbers(&js, "orders").await });
    let lost: Vec<_> = acknowledged.iter().filter(|number| !kept.contains(number)).collect();
    assert_eq!(lost, [&0; 0], "acknowledged and gone");
}

#[test]
fn a_forest_shrinks_without_a_loss_and_after_a_kill_in_the_middle() {
    let laptop = Laptop::new();
    laptop.done(&["plant", "local", "medium", "--name", "grove"]);
    laptop.members("grove");
    let clients = laptop.addresses("grove", 4222);
    let client = Client::connect(&clients);
    orders(&client);
    let (code, told) = laptop.run(&["shrink", "grove", "grove-node-9"]);
    assert_eq!((code, &told["error"]["reason"]), (Some(3), &"node_unknown".into()), "{told:#}");
    let (code, told) = laptop.run(&["shrink", "grove", "grove-node-1", "grove-node-2", "grove-node-3"]);
    assert_eq!((code, &told["error"]["reason"]), (Some(1), &"leave_last_node".into()), "{told:#}");
    let publisher = Publisher::start(clients, "orders.new");
    let told = laptop.interrupted(&["shrink", "grove", "grove-node-1"], Duration::from_secs(6));
    assert_eq!(told["nodes"][0]["status"], "removed", "{told:#}");
    laptop.well("grove", 2);
    let published = publisher.stop();
    none_lost(&client, &published.acknowledged);
    // One that is dead leaves only by force.
    let dead = "/grove-node-2/".to_owned();
    for (pid, line) in laptop.processes() {
        if line.contains(&dead) {
            signal(pid, Signal::KILL);
        }
    }
    let (code, told) = laptop.run(&["shrink", "grove", "grove-node-2"]);
    assert_eq!((code, &told["error"]["reason"]), (Some(1), &"agent_unreachable".into()), "{told:#}");
    laptop.done(&["grow", "grove", "--repair"]);
    laptop.done(&["shrink", "grove", "grove-node-2"]);
    laptop.well("grove", 1);
    none_lost(&client, &published.acknowledged);
    laptop.done(&["teardown", "grove"]);
    assert_eq!(laptop.processes(), []);
}

#[test]
fn a_forest_of_three_is_upgraded_under_load_with_never_more_than_one_away() {
    let servers = nats::servers();
    let [new, old] = &servers[..] else { panic!("two versions are needed: run make tools") };
    let mut laptop = Laptop::new();
    laptop.engine.clone_from(old);
    laptop.done(&["plant", "local", "medium", "--name", "grove"]);
    laptop.members("grove");
    let before = laptop.versions("grove");
    let clients = laptop.addresses("grove", 4222);
    let client = Client::connect(&clients);
    orders(&client);
    let publisher = Publisher::start(clients, "orders.new");
    let watcher = Watcher::start(laptop.addresses("grove", 8222));
    // One that cannot run: the first node keeps its server, and the others are not touched.
    let (code, told) = laptop.run(&["upgrade", "grove", "--engine", "/bin/false", "--timeout", "5"]);
    assert_eq!(code, Some(4), "{told:#}");
    assert!(
        told["error"]["message"].as_str().unwrap().contains("grove-node-1 did not come back"),
        "{told:#}"
    );
    assert_eq!(laptop.run(&["status", "grove"]).1["nodes"][1]["health"]["engine"]["restarts"], 0);
    laptop.done(&["upgrade", "grove", "--engine", old.to_str().unwrap()]);
    assert_eq!(laptop.versions("grove"), before);

    let told = laptop.done(&["upgrade", "grove", "--engine", new.to_str().unwrap(), "--timeout", "120"]);
    assert_eq!(told["nodes"].as_array().unwrap().len(), 3, "{told:#}");
    assert_eq!(laptop.members("grove"), names("grove", 1..=3));
    let after = laptop.versions("grove");
    assert!(
        after.iter().all(|version| *version == after[0] && *version != before[0]),
        "{before:?} {after:?}"
    );
    let engines = |laptop: &Laptop| {
        let status = laptop.run(&["status", "grove"]).1;
        let nodes = status["nodes"].as_array().unwrap().clone();
        nodes.iter().map(|node| node["health"]["engine"]["pid"].clone()).collect::<Vec<_>>()
    };
    let pids = engines(&laptop);
    let agent = laptop.state.path().join("another-agent");
    std::fs::copy(forest_tests::node::agent_binary(), &agent).unwrap();
    laptop.done(&["upgrade", "grove", "--agent", agent.to_str().unwrap()]);
    assert_eq!(engines(&laptop), pids, "no engine noticed");
    let runs = |(pid, _): &(u32, String)| {
        std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == agent)
    };
    assert_eq!(laptop.processes().iter().filter(|process| runs(process)).count(), 3);

    let published = publisher.stop();
    let most = watcher.stop();
    none_lost(&client, &published.acknowledged);
    println!(
        "{before:?} to {after:?}: {} acknowledged, longest gap {:.1?}, at most {most} away",
        published.acknowledged.len(),
        published.longest_gap
    );
    assert!(most <= 1, "{most} away at once");
    laptop.done(&["teardown", "grove"]);
    assert_eq!(laptop.processes(), []);
}

#[test]
fn an_upgrade_that_goes_on_brings_back_who_is_away_before_it_touches_who_serves() {
    let laptop = Laptop::new();
    laptop.done(&["plant", "local", "medium", "--name", "grove"]);
    let (code, told) = laptop.run(&["upgrade", "grove", "--engine", "/bin/false", "--timeout", "5"]);
    assert_eq!(code, Some(4), "{told:#}");
    let of = |node: &str| {
        let ours = move |(_, line): &(u32, String)| line.contains(&format!("/{node}/"));
        laptop.processes().into_iter().filter(ours).map(|(pid, _)| pid).collect::<Vec<_>>()
    };
    let first = of("grove-node-1");
    for pid in of("grove-node-2") {
        signal(pid, Signal::KILL);
    }
    // One that cannot run still brings nobody back, and the one that serves is left alone.
    let (code, told) = laptop.run(&["upgrade", "grove", "--engine", "/bin/false", "--timeout", "2"]);
    assert_eq!(code, Some(4), "{told:#}");
    let message = told["error"]["message"].as_str().unwrap();
    assert!(message.contains("grove-node-2 did not come back"), "{message}");
    assert_eq!(of("grove-node-1"), first);
    let server = laptop.engine.to_str().unwrap();
    let told = laptop.done(&["upgrade", "grove", "--engine", server]);
    assert_eq!(told["nodes"][0]["node_id"], "grove-node-2", "{told:#}");
    laptop.well("grove", 3);
    laptop.done(&["teardown", "grove"]);
    assert_eq!(laptop.processes(), []);
}

#[test]
fn a_shrink_that_is_killed_again_and_again_is_finished_when_asked_again() {
    rounds_with("a shrink", (3, 30), &[nats::server()], |seed, _| {
        let mut random = StdRng::seed_from_u64(seed);
        let laptop = Laptop::new();
        laptop.done(&["plant", "local", "medium", "--name", "grove"]);
        laptop.members("grove");
        let clients = laptop.addresses("grove", 4222);
        let client = Client::connect(&clients);
        orders(&client);
        let publisher = Publisher::start(clients, "orders.new");
        let leaver = format!("grove-node-{}", random.random_range(1..4));
        let mut told = vec![format!("{leaver} leaves")];
        for _ in 0..random.random_range(1..4) {
            let mut command = laptop.start(&["shrink", "grove", &leaver]);
            let wait = Duration::from_millis(random.random_range(0..6000));
            moment(wait);
            let _ = command.kill();
            told.push(format!("killed after {} ms", wait.as_millis()));
        }
        let (code, end) = laptop.run(&["shrink", "grove", &leaver]);
        // It may have been quicker than its last end.
        assert!(code == Some(0) || end["error"]["reason"] == "node_unknown", "{end:#}");
        laptop.well("grove", 2);
        let published = publisher.stop();
        none_lost(&client, &published.acknowledged);
        laptop.done(&["teardown", "grove"]);
        assert_eq!(laptop.processes(), []);
        let (count, gap) = (published.acknowledged.len(), published.longest_gap);
        format!("{}; {count} acknowledged, none lost, longest gap {gap:.1?}", told.join(", "))
    });
}

/// Each round: the command is killed three times, and so is a server of a node; asked again, it comes to its end.
#[test]
fn an_upgrade_that_is_killed_again_and_again_is_finished_when_asked_again() {
    let servers = nats::servers();
    let [new, old] = &servers[..] else { panic!("two versions are needed: run make tools") };
    rounds("an upgrade", (3, 30), |seed, _| {
        let mut random = StdRng::seed_from_u64(seed);
        let mut laptop = Laptop::new();
        laptop.engine.clone_from(old);
        laptop.done(&["plant", "local", "medium", "--name", "grove"]);
        laptop.members("grove");
        let clients = laptop.addresses("grove", 4222);
        let client = Client::connect(&clients);
        orders(&client);
        let publisher = Publisher::start(clients, "orders.new");
        let upgrade = ["upgrade", "grove", "--engine", new.to_str().unwrap(), "--timeout", "120"];
        let mut told = Vec::new();
        for kill in 0..3 {
            let mut command = laptop.start(&upgrade);
            let wait = Duration::from_millis(random.random_range(0..6000));
            moment(wait);
            let _ = command.kill();
            told.push(format!("after {} ms", wait.as_millis()));
            if kill == 1 {
                let node = format!("/grove-node-{}/", random.random_range(1..4));
                let server =
                    |(_, line): &&(u32, String)| line.contains(&node) && line.contains("nats-server.conf");
                if let Some((pid, _)) = laptop.processes().iter().find(server) {
                    signal(*pid, Signal::KILL);
                    told.push(format!("with the server of {node}"));
                }
            }
        }
        // A node whose server was killed may have to come back first.
        until("it comes to its end", || (laptop.run(&upgrade).0 == Some(0)).then_some(()));
        assert_eq!(laptop.members("grove"), names("grove", 1..=3));
        let versions = laptop.versions("grove");
        assert!(versions.iter().all(|version| !is_before_2_10(version)), "{versions:?}");
        let published = publisher.stop();
        none_lost(&client, &published.acknowledged);
        laptop.done(&["teardown", "grove"]);
        assert_eq!(laptop.processes(), []);
        let (count, gap) = (published.acknowledged.len(), published.longest_gap);
        format!("killed {}; {count} acknowledged, none lost, longest gap {gap:.1?}", told.join(", "))
    });
}

/// Watches how many servers are away at once.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

impl Watcher {
    fn start(at: Vec<SocketAddr>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while !stopped.load(Ordering::Relaxed) {
                let away = at.iter().filter(|at| http::get(**at, "/varz").is_err()).count();
                most = most.max(away);
                forest_tests::wait::pause();
            }
            most
        });
        Self { stop, thread }
    }

    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
