//! The node's firewall on hosts of a test: real nft, real ufw, real connections. This machine's own rules are never
//! touched.

mod refusals;
mod rules;
mod ufw;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use forest_tests::lab::{Lab, Reach};
use forest_tests::nats;
use forest_tests::node::{Node, NodeBuilder, node};
use forest_tests::wait::{until, until_value};
use serde_json::Value;
use tempfile::TempDir;

/// Hosts, and what their nodes share. The node of host n is grove-node-n.
struct Scene {
    lab: Lab,
    share: TempDir,
}

impl Scene {
    fn new(hosts: usize) -> Self {
        Self { lab: Lab::new(hosts).unwrap(), share: tempfile::tempdir().unwrap() }
    }

    fn registry(&self) -> PathBuf {
        self.share.path().join("registry.json")
    }

    /// Describes the node of host `n`, whose firewall is managed.
    fn node(&self, n: usize) -> NodeBuilder {
        node(&format!("grove-node-{n}"), &nats::server())
            .host(&self.lab.host(n), self.lab.address(n))
            .registry(self.registry())
            .firewall("{ manage: true, monitoring_from: [any] }")
    }

    fn at(&self, n: usize, port: u16) -> SocketAddr {
        (IpAddr::from(self.lab.address(n)), port).into()
    }

    /// Connects from host `from` to a port of host 1.
    fn reach(&self, from: usize, port: u16) -> Reach {
        self.lab.reach(from, self.at(1, port))
    }

    #[track_caller]
    fn until_open(&self, from: usize, port: u16) {
        let what = format!("host {from} can connect to {port}");
        until_value(&what, || self.reach(from, port), |reach| *reach == Reach::Open);
    }

    /// All rules of host 1, as nft prints them, without counters.
    fn ruleset(&self) -> String {
        self.lab.run(1, &["nft", "-s", "list", "ruleset"]).unwrap()
    }

    /// Waits until the registry has the node of host `n`.
    #[track_caller]
    fn until_registered(&self, n: usize) {
        until(&format!("grove-node-{n} has its entry"), || {
            let registry: Value = serde_json::from_slice(&fs::read(self.registry()).ok()?).ok()?;
            let id = format!("grove-node-{n}");
            registry["nodes"]["grove"].as_array()?.iter().find(|entry| entry["id"] == *id).map(drop)
        });
    }
}

/// Waits until so many rules of `node` stand, and nothing is wrong with them.
#[track_caller]
fn until_rules(node: &Node, rules: usize) {
    let stand = |check: &Value| check["status"] == "pass" && check["observedValue"] == rules;
    until_value(&format!("{rules} rules stand"), || node.check("firewall:rules"), stand);
}

/// Waits until `node` can connect to its one peer.
#[track_caller]
fn until_peer(node: &Node) {
    let reachable = |check: &Value| check["observedValue"] == 1;
    until_value("the peer can be reached", || node.check("peers:reachable"), reachable);
}

/// Starts `node` anew with a firewall that is not managed, and waits until its rules are out.
#[track_caller]
fn unmanage(node: &mut Node) {
    assert_eq!(node.stop(), Some(0));
    let config = fs::read_to_string(node.path("agent.yaml")).unwrap();
    fs::write(node.path("agent.yaml"), config.replace("manage: true", "manage: false")).unwrap();
    node.start();
    let unmanaged = |check: &Value| {
        let says = check["output"].as_str().is_some_and(|text| text.starts_with("not managed"));
        check["status"] == "pass" && says
    };
    let check = until_value("the firewall is not managed", || node.check("firewall:rules"), unmanaged);
    assert_eq!(check["observedValue"], Value::Null);
}
