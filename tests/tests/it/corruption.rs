//! A registry that somebody broke, noticed by four agents at once.

use std::fs;
use std::path::Path;

use forest_tests::nats;
use forest_tests::node::{Node, node};
use forest_tests::wait::{until, until_value};
use serde_json::Value;

fn quarantined(share: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(share).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.display().to_string().contains("registry.json.corrupt-")).collect()
}

fn ids(registry: &Path) -> Option<Vec<String>> {
    let json: Value = serde_json::from_str(&fs::read_to_string(registry).ok()?).ok()?;
    let list = json["nodes"]["grove"].as_array()?.iter();
    let mut ids: Vec<_> = list.map(|entry| entry["id"].as_str().unwrap_or_default().to_owned()).collect();
    ids.sort();
    Some(ids)
}

/// Four agents on one registry; it is broken by `damage`, and must come back whole.
fn broken_by(damage: impl Fn(&[u8]) -> Vec<u8>) {
    let share = tempfile::tempdir().unwrap();
    let registry = share.path().join("registry.json");
    let server = nats::servers().remove(0);
    let mut nodes: Vec<Node> = (1..=4)
        .map(|n| node(&format!("grove-node-{n}"), &server).registry(&registry).env(STALE, "5000").start())
        .collect();
    let all: Vec<String> = (1..=4).map(|n| format!("grove-node-{n}")).collect();
    until_value("all four are registered", || ids(&registry), |ids| ids.as_ref() == Some(&all));
    for node in &nodes {
        until("its entry stands", || (node.check("registry:entry")["status"] == "pass").then_some(()));
    }

    let good = fs::read(&registry).unwrap();
    let bad = damage(&good);
    fs::write(&registry, &bad).unwrap();
    // It may be mended before anybody looks at the health; the events keep what was said.
    until("somebody says so", || {
        let said = |node: &Node| {
            let events = node.get("/events").map_or(String::new(), |answer| answer.body);
            events.contains("registry_corrupt") || events.contains("registry_missing")
        };
        nodes.iter().any(said).then_some(())
    });
    until_value("the last good copy is back", || ids(&registry), |ids| ids.as_ref() == Some(&all));
    let copies = quarantined(share.path());
    assert_eq!(copies.len(), 1, "quarantined once: {copies:?}");
    assert_eq!(fs::read(&copies[0]).unwrap(), bad);
    for node in &nodes {
        let check = node.until_reason("registry:entry", "registry_quarantined");
        let name = copies[0].file_name().unwrap().to_string_lossy();
        assert!(check["output"].as_str().unwrap().contains(&*name), "{check:#}");
    }
    fs::remove_file(&copies[0]).unwrap();
    for node in &mut nodes {
        until("it passes again", || (node.check("registry:entry")["status"] == "pass").then_some(()));
        assert_eq!(node.stop(), Some(0));
    }
    assert_eq!(quarantined(share.path()).len(), 0, "nobody quarantined it once more");
}

/// The stale limit, in ms: a minute for people, seconds here, but more than a loaded machine keeps a holder waiting.
const STALE: &str = "FOREST_AGENT_TEST_STALE_MS";

#[test]
fn truncated_to_half() {
    broken_by(|good| good[..good.len() / 2].to_vec());
}

#[test]
fn emptied() {
    broken_by(|_| Vec::new());
}

#[test]
fn made_a_list() {
    broken_by(|_| b"[1, 2, 3]".to_vec());
}

#[test]
fn made_binary() {
    broken_by(|_| (0..=255).cycle().take(5000).collect());
}

#[test]
fn without_a_good_copy_it_is_refused_and_left_alone() {
    let mut grove = node("grove-node-1", &nats::servers()[0]).env(STALE, "1000").prepare();
    fs::create_dir(grove.path("share")).unwrap();
    fs::write(&grove.registry, "{\"nodes\": ").unwrap();
    grove.start();
    grove.until_reason("registry:entry", "registry_no_copy");
    assert_eq!(fs::read_to_string(&grove.registry).unwrap(), "{\"nodes\": ");
    fs::write(&grove.registry, "{}").unwrap();
    until("it registers", || (grove.check("registry:entry")["status"] == "pass").then_some(()));
    assert_eq!(grove.stop(), Some(0));
}
