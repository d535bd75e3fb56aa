//! Forests whose engines are NimsForest, played by the stand-in: each node on a host of its own, for it takes the
//! standard ports of all addresses.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use async_nats::jetstream::stream::Config;
use forest_tests::client::Client;
use forest_tests::lab::Lab;
use forest_tests::node::{Node, node};
use forest_tests::wait::{until, until_value};
use forest_tests::{nats, process, programs, stand_in};
use rustix::process::Signal;
use serde_json::Value;

struct Forest {
    // Dropped first: it ends what runs on the hosts.
    nodes: Vec<Node>,
    lab: Lab,
    share: tempfile::TempDir,
    engine: PathBuf,
}

impl Forest {
    fn new(hosts: usize) -> Self {
        let share = tempfile::tempdir().unwrap();
        let engine = share.path().join("forest");
        // It waits longer than the real one, whom a loaded machine would make start twice.
        let text = format!(
            "#!/bin/sh\nexport STAND_IN_TIMEOUT=100000 STAND_IN_NATS_SERVER={}\nexec {} \"$@\"\n",
            nats::server().display(),
            stand_in::binary().display()
        );
        programs::script(&engine, &text);
        Self { nodes: Vec::new(), lab: Lab::new(hosts).unwrap(), share, engine }
    }

    /// Plants a node on the next host; its witness and companion are run by `server`.
    fn plant(&mut self, server: &Path) {
        let n = self.nodes.len() + 1;
        let started = node(&format!("grove-node-{n}"), &self.engine)
            .kind("nimsforest")
            .host(&self.lab.host(n), self.lab.address(n))
            .registry(self.share.path().join("share/registry.json"))
            .config(&format!("witness: {{ binary: {} }}", server.display()))
            .start();
        self.nodes.push(started);
    }

    /// Waits until all pass, in a group of `size`.
    #[track_caller]
    fn until_well(&self, size: usize) {
        for node in &self.nodes {
            until_value(
                &format!("{} is well in a group of {size}", node.id),
                || node.health(),
                |health| {
                    let group = &health["checks"]["nats:jetstream"][0]["observedValue"];
                    health["status"] == "pass" && *group == size
                },
            );
        }
    }

    fn engines(&self) -> Vec<u32> {
        self.nodes.iter().map(Node::engine_pid).collect()
    }

    /// The process of the first node whose command line holds `part`.
    fn process(&self, part: &str) -> Option<u32> {
        let found = self.nodes[0].processes().into_iter().find(|(_, line)| line.contains(part));
        found.map(|(pid, _)| pid)
    }

    /// What is recorded of the founding.
    fn record(&self) -> Value {
        let path = self.share.path().join("share/secrets/grove.json");
        fs::read(path).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
    }

    /// What host `n` answers itself.
    fn ask(&self, n: usize, port: u16, path: &str) -> Value {
        let url = format!("http://[::1]:{port}{path}");
        serde_json::from_str(&self.lab.run(n, &["curl", "-s", &url]).unwrap()).unwrap()
    }

    /// An anonymous client of the first node's engine, whose port is random.
    fn client(&self) -> Client {
        let port = self.ask(1, 8222, "/varz")["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let at: SocketAddr = (Ipv6Addr::LOCALHOST, port.unwrap()).into();
        self.lab.inside(1, || Client::connect(&[at]))
    }

    /// Lines in the first engine's log of routes that came.
    fn routes_made(&self) -> usize {
        let log = fs::read_to_string(self.nodes[0].path("state/log/engine.log")).unwrap();
        log.matches("Route connection created").count()
    }

    #[track_caller]
    fn stop(mut self) {
        for node in &mut self.nodes {
            assert_eq!(node.health()["engine"]["restarts"], 0);
            assert_eq!(node.stop(), Some(0));
            assert_eq!(node.processes(), []);
            assert!(!node.log().contains("action=Kill"), "{}", node.log());
        }
    }
}

/// Makes a stream of two replicas with a message in it.
fn stream(client: &Client, name: &str) {
    client.run(async |jetstream| {
        let subjects = vec![format!("{name}.>")];
        let config = Config { name: name.to_owned(), subjects, num_replicas: 2, ..Config::default() };
        jetstream.create_stream(config).await.unwrap();
        jetstream.publish(format!("{name}.1"), "kept".into()).await.unwrap().await.unwrap();
    });
}

/// Who has a replica of the stream, the leader first, and how many messages it has.
fn replicas(client: &Client, name: &str) -> Option<(Vec<String>, u64)> {
    client.run(async |jetstream| {
        let mut stream = jetstream.get_stream(name).await.ok()?;
        let info = stream.info().await.ok()?;
        let cluster = info.cluster.as_ref()?;
        let others = cluster.replicas.iter().map(|peer| peer.name.clone());
        Some((cluster.leader.iter().cloned().chain(others).collect(), info.state.messages))
    })
}

fn off_the_witness(client: &Client, name: &str, count: usize) {
    until_value(
        "only real nodes have the stream",
        || replicas(client, name),
        |found| {
            found.as_ref().is_some_and(|(who, messages)| {
                who.len() == count && who.iter().all(|name| !name.starts_with("w-")) && *messages == 1
            })
        },
    );
}

/// One node tells of all of them.
fn tells_of_all(forest: &Forest, n: usize) {
    let whole =
        until_value("one tells of all", || forest.ask(n, 8223, "/forest"), |all| all["status"] == "pass");
    forest_tests::schema::check("forest", &whole);
    assert_eq!(whole["silent"].as_array().map(Vec::len), Some(0), "{whole:#}");
    assert_eq!(whole["nodes"].as_array().map(Vec::len), Some(forest.nodes.len()), "{whole:#}");
}

/// A nats-server that is no witness any more once `broken` is there.
fn breakable(forest: &Forest, broken: &Path) -> PathBuf {
    let server = forest.share.path().join("server");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in -c*witness.conf) [ ! -e {} ] || exit 1;; esac\nexec {} \"$@\"\n",
        broken.display(),
        nats::server().display()
    );
    programs::script(&server, &text);
    server
}

#[test]
fn nodes_join_a_lone_one_and_nothing_restarts() {
    let mut forest = Forest::new(3);
    let broken = forest.share.path().join("broken");
    let server = breakable(&forest, &broken);
    forest.plant(&server);
    // Clustered from its start: itself and the witness.
    forest.until_well(2);
    let (engines, witness) = (forest.engines(), forest.process("witness.conf"));
    let client = forest.client();
    // NimsForest's server places the second replica on the witness; there is nowhere else to go yet.
    stream(&client, "LONE");
    off_the_witness(&client, "LONE", 1);
    let events = until_value(
        "it was told",
        || forest.ask(1, 8223, "/events").to_string(),
        |events| events.contains("stream_on_witness"),
    );
    assert!(events.contains("LONE"), "{events}");

    forest.plant(&server);
    forest.until_well(3);
    assert_eq!(forest.engines()[..1], engines[..], "the founder's engine was not started again");
    assert_eq!(forest.process("witness.conf"), witness, "nor was the witness");
    // Sooner or later one comes to lie there, though there is another node.
    let on_witness = |name: &str| {
        stream(&client, name);
        replicas(&client, name).is_some_and(|(who, _)| who.iter().any(|name| name.starts_with("w-")))
    };
    let names: Vec<_> = (0..20).map(|n| format!("PAIR{n}")).collect();
    let placed = names.iter().find(|name| on_witness(name)).expect("one of twenty is placed on the witness");
    off_the_witness(&client, placed, 2);
    forest.until_well(3);
    tells_of_all(&forest, 1);
    tells_of_all(&forest, 2);
    // Who looks after its peers leaves no lines in their logs while all is well.
    let routes = forest.routes_made();
    let looked = |node: &Node| node.health()["uptime_seconds"].as_u64().unwrap_or_default();
    let before = looked(&forest.nodes[1]);
    until("some looks have passed", || (looked(&forest.nodes[1]) >= before + 3).then_some(()));
    assert_eq!(forest.routes_made(), routes);

    // A witness that does not run cannot carry the order that takes it out of the group: a companion does.
    let engines = forest.engines();
    fs::write(&broken, "").unwrap();
    process::signal(forest.process("witness.conf").unwrap(), Signal::KILL);
    forest.plant(&server);
    until_value("nobody keeps a witness", || forest.record(), |record| record["witness"].is_null());
    forest.until_well(3);
    assert_eq!(forest.engines()[..2], engines[..]);
    let log = forest.nodes[0].log();
    assert!(log.contains("by a companion"), "{log}");
    until("the companion has left", || forest.process("companion.conf").is_none().then_some(()));
    assert_eq!(forest.process("witness.conf"), None);
    assert_eq!(forest.ask(1, 8222, "/jsz")["meta_cluster"]["cluster_size"], 3);
    assert_eq!(replicas(&client, "LONE").map(|(_, messages)| messages), Some(1));
    let refused = forest.nodes[2].run(&["leave", "--json"]);
    let told: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(
        (refused.status.code(), &told["error"]["reason"]),
        (Some(1), &"not_supported".into()),
        "{told:#}"
    );
    forest.stop();
}
