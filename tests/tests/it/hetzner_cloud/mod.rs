//! morpheus as a program, on Hetzner Cloud as it would be: the fake API, a real Apache in the StorageBox's place, and
//! simulated machines with real agents and real engines, or answers made up, behind the servers.

mod commands;
mod faults;
mod forest;
mod killed;
mod repair;
mod rotation;
mod shrink;
mod upgrade;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use forest_tests::cloud::{Behind, Canned, Cloud, Laptop};
use serde_json::Value;

/// A cloud whose nodes say that all is well, and a laptop.
fn well() -> (Cloud, Laptop) {
    behind(Behind::Canned(Canned::well()))
}

fn behind(behind: Behind) -> (Cloud, Laptop) {
    let cloud = Cloud::new(behind);
    let laptop = cloud.laptop();
    (cloud, laptop)
}

/// The project is empty.
#[track_caller]
fn nothing_costs(cloud: &Cloud) {
    let world = cloud.api.world();
    let left = ["servers", "firewalls", "placement_groups", "ssh_keys"].map(|kind| world.names(kind));
    assert_eq!(left, [const { BTreeSet::new() }; 4]);
}

/// Nothing of any forest is left: no server, firewall, group, key, record, entry, secret or program.
#[track_caller]
fn nothing_is_left(cloud: &Cloud) {
    nothing_costs(cloud);
    let registry = cloud.registry();
    for part in ["forests", "nodes"] {
        let left = registry[part].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>());
        assert_eq!(left.unwrap_or_default(), [""; 0], "{registry:#}");
    }
    let mut files: Vec<String> = fs::read_dir(cloud.share())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    // What stays of a registry without forests, and Apache's own.
    let stay = ["registry.json", ".registry.last-good.json", ".registry.flock", ".DAV"];
    files.retain(|name| !stay.contains(&name.as_str()));
    assert_eq!(files, [""; 0]);
}

/// So many nodes have exactly what they need, and no more is there.
#[track_caller]
fn all_is_there_once(cloud: &Cloud, nodes: usize) {
    let world = cloud.api.world();
    let due: BTreeSet<String> = (1..=nodes).map(|n| format!("grove-node-{n}")).collect();
    assert_eq!(world.names("servers"), due);
    for server in world.all("servers") {
        assert_eq!(server["labels"]["node"], server["name"]);
        assert_eq!(server["labels"]["managed-by"], "morpheus");
        assert_eq!(server["labels"]["forest"], "grove");
    }
    let firewalls = world.all("firewalls");
    assert_eq!((firewalls.len(), &firewalls[0]["name"]), (1, &"morpheus-grove".into()));
    let rules = firewalls[0]["rules"].as_array().unwrap();
    let open: BTreeSet<&str> =
        rules.iter().map(|rule| rule["port"].as_str().or(rule["protocol"].as_str()).unwrap()).collect();
    assert_eq!(open, BTreeSet::from(["22", "6222", "6223", "8222", "8223", "icmp"]));
    assert_eq!(world.all("ssh_keys").len(), 1);
    let registry = cloud.registry();
    let record = &registry["forests"]["grove"];
    assert_eq!(record["members"].as_array().unwrap().len(), nodes);
    assert_eq!((&record["status"], &record["pending"]), (&"active".into(), &Value::Array(Vec::new())));
    let mut programs: Vec<_> =
        fs::read_dir(cloud.share().join("bin")).unwrap().map(|file| file.unwrap().file_name()).collect();
    programs.retain(|name| name != ".DAV");
    assert_eq!(programs.len(), 2, "agent and engine: {programs:?}");
}

/// The names of the nodes of a report.
fn names(report: &Value) -> Vec<&str> {
    report["nodes"].as_array().unwrap().iter().map(|node| node["node_id"].as_str().unwrap()).collect()
}

/// Checks `value` against docs/schemas/NAME.json.
#[track_caller]
fn fits(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas").join(format!("{name}.json"));
    let schema: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(value).map(|err| format!("{}: {err}", err.instance_path())).collect();
    assert_eq!(errors, [""; 0], "{name}: {value:#}");
}
