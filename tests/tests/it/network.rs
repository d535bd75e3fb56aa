//! Three hosts with IPv6 alone, the standard ports, and a plug that is pulled.

use std::time::{Duration, Instant};

use forest_tests::lab::Lab;
use forest_tests::nats;
use forest_tests::node::{Node, node};
use forest_tests::wait::{until, until_value};

/// What a node's `peers:reachable` says of each peer that it cannot reach.
fn unreachable(node: &Node) -> Vec<String> {
    let check = node.check("peers:reachable");
    let peers = check["peers"].as_array().cloned().unwrap_or_default();
    let silent = peers.iter().filter(|peer| peer["tcp"] == false || peer["route"] == false);
    let mut names: Vec<_> = silent.filter_map(|peer| peer["node_id"].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

#[test]
fn a_host_that_is_cut_off_is_named_by_the_others_and_names_them() {
    let lab = Lab::new(3).unwrap();
    let share = tempfile::tempdir().unwrap();
    let server = nats::server();
    let mut nodes: Vec<Node> = (1..=3)
        .map(|n| {
            node(&format!("grove-node-{n}"), &server)
                .host(&lab.host(n), lab.address(n))
                .registry(share.path().join("registry.json"))
                // The default, which the promise is about.
                .poll_interval("5s")
                .start()
        })
        .collect();
    for node in &nodes {
        let health = until_value(
            "three nodes are one cluster",
            || node.health(),
            |health| {
                let meta = &health["checks"]["nats:jetstream"][0]["observedValue"];
                health["status"] == "pass" && *meta == 3
            },
        );
        assert_eq!(health["checks"]["peers:reachable"][0]["observedValue"], 2);
    }

    lab.cut(3).unwrap();
    let cut = Instant::now();
    for (node, silent) in
        nodes.iter().zip([&["grove-node-3"][..], &["grove-node-3"], &["grove-node-1", "grove-node-2"]])
    {
        until_value("it names who cannot be reached", || unreachable(node), |names| names == silent);
        assert_eq!(node.check("peers:reachable")["status"], "warn");
    }
    // Ten seconds are the promise; the rest is for a machine that is busy with other tests.
    println!("all three named who is away {:.1?} after the cut", cut.elapsed());
    assert!(cut.elapsed() < Duration::from_secs(30), "{:?}", cut.elapsed());

    lab.connect(3).unwrap();
    for node in &nodes {
        until("all heals", || (node.health()["status"] == "pass").then_some(()));
    }
    for node in &mut nodes {
        assert_eq!(node.stop(), Some(0));
    }
}
