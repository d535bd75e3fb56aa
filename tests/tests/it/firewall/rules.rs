//! Who gets in, who does not, and how the rules stand up to people.

use std::fs;
use std::time::{Duration, Instant};

use forest_tests::lab::Reach;
use forest_tests::wait::{until, until_value};
use serde_json::{Value, json};

use super::{Scene, unmanage, until_peer, until_rules};

#[test]
fn strangers_are_dropped_and_a_peer_comes_in_as_it_joins() {
    let scene = Scene::new(3);
    let before = scene.ruleset();
    let mut first = scene.node(1).start();
    until_rules(&first, 6);
    // The servers take clients on loopback alone; somebody else may not.
    let _clients = [4222, 4223].map(|port| scene.lab.listen(1, scene.at(1, port)));
    for from in [2, 3] {
        for port in [4222, 4223, 6222, 6223] {
            assert_eq!(scene.reach(from, port), Reach::Dropped, "host {from}, port {port}");
        }
        for port in [8222, 8223] {
            scene.until_open(from, port);
        }
        assert_eq!(scene.reach(from, 22), Reach::Refused, "no port of others is touched");
    }

    let second = scene.node(2).start();
    scene.until_registered(2);
    let joined = Instant::now();
    scene.until_open(2, 6222);
    // Half a second is the poll interval; the rest is for a machine that is busy with other tests.
    assert!(joined.elapsed() < Duration::from_secs(20), "{:?}", joined.elapsed());
    scene.until_open(2, 6223);
    assert_eq!(scene.reach(2, 4222), Reach::Dropped);
    assert_eq!([4222, 4223, 6222, 6223].map(|port| scene.reach(3, port)), [Reach::Dropped; 4]);
    until_peer(&first);
    until_peer(&second);

    unmanage(&mut first);
    assert_eq!(scene.ruleset(), before, "what is left is what was there before");
    for port in [4222, 4223, 6222] {
        scene.until_open(3, port);
    }
}

#[test]
fn rules_that_a_person_changes_come_back_and_their_own_stay() {
    let scene = Scene::new(1);
    scene.lab.run(1, &["nft", "add table inet theirs"]).unwrap();
    let node = scene.node(1).start();
    until_rules(&node, 6);
    let stands = scene.ruleset();
    let tag = stands.lines().find_map(|line| line.strip_prefix("table inet forest_agent_")).unwrap();
    let ours = format!("inet forest_agent_{}", tag.trim_end_matches(" {"));
    for change in [
        format!("delete table {ours}"),
        format!("flush chain {ours} input"),
        format!("add element {ours} peers6 {{ fd5a::bad }}"),
        format!("insert rule {ours} input accept"),
        "flush ruleset; add table inet theirs".to_owned(),
    ] {
        scene.lab.run(1, &["nft", &change]).unwrap();
        until_value(&format!("it comes back after `{change}`"), || scene.ruleset(), |found| *found == stands);
    }
    until_rules(&node, 6);
}

#[test]
fn a_foreign_chain_that_drops_is_named_until_it_lets_in() {
    let scene = Scene::new(1);
    let guard = "add table inet guard; add chain inet guard in { type filter hook input priority 10; policy drop; }; \
                 add rule inet guard in iif lo accept; add rule inet guard in ct state established,related accept; \
                 add rule inet guard in tcp dport 22 accept";
    scene.lab.run(1, &["nft", guard]).unwrap();
    let node = scene.node(1).start();
    let check = node.until_reason("firewall:rules", "firewall_blocked_by_other");
    assert_eq!((&check["status"], &check["observedValue"]), (&json!("warn"), &json!(6)));
    let output = check["output"].as_str().unwrap();
    assert!(output.starts_with("chain in of table inet guard, which is not ours, drops"), "{output}");
    assert!(output.contains("TCP 6222, 6223, 8222, 8223"), "{output}");
    scene.lab.run(1, &["nft", "add rule inet guard in tcp dport { 6222-6223, 8222-8223 } accept"]).unwrap();
    until_rules(&node, 6);
}

#[test]
fn the_metadata_service_is_for_root() {
    let scene = Scene::new(2);
    let metadata = "169.254.169.254";
    for (n, address) in [(1, "169.254.1.1/16"), (2, "169.254.169.254/16")] {
        scene.lab.run(n, &["ip", "address", "add", address, "dev", "eth0"]).unwrap();
    }
    let _services = [80, 81].map(|port| scene.lab.listen(2, ([169, 254, 169, 254], port)));
    let node = scene.node(1).start();
    until_rules(&node, 6);
    let connects = |user: &str, port: u16| {
        let connect = format!("exec 3<>/dev/tcp/{metadata}/{port}");
        let as_user = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"];
        let command = [&as_user[..], &["timeout", "3", "bash", "-c", &connect]].concat();
        scene.lab.run(1, &command).is_ok()
    };
    assert_eq!([connects("0", 80), connects("0", 81)], [true, true]);
    assert_eq!([connects("65534", 80), connects("65534", 81)], [false, true]);
}

#[test]
fn check_says_what_would_change_and_changes_nothing() {
    let scene = Scene::new(1);
    let mut node = scene.node(1).prepare();
    let step = |node: &forest_tests::node::Node| -> Value {
        let answer: Value = serde_json::from_slice(&node.run(&["check", "--json"]).stdout).unwrap();
        let steps = answer["steps"].as_array().unwrap();
        steps.iter().find(|step| step["name"] == "firewall").unwrap().clone()
    };
    let found = step(&node);
    assert_eq!((&found["status"], &found["reason"]), (&json!("would_change"), &json!("firewall_differs")));
    assert!(found["detail"].as_str().unwrap().ends_with("is not there; it would get 6 rules"), "{found}");
    assert_eq!(scene.ruleset(), "");

    node.start();
    until_rules(&node, 6);
    assert_eq!(node.stop(), Some(0));
    let stands = scene.ruleset();
    assert_eq!(step(&node)["status"], "ok", "rules outlive an agent that is stopped");

    let mut registry: Value = serde_json::from_slice(&fs::read(scene.registry()).unwrap()).unwrap();
    let entry = json!({"id": "grove-node-9", "ip": "fd5a::9", "forest_id": "grove"});
    registry["nodes"]["grove"].as_array_mut().unwrap().push(entry);
    fs::write(scene.registry(), registry.to_string()).unwrap();
    let found = step(&node);
    assert_eq!(
        (&found["status"], &found["detail"]),
        (&json!("would_change"), &json!("would let in fd5a::9"))
    );
    assert_eq!(scene.ruleset(), stands);
    node.start();
    until("the entry is followed", || scene.ruleset().contains("fd5a::9").then_some(()));
}
