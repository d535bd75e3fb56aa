//! What befalls a forest: many nodes at once, nodes that are away, rebuilt, killed, and a share that is away.

use std::fs;
use std::path::Path;

use forest_tests::node::{Node, node};
use forest_tests::wait::{until, until_value};
use forest_tests::{nats, process};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;
use serde_json::Value;

use super::Forest;

#[test]
fn what_another_wrote_is_acted_on_long_before_the_next_pass() {
    // Far longer than this test waits.
    let mut node = node("grove-node-1", &nats::server()).poll_interval("10m").start();
    node.until_pass();
    let text = fs::read_to_string(&node.registry).unwrap();
    let mut registry: Value = serde_json::from_str(&text).unwrap();
    let peer = serde_json::json!({"id": "grove-node-2", "ip": "127.0.0.9", "forest_id": "grove"});
    registry["nodes"]["grove"].as_array_mut().unwrap().push(peer);
    let new = node.registry.with_extension("new");
    fs::write(&new, registry.to_string()).unwrap();
    fs::rename(&new, &node.registry).unwrap();
    until("the engine is told of its peer", || {
        let config = fs::read_to_string(node.path("run/nats-server.conf")).unwrap();
        config.contains("@127.0.0.9:6222").then_some(())
    });
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn joiners_wait_for_the_founder_that_is_away() {
    for server in nats::servers() {
        let mut forest = Forest::grown(&server, 1);
        assert_eq!(forest.nodes[0].stop(), Some(0));
        forest.plant();
        forest.plant();
        for node in &forest.nodes[1..] {
            let check = node.until_reason("engine:process", "waits_for_founder");
            assert!(check["output"].as_str().unwrap().contains("grove-node-1"), "{check:#}");
        }
        forest.nodes[0].start();
        forest.until_well();
        forest.stop();
    }
}

#[test]
fn a_founder_rebuilt_empty_joins_its_own_forest() {
    for server in nats::servers() {
        let mut forest = Forest::grown(&server, 3);
        let others = forest.engine_pids()[1..].to_vec();
        assert_eq!(forest.nodes[0].stop(), Some(0));
        for dir in ["state", "run", "jetstream"] {
            fs::remove_dir_all(forest.nodes[0].path(dir)).unwrap();
        }
        forest.nodes[0].start();
        forest.until_well();
        assert_eq!(forest.engine_pids()[1..], others);
        forest.stop();
    }
}

/// Is it Debian's?
fn is_old(server: &Path) -> bool {
    server.to_string_lossy().contains("debian")
}

#[test]
fn all_come_back_while_the_share_is_away() {
    for server in nats::servers() {
        for count in [1, 3] {
            let mut forest = Forest::grown(&server, count);
            forest.stop();
            let (share, aside) = (forest.share.path().join("share"), forest.share.path().join("aside"));
            // A file, so that nothing can be made where the share stood; swapped at one stroke, so that there is no
            // moment in which something could.
            fs::write(&aside, "").unwrap();
            let swap = || renameat_with(CWD, &share, CWD, &aside, RenameFlags::EXCHANGE).unwrap();
            swap();
            forest.nodes.iter_mut().for_each(Node::start);
            for node in &forest.nodes {
                let size = if count < 3 { count + 1 } else { count };
                // Servers of 2.9 may count the witness of before again after a restart of all; it goes when the record
                // that it has no place can be read.
                let ghosts = usize::from(is_old(&server) && count >= 3);
                let is_back = |check: &Value| {
                    let output = check["output"].as_str().unwrap_or_default();
                    let counted = &check["observedValue"];
                    let of_a_ghost =
                        check["reason"] == "member_not_current" && output.contains("not current: w-");
                    (*counted == size || *counted == size + ghosts)
                        && (check["status"] == "pass" || (ghosts > 0 && of_a_ghost))
                };
                until_value(
                    &format!("{} has a meta leader again", node.id),
                    || node.check("nats:jetstream"),
                    is_back,
                );
                assert_ne!(node.check("registry:entry")["status"], "pass");
            }
            swap();
            forest.until_well();
            forest.stop();
        }
    }
}

#[test]
fn any_node_tells_of_all_and_names_the_silent() {
    let mut forest = Forest::grown(&nats::server(), 3);
    for node in &forest.nodes {
        let told = node.get("/forest").unwrap().json();
        assert_eq!(told["silent"], serde_json::json!([]), "{told:#}");
        let ids: Vec<_> = told["nodes"].as_array().unwrap().iter().map(|node| &node["node_id"]).collect();
        assert_eq!(ids, ["grove-node-1", "grove-node-2", "grove-node-3"]);
        assert!(told["nodes"].as_array().unwrap().iter().all(|node| node["health"]["status"] == "pass"));
    }
    // An agent that is gone with its engine.
    let lost = &mut forest.nodes[1];
    lost.signal(Signal::KILL);
    assert_eq!(lost.ended(), None);
    lost.processes().iter().for_each(|(pid, _)| process::signal(*pid, Signal::KILL));
    let told = forest.nodes[2].get("/forest").unwrap().json();
    assert_eq!(told["silent"], serde_json::json!(["grove-node-2"]), "{told:#}");
    assert_eq!(told["status"], "warn");
    let check = forest.nodes[0].until_reason("nats:jetstream", "member_not_current");
    assert!(check["output"].as_str().unwrap().contains("grove-node-2"), "{check:#}");
    forest.nodes[1].start();
    forest.until_well();
    forest.stop();
}

#[test]
fn a_server_that_was_reloaded_hears_a_leader_that_comes_later() {
    // Of the old version if it is there: the new one has no such trouble.
    let server = nats::servers().pop().unwrap();
    let mut forest = Forest::grown(&server, 3);
    let reloads = |node: &Node| {
        let log = fs::read_to_string(node.path("state/log/engine.log")).unwrap();
        log.matches("Reloaded server configuration").count()
    };
    // Which of them leads afterwards is up to them; only one that was started anew is of interest.
    for _ in 0..4 {
        let [first, second, reloaded] = forest.engine_pids()[..] else { panic!("three nodes") };
        let before = reloads(&forest.nodes[2]);
        process::signal(reloaded, Signal::HUP);
        until("the server is reloaded", || (reloads(&forest.nodes[2]) > before).then_some(()));
        for pid in [first, second] {
            process::signal(pid, Signal::KILL);
        }
        forest.until_restarted(&[(0, first), (1, second)]);
        forest.until_well();
        assert_eq!(forest.nodes[2].engine_pid(), reloaded);
        if forest.leader() != "grove-node-3" {
            break;
        }
    }
    forest.stop();
}

#[test]
fn a_witness_of_before_that_nobody_remembers_the_name_of_is_taken_out() {
    for server in nats::servers() {
        let mut forest = Forest::grown(&server, 3);
        // One that has been in the group, and dies with all that knew it. A name that was taken out is not let in.
        let founder = forest.record()["founder"].as_str().unwrap().to_owned();
        let other = forest.nodes.iter().find(|node| node.id != founder).unwrap();
        let mut ghost = forest.start_server(&format!("w-{}-1", other.id));
        for node in &forest.nodes {
            until_value(
                "it is counted",
                || node.check("nats:jetstream"),
                |check| check["observedValue"] == 4,
            );
        }
        let engines = forest.engine_pids();
        for pid in &engines {
            process::signal(*pid, Signal::KILL);
        }
        ghost.kill().unwrap();
        ghost.wait().unwrap();
        forest.until_restarted(&engines.into_iter().enumerate().collect::<Vec<_>>());
        forest.until_well();
        forest.stop();
    }
}
