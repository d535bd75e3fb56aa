//! What cannot be done without a loss is refused, with the reason, and nothing has changed then.

use async_nats::jetstream::stream;
use forest_tests::client::Client;
use forest_tests::{http, nats, process};
use rustix::process::Signal;
use serde_json::Value;

use super::super::Forest;
use super::super::growth::config;

/// Runs a command of node `index` that is to fail; its JSON.
#[track_caller]
fn refused(forest: &Forest, index: usize, args: &[&str]) -> Value {
    let output = forest.nodes[index].run(&[args, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["error"].take()
}

fn entries(forest: &Forest) -> usize {
    let registry: Value = serde_json::from_slice(&std::fs::read(forest.registry()).unwrap()).unwrap();
    registry["nodes"]["grove"].as_array().unwrap().len()
}

#[test]
fn the_last_node_stays_with_its_streams_unless_forced() {
    let mut forest = Forest::grown(&nats::server(), 1);
    let client = Client::connect(&forest.clients());
    client.run(|js| async move { js.create_stream(config("orders", 1)).await.unwrap() });
    let error = refused(&forest, 0, &["leave"]);
    assert_eq!(error["reason"], "leave_last_node");
    assert!(error["message"].as_str().unwrap().contains("orders"), "{error:#}");
    forest.until_well();
    let output = forest.nodes[0].run(&["leave", "--force", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["lost"], serde_json::json!(["orders"]), "{told:#}");
    let node = forest.gone(0);
    // What was destroyed for the forest lies aside on this machine.
    let aside = node.path("jetstream/jetstream.left-0");
    assert!(aside.is_dir(), "{}", aside.display());
    // Once more changes nothing.
    assert!(node.run(&["leave"]).status.success());
}

#[test]
fn a_node_that_the_quorum_needs_stays() {
    let mut forest = Forest::grown(&nats::server(), 3);
    assert_eq!(refused(&forest, 0, &["forget", "grove-node-2"])["reason"], "node_lives");
    assert_eq!(refused(&forest, 0, &["forget", "grove-node-1"])["reason"], "node_lives");
    let unknown = refused(&forest, 0, &["forget", "grove-node-9"]);
    assert_eq!(unknown["reason"], "node_unknown");
    assert!(unknown["message"].as_str().unwrap().contains("grove-node-2"), "{unknown:#}");
    forest.kill_host(2);
    forest.nodes[0].until_reason("nats:jetstream", "member_not_current");
    let error = refused(&forest, 0, &["leave"]);
    assert_eq!(error["reason"], "leave_quorum");
    assert!(error["message"].as_str().unwrap().contains("grove-node-3"), "{error:#}");
    assert_eq!(entries(&forest), 3);
    // Forgotten first, it is in nobody's way.
    let output = forest.nodes[1].run(&["forget", "grove-node-3", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    forest.nodes.pop();
    forest.until_well();
    forest.leave(0);
    forest.until_well();
    forest.stop();
}

#[test]
fn a_stream_for_which_there_is_no_room_elsewhere_keeps_its_node() {
    let mut forest = Forest::grown(&nats::server(), 2);
    let client = Client::connect(&forest.clients());
    let told = http::get((forest.nodes[0].ip, 8222).into(), "/jsz").unwrap().json();
    let room = told["config"]["max_storage"].as_i64().unwrap();
    for (name, node) in [("here", "grove-node-1"), ("there", "grove-node-2")] {
        let placement = stream::Placement { tags: vec![format!("node:{node}")], ..Default::default() };
        let config =
            stream::Config { max_bytes: room / 5 * 3, placement: Some(placement), ..config(name, 1) };
        client.run(|js| async move { js.create_stream(config).await.unwrap() });
    }
    let error = refused(&forest, 0, &["leave"]);
    assert_eq!(error["reason"], "leave_streams", "{error:#}");
    assert!(error["message"].as_str().unwrap().contains("here"), "{error:#}");
    assert_eq!(entries(&forest), 2);
    forest.until_well();
    let kept = client.run(|js| async move { js.get_stream("here").await.unwrap().cached_info().clone() });
    assert_eq!(kept.cluster.unwrap().leader.unwrap(), "grove-node-1");
    forest.stop();
}

impl Forest {
    /// Everything of node `index` dies at once, as a host does.
    pub(in super::super) fn kill_host(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.signal(Signal::KILL);
        assert_eq!(node.ended(), None);
        node.processes().iter().for_each(|(pid, _)| process::signal(*pid, Signal::KILL));
    }
}
