//! What the agent tells programs: every JSON against its schema in docs/schemas, and /metrics as Prometheus reads it.

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use forest_tests::nats;
use forest_tests::node::{Node, node};
use forest_tests::schema::check;
use forest_tests::wait::until_value;
use rustix::process::Signal;
use serde_json::{Value, json};

/// What a command of the agent prints with `--json`.
fn printed(node: &Node, args: &[&str]) -> Value {
    let output = node.run(&[args, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{args:?}: {err}: {output:?}"))
}

/// Every endpoint's answer fits, whatever the node's state.
fn check_endpoints(node: &Node) {
    check("health", &node.health());
    for name in ["forest", "events", "livez", "readyz"] {
        check(name, &node.get(&format!("/{name}")).unwrap().json());
    }
    check("error", &node.get("/nothing").unwrap().json());
}

#[test]
fn every_json_of_the_agent_fits_its_schema() {
    let mut grove = node("grove-node-1", &nats::server()).prepare();
    // Before anything runs.
    let planned = printed(&grove, &["register", "--dry-run"]);
    check("register", &planned);
    assert_eq!(planned["action"], "add");
    let outlook = printed(&grove, &["check"]);
    check("check", &outlook);
    assert_eq!(outlook["status"], "would_change");
    check("error", &printed(&grove, &["status"]));

    grove.start();
    until_value("it answers", || grove.health(), |health| !health.is_null());
    check_endpoints(&grove);
    grove.until_pass();
    check_endpoints(&grove);
    check("health", &printed(&grove, &["status"]));
    let planned = printed(&grove, &["register", "--dry-run"]);
    check("register", &planned);
    assert_eq!(planned["action"], "none");
    check("check", &printed(&grove, &["check"]));
    metrics_are_those_of_health(&grove);

    forest_tests::process::signal(grove.engine_pid(), Signal::KILL);
    let ill =
        until_value("the exit shows", || grove.health(), |health| !health["engine"]["last_exit"].is_null());
    check("health", &ill);
    check_endpoints(&grove);
    assert_eq!(grove.stop(), Some(0));

    std::fs::write(grove.path("agent.yaml"), "forest_id: 7\n").unwrap();
    check("error", &printed(&grove, &["check"]));
}

#[test]
fn the_schemas_refuse_what_they_should() {
    let good = json!({"status": "pass", "forest_id": "grove", "node_id": "grove-node-1", "instance": "i"});
    check("livez", &good);
    for wrong in [
        json!({"status": "warn", "forest_id": "grove", "node_id": "grove-node-1", "instance": "i"}),
        json!({"status": "pass", "forest_id": "Grove", "node_id": "grove-node-1", "instance": "i"}),
        json!({"status": "pass", "forest_id": "grove", "node_id": "grove-node-1"}),
    ] {
        assert!(catch_unwind(|| check("livez", &wrong)).is_err(), "{wrong}");
    }
}

fn metrics_are_those_of_health(node: &Node) {
    let answer = node.get("/metrics").unwrap();
    assert!(answer.head.contains("application/openmetrics-text; version=1.0.0"), "{}", answer.head);
    let health = node.health();
    let found = parse(&answer.body);
    let value = |name: &str| *found.get(name).unwrap_or_else(|| panic!("no {name} in {}", answer.body));
    for (check, status) in health["checks"].as_object().unwrap() {
        assert_eq!(status[0]["status"], "pass");
        assert_eq!(value(&format!("forest_agent_check_status{{check=\"{check}\"}}")), 0.0);
    }
    assert_eq!(value("forest_agent_health_status"), 0.0);
    assert_eq!(value("forest_agent_engine_up"), 1.0);
    assert_eq!(Some(value("forest_agent_engine_pid")), health["engine"]["pid"].as_f64());
    assert_eq!(value("forest_agent_engine_restarts_total"), 0.0);
    assert!(value("forest_agent_nats_rtt_seconds") > 0.0);
    assert_eq!(value("forest_agent_jetstream_meta_members"), 2.0);
    assert_eq!((value("forest_agent_peers_known"), value("forest_agent_peers_reachable")), (0.0, 0.0));
    assert!(value("forest_agent_registry_age_seconds") < 60.0 && value("forest_agent_uptime_seconds") >= 0.0);
    assert!(found.keys().any(|name| name.starts_with("forest_agent_node_info{")
        && name.contains("node_id=\"grove-node-1\"")
        && name.contains("forest_id=\"grove\"")));
}

/// Reads OpenMetrics' text as its definition says: each family told of before its samples, by HELP and TYPE, and
/// the end marked. Samples by their names with labels.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let (mut families, mut samples) = (BTreeMap::<&str, (bool, bool)>::new(), BTreeMap::new());
    for line in body.lines() {
        if let Some(told) = line.strip_prefix("# ") {
            let mut words = told.splitn(3, ' ');
            let (kind, name, text) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let family = families.entry(name).or_default();
            match kind {
                "HELP" => family.0 = !text.is_empty(),
                "TYPE" => family.1 = ["gauge", "counter", "info"].contains(&text),
                "UNIT" => assert!(name.ends_with(&format!("_{text}")), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let bare = name.split('{').next().unwrap();
        let family = bare.trim_end_matches("_total").trim_end_matches("_info");
        assert_eq!(families.get(family), Some(&(true, true)), "HELP and TYPE come before {line}");
        let value = value.parse().unwrap_or_else(|err| panic!("{line}: {err}"));
        assert!(samples.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    samples
}
