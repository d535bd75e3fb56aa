//! A forest whose record, machines and entries do not fit together any more, and one under load.

use forest_tests::bounded::Started;
use forest_tests::cloud::laptop::{ended, said};
use forest_tests::cloud::{Behind, Canned, Cloud, Laptop};
use forest_tests::hetzner::{Fault, Rule};
use forest_tests::nats;
use serde_json::json;

use super::{all_is_there_once, fits, well};

fn planted(nodes: &str) -> (Cloud, Laptop) {
    let (cloud, laptop) = well();
    said(&mut laptop.plant(&nats::server(), &["--nodes", nodes, "--name", "grove"])).exits(0);
    cloud.register("grove");
    (cloud, laptop)
}

#[test]
fn machines_entries_and_members_are_brought_together_again() {
    let (cloud, laptop) = planted("2");
    laptop.run(&["status", "grove"]).exits(0);
    cloud.delete_by_hand("grove-node-2");
    let stray = cloud.api.copy_server("grove-node-1", "grove-node-9");
    cloud.edit_registry(|registry| {
        let entry = json!({"id": "grove-node-8", "ip": "2001:db8::8", "forest_id": "grove"});
        registry["nodes"]["grove"].as_array_mut().unwrap().push(entry);
    });
    let status = laptop.run(&["status", "grove", "--json"]).exits(4).json();
    fits("status", &status);
    assert_eq!(
        status["orphans"],
        json!([{"kind": "server", "id": "grove-node-9"}, {"kind": "entry", "id": "grove-node-8"}])
    );
    let unasked = laptop.run(&["grow", "grove", "--repair"]).exits(2);
    assert!(unasked.err.contains("grove-node-9, will be deleted with its data"), "{unasked:?}");
    assert!(cloud.api.world().all("servers").iter().any(|server| server["id"] == stray));
    let repaired = laptop.run(&["grow", "grove", "--repair", "--yes", "--json"]).exits(0).json();
    fits("grow", &repaired);
    assert_eq!(repaired["added"], json!(["grove-node-2"]));
    all_is_there_once(&cloud, 2);
    cloud.register("grove");
    laptop.run(&["status", "grove"]).exits(0);
    let entries = &cloud.registry()["nodes"]["grove"];
    assert_eq!(entries.as_array().unwrap().len(), 2, "{entries}");
    assert!(cloud.registry()["forests"]["grove"]["removed"]["grove-node-8"].is_string());
    let again = laptop.run(&["grow", "grove", "--repair", "--json"]).exits(0).json();
    assert_eq!(again["added"], json!([]));
}

#[test]
fn a_repair_that_fails_buys_no_more_nodes() {
    let (cloud, laptop) = planted("2");
    cloud.delete_by_hand("grove-node-2");
    cloud.api.inject(Rule::on("POST", "/servers", Fault::Refuse(403, "forbidden")));
    let failed = laptop.run(&["grow", "grove", "--repair", "--nodes", "1"]).exits(1);
    assert!(failed.err.contains("morpheus grow grove --repair --nodes 1"), "{failed:?}");
    assert_eq!(cloud.api.world().names("servers"), ["grove-node-1".to_owned()].into());
    assert_eq!(cloud.registry()["forests"]["grove"]["next_node"], 3);
    let repaired = laptop.run(&["grow", "grove", "--repair", "--nodes", "1", "--json"]).exits(0).json();
    assert_eq!(repaired["added"], json!(["grove-node-2", "grove-node-3"]));
    all_is_there_once(&cloud, 3);
}

#[test]
fn a_name_that_something_else_has_is_not_recorded() {
    let (cloud, laptop) = planted("1");
    cloud.api.put_server("grove-node-2");
    let before = cloud.registry()["forests"]["grove"].clone();
    let refused = laptop.run(&["grow", "grove", "--nodes", "1", "--json"]).exits(1).json();
    assert_eq!(refused["error"]["reason"], "hetzner_name_taken");
    assert!(refused["error"]["message"].as_str().unwrap().contains("grove-node-2"), "{refused:#}");
    assert_eq!(cloud.registry()["forests"]["grove"], before);
    cloud.delete_by_hand("grove-node-2");
    laptop.run(&["grow", "grove", "--nodes", "1"]).exits(0);
    all_is_there_once(&cloud, 2);
}

#[test]
fn a_loaded_forest_grows_by_itself_once_and_no_further_than_it_may() {
    let (cloud, laptop) = well();
    cloud.behind(Behind::Canned(Canned::well().with_cpu(95.0)));
    said(&mut laptop.plant(&nats::server(), &["small", "--name", "grove"])).exits(0);
    cloud.register("grove");
    let grow = |more: &[&str]| {
        let report = laptop.run(&[&["grow", "grove"], more].concat()).exits(0).json();
        fits("grow", &report);
        report
    };
    let seen = grow(&["--json"]);
    assert_eq!((&seen["cpu_high"], &seen["added"]), (&json!(true), &json!([])), "nobody was asked");
    assert_eq!(seen["reasons"][0], "the average load, 95 % CPU, is above 80 %");
    assert_eq!(grow(&["--auto"])["added"], json!(["grove-node-2"]));
    cloud.register("grove");
    let pause = grow(&["--auto"]);
    assert_eq!(pause["added"], json!([]));
    assert!(pause["reasons"].to_string().contains("the last one came just now"), "{pause:#}");
    let full = grow(&["--auto", "--cooldown", "0", "--max-nodes", "2"]);
    assert!(full["reasons"].to_string().contains("--max-nodes 2 already"), "{full:#}");
    let calm = grow(&["--auto", "--threshold", "99"]);
    assert!(calm["reasons"].to_string().contains("does not ask for one"), "{calm:#}");
    all_is_there_once(&cloud, 2);
}

#[test]
fn two_that_find_the_load_too_high_at_the_same_moment_add_one_node() {
    let (cloud, laptop) = well();
    cloud.behind(Behind::Canned(Canned::well().with_cpu(95.0)));
    said(&mut laptop.plant(&nats::server(), &["small", "--name", "grove"])).exits(0);
    cloud.register("grove");
    let other = cloud.laptop();
    let both =
        [&laptop, &other].map(|laptop| Started::new(&mut laptop.command(&["grow", "grove", "--auto"])));
    let _ = both.map(|command| ended(command).exits(0));
    all_is_there_once(&cloud, 2);
}
