//! A forest in the cloud gets smaller: its nodes leave by their own agents, over an ssh that leads into their namespaces,
//! and their machines go.

use std::time::Duration;

use forest_tests::bounded::Started;
use forest_tests::cloud::laptop::said;
use forest_tests::cloud::{Behind, Cloud, Laptop};
use forest_tests::hetzner::{Fault, Rule};
use forest_tests::nats;
use forest_tests::wait::{random_moment, until_value};
use serde_json::{Value, json};

use super::{behind, fits, names, well};

/// Three real nodes, one cluster.
fn grove() -> (Cloud, Laptop) {
    let (cloud, laptop) = behind(Behind::Machine);
    said(&mut laptop.plant(&nats::server(), &["medium", "--name", "grove"])).exits(0);
    cloud.open_to(&laptop);
    // The witness leaves once there are real nodes enough.
    until_value(
        "the three are one cluster",
        || laptop.run(&["status", "grove", "--json"]).json(),
        |status| {
            let nodes = status["nodes"].as_array().unwrap();
            nodes.iter().all(|node| node["health"]["checks"]["nats:jetstream"][0]["observedValue"] == 3)
        },
    );
    (cloud, laptop)
}

/// The forest is these nodes, all well, and nothing is there of others.
#[track_caller]
fn consists_of(cloud: &Cloud, laptop: &Laptop, nodes: &[&str]) -> Value {
    let status = until_value(
        "all are well",
        || laptop.run(&["status", "grove", "--json"]).json(),
        |status| status["status"] == "pass",
    );
    assert_eq!(names(&status), nodes);
    assert_eq!(status["orphans"], json!([]));
    let servers: Vec<String> = cloud.api.world().names("servers").into_iter().collect();
    assert_eq!(servers, nodes);
    assert_eq!(cloud.registry()["forests"]["grove"]["members"], json!(nodes));
    let entries = cloud.registry()["nodes"]["grove"].as_array().unwrap().len();
    assert_eq!(entries, nodes.len());
    status
}

#[test]
fn nodes_leave_and_their_machines_go() {
    let (cloud, laptop) = grove();
    let unknown = laptop.run(&["shrink", "grove", "grove-node-4", "--yes"]).exits(3);
    assert!(unknown.err.contains("known: grove-node-1"), "{unknown:?}");
    laptop.run(&["shrink", "grove", "grove-node-2"]).exits(2);
    let all = ["shrink", "grove", "grove-node-1", "grove-node-2", "grove-node-3", "--yes", "--json"];
    assert_eq!(laptop.run(&all).exits(1).json()["error"]["reason"], "leave_last_node");
    // The founder, while its machine cannot be deleted at first.
    cloud.api.inject(Rule::on("DELETE", "/servers", Fault::Refuse(403, "forbidden")));
    let shrink = ["shrink", "grove", "grove-node-1", "--yes", "--json"];
    let failed = laptop.run(&shrink).exits(1).json();
    fits("action", &failed);
    assert_eq!(failed["error"]["reason"], "hetzner_forbidden");
    assert!(failed["error"]["message"].as_str().unwrap().contains("run it again"), "{failed:#}");
    assert_eq!(cloud.api.world().all("servers").len(), 3);
    let orphans = laptop.run(&["status", "grove", "--json"]).json()["orphans"].clone();
    assert_eq!(orphans, json!([{"kind": "server", "id": "grove-node-1"}]), "it has left");
    let done = laptop.run(&shrink).exits(0).json();
    fits("action", &done);
    assert_eq!((names(&done), &done["nodes"][0]["status"]), (vec!["grove-node-1"], &json!("removed")));
    consists_of(&cloud, &laptop, &["grove-node-2", "grove-node-3"]);
    laptop.run(&["grow", "grove", "--nodes", "1"]).exits(0);
    cloud.open_to(&laptop);
    consists_of(&cloud, &laptop, &["grove-node-2", "grove-node-3", "grove-node-4"]);
}

#[test]
fn one_that_is_dead_is_given_up_by_force_alone() {
    let (cloud, laptop) = grove();
    cloud.crash("grove-node-3");
    let shrink =
        |more: &[&str]| laptop.run(&[&["shrink", "grove", "grove-node-3", "--yes", "--json"], more].concat());
    let refused = shrink(&[]).exits(1).json();
    fits("action", &refused);
    assert_eq!(refused["error"]["reason"], "ssh_failed");
    assert!(refused["error"]["message"].as_str().unwrap().contains("--force"), "{refused:#}");
    assert_eq!(cloud.api.world().all("servers").len(), 3);
    // One that is new cannot reach it either, and is no worse for that.
    laptop.run(&["grow", "grove", "--nodes", "1"]).exits(0);
    cloud.open_to(&laptop);
    shrink(&["--force"]).exits(0);
    consists_of(&cloud, &laptop, &["grove-node-1", "grove-node-2", "grove-node-4"]);
}

#[test]
fn a_laptop_killed_in_the_middle_finishes_when_asked_again() {
    let (cloud, laptop) = grove();
    let args = ["shrink", "grove", "grove-node-2", "--yes", "--json"];
    let mut command = Started::new(&mut laptop.command(&args));
    random_moment(Duration::from_secs(6));
    let _ = command.kill();
    // Gone already, if it was quicker than its end.
    laptop.run(&args).exits_or(0, "node_unknown");
    consists_of(&cloud, &laptop, &["grove-node-1", "grove-node-3"]);
}

#[test]
fn one_that_never_came_costs_nothing_when_it_is_given_up() {
    let (cloud, laptop) = well();
    said(&mut laptop.plant(&nats::server(), &["--nodes", "2", "--name", "grove"])).exits(0);
    cloud.open_to(&laptop);
    let shrink =
        |more: &[&str]| laptop.run(&[&["shrink", "grove", "grove-node-2", "--yes", "--json"], more].concat());
    let refused = shrink(&[]).exits(1).json();
    assert!(refused["error"]["message"].as_str().unwrap().contains("never registered"), "{refused:#}");
    shrink(&["--force"]).exits(0);
    assert_eq!(cloud.api.world().names("servers"), ["grove-node-1".to_owned()].into());
    assert_eq!(cloud.registry()["forests"]["grove"]["members"], json!(["grove-node-1"]));
}
