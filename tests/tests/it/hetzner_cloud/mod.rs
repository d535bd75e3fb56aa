//! morpheus as a program, on Hetzner Cloud as it would be: the fake API, a real Apache in the StorageBox's place, and
//! simulated machines with real agents and real engines, or answers made up, behind the servers.

mod forest;

use std::collections::BTreeSet;

use forest_tests::cloud::Cloud;
use serde_json::Value;

/// Nothing of the forest is left: no server, firewall, group, key, record, entry, secret or program.
#[track_caller]
fn nothing_is_left(cloud: &Cloud) {
    {
        let world = cloud.api.world();
        let left = ["servers", "firewalls", "placement_groups", "ssh_keys"].map(|kind| world.names(kind));
        assert_eq!(left, [const { BTreeSet::new() }; 4]);
    }
    let registry = cloud.registry();
    for part in ["forests", "nodes"] {
        let left = registry[part].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>());
        assert_eq!(left.unwrap_or_default(), [""; 0], "{registry:#}");
    }
    let mut files: Vec<String> = std::fs::read_dir(cloud.share())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    files.retain(|name| {
        name != "registry.json" && name != ".registry.last-good.json" && name != ".registry.flock"
    });
    // Apache's own.
    files.retain(|name| name != ".DAV");
    assert_eq!(files, [""; 0]);
}

/// The names of the nodes of a report.
fn names(report: &Value) -> Vec<&str> {
    report["nodes"].as_array().unwrap().iter().map(|node| node["node_id"].as_str().unwrap()).collect()
}
