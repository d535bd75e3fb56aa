//! The rules of a claim, one by one, and what holds for every registry.

use forest_core::registry::{
    Action, Claim, ClaimError, Document, Entry, Ports, Probes, Registry, bury, claim, remove_entry,
};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::bench::grove;

const NOW: &str = "2026-11-22T20:16:55Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn registry(nodes: &Value) -> Registry {
    Registry::parse(json!({ "updated_at": "before", "nodes": nodes }).to_string().as_bytes()).unwrap()
}

/// What node `n1` at fd00::1, instance `me`, claims.
fn n1() -> Claim {
    Claim {
        forest: grove(),
        node: "n1".parse().unwrap(),
        address: "fd00::1".parse().unwrap(),
        instance: "me".to_owned(),
        ports: Ports::default(),
        now: now(),
        probes: Probes::default(),
    }
}

fn ids(registry: &Registry) -> Vec<String> {
    registry.entries(&grove()).into_iter().map(|entry| entry.id).collect()
}

/// The claim once every entry in its way was asked, with that answer for all of them.
fn probed(registry: &Registry, answered: bool) -> Result<forest_core::registry::Change, ClaimError> {
    let Err(ClaimError::NeedsProbe(entries)) = claim(registry, &n1()) else {
        panic!("somebody must be asked first");
    };
    let mut asked = n1();
    entries.iter().for_each(|entry| asked.probes.note(entry, answered));
    claim(registry, &asked)
}

#[test]
fn a_new_node_is_added_whole() {
    let change = claim(&Registry::empty(), &n1()).unwrap();
    assert_eq!(change.action, Action::Add);
    let due = json!({
        "id": "n1", "ip": "fd00::1", "forest_id": "grove", "ipv6": "fd00::1", "status": "active",
        "created_at": NOW, "metadata": {"instance": "me"}
    });
    assert_eq!(change.entry.to_string(), due.to_string());
    let text = change.registry.unwrap().render();
    let due = json!({ "version": 1, "updated_at": NOW, "forests": {}, "nodes": {"grove": [due]} });
    assert_eq!(text, format!("{due:#}\n"));
}

#[test]
fn another_address_is_an_update_that_keeps_what_others_wrote() {
    let found = json!({"grove": [{"x": 1.10, "id": "n1", "ip": "10.0.0.1", "ipv4": "10.0.0.1", "status": "planting",
        "created_at": "long ago", "location": "fsn1", "metadata": {"instance": "me", "monitor_port": "1", "rack": "7"}}]});
    let change = claim(&registry(&found), &n1()).unwrap();
    assert_eq!(change.action, Action::Update);
    let due = json!({"x": 1.10, "id": "n1", "ip": "fd00::1", "status": "active", "created_at": "long ago",
        "location": "fsn1", "metadata": {"instance": "me", "rack": "7"}, "forest_id": "grove", "ipv6": "fd00::1"});
    assert_eq!(change.entry.to_string(), due.to_string());
}

#[test]
fn an_address_of_the_other_family_that_others_wrote_is_kept() {
    let found = json!({"grove": [{"id": "n1", "ip": "fd00::9", "ipv6": "fd00::9", "ipv4": "203.0.113.7"}]});
    let entry = claim(&registry(&found), &n1()).unwrap().entry;
    assert_eq!((&entry["ipv6"], &entry["ipv4"]), (&json!("fd00::1"), &json!("203.0.113.7")));
}

#[test]
fn ports_that_differ_are_told() {
    let mut other = n1();
    other.ports.health = 9223;
    let change = claim(&Registry::empty(), &other).unwrap();
    assert_eq!(change.entry["metadata"], json!({"instance": "me", "health_port": "9223"}));
    let entry: &Entry = &change.registry.unwrap().entries(&grove())[0];
    assert_eq!((entry.health_port(), entry.monitor_port()), (9223, 8222));
}

#[test]
fn an_entry_of_earlier_tools_is_adopted() {
    let found = json!({"grove": [{"id": "n1", "ip": "fd00::7"}]});
    assert_eq!(claim(&registry(&found), &n1()).unwrap().action, Action::Update);
}

#[test]
fn my_id_under_another_instance_is_taken_over_only_if_it_is_silent() {
    let found =
        registry(&json!({"grove": [{"id": "n1", "ip": "fd00::7", "metadata": {"instance": "other"}}]}));
    assert_eq!(probed(&found, false).unwrap().action, Action::Update);
    let err = probed(&found, true).unwrap_err();
    assert_eq!(err.reason().code(), "id_conflict");
    assert_eq!(err.to_string(), "another node answers under the id n1: n1 at fd00::7, instance other");
}

#[test]
fn my_address_under_another_id_is_replaced_only_if_it_is_silent() {
    let found = registry(&json!({"grove": [{"id": "a", "ip": "fd00::a"},
        {"id": "b", "ip": "FD00:0::1", "metadata": {"instance": "other"}}]}));
    let change = probed(&found, false).unwrap();
    assert_eq!(change.action, Action::Replace(vec!["b".to_owned()]));
    assert_eq!(ids(&change.registry.unwrap()), ["a", "n1"]);
    let err = probed(&found, true).unwrap_err();
    assert_eq!(err.reason().code(), "address_conflict");
    assert_eq!(
        err.to_string(),
        "another node answers at the address FD00:0::1: b at FD00:0::1, instance other"
    );
}

#[test]
fn my_address_without_an_instance_or_with_mine_is_replaced_unasked() {
    for metadata in [json!(null), json!({"instance": "me"})] {
        let found = registry(
            &json!({"grove": [{"id": "b", "ip": "fd00::1", "metadata": metadata}, {"id": "n1", "ip": ""}]}),
        );
        let change = claim(&found, &n1()).unwrap();
        assert_eq!(change.action, Action::Replace(vec!["b".to_owned()]));
        assert_eq!(ids(&change.registry.unwrap()), ["n1"]);
    }
}

#[test]
fn an_answer_holds_only_for_the_entry_as_it_was_asked() {
    let entry =
        |ip: &str| registry(&json!({"grove": [{"id": "n1", "ip": ip, "metadata": {"instance": "other"}}]}));
    let mut asked = n1();
    asked.probes.note(&entry("fd00::7").entries(&grove())[0], false);
    assert!(claim(&entry("fd00::7"), &asked).is_ok());
    assert!(matches!(claim(&entry("fd00::8"), &asked), Err(ClaimError::NeedsProbe(_))));
}

#[test]
fn a_tombstone_keeps_a_node_out() {
    let node = "n1".parse().unwrap();
    let found = Registry::parse(
        br#"{"forests":{"grove":{"size":"small","removed":null}},"nodes":{"grove":[{"id":"n1"}]}}"#,
    );
    let buried = bury(&found.unwrap(), &grove(), &node, now()).unwrap();
    assert_eq!(buried.forest(&grove()).unwrap()["size"], "small");
    assert_eq!(bury(&buried, &grove(), &node, Timestamp::now()), None, "the first time stands");
    let err = claim(&buried, &n1()).unwrap_err();
    assert_eq!(err.to_string(), format!("node n1 was removed from forest grove on purpose, {NOW}"));
    let removed = remove_entry(&buried, &grove(), &node, now()).unwrap();
    assert_eq!(ids(&removed), [""; 0]);
    assert_eq!(remove_entry(&removed, &grove(), &node, now()), None);
}

/// JSON of any kind, with numbers as nobody else spells them.
fn junk() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?(e[-+][1-9])?"
            .prop_map(|digits| serde_json::from_str(&digits).unwrap()),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            keys(inner).prop_map(Value::Object),
        ]
    })
}

fn keys(values: impl Strategy<Value = Value>) -> impl Strategy<Value = serde_json::Map<String, Value>> {
    proptest::collection::vec(("x[a-z0-9]{1,6}", values), 0..4).prop_map(|pairs| pairs.into_iter().collect())
}

/// `known` among keys of others, before and after.
fn among(known: Value) -> impl Strategy<Value = Value> {
    (keys(junk()), keys(junk())).prop_map(move |(before, after)| {
        let known = known.as_object().unwrap().clone();
        Value::Object(
            before
                .into_iter()
                .chain(known)
                .chain(after.into_iter().map(|(k, v)| (format!("y{k}"), v)))
                .collect(),
        )
    })
}

fn entries() -> impl Strategy<Value = Value> {
    let entry = (1..8_u8, keys("[a-z]{0,5}".prop_map(Value::from))).prop_flat_map(|(n, metadata)| {
        among(json!({"id": format!("n{n}"), "ip": format!("fd00::{n}"), "metadata": metadata}))
    });
    proptest::collection::vec(entry, 0..5).prop_map(|mut list| {
        let mut seen = std::collections::HashSet::new();
        list.retain(|entry| seen.insert(entry["id"].to_string()));
        Value::from(list)
    })
}

fn registries() -> impl Strategy<Value = Value> {
    let records = (among(json!({"id": "grove"})), among(json!({"id": "elm"})));
    (entries(), entries(), records).prop_flat_map(|(grove, elm, (grove_record, elm_record))| {
        among(json!({
            "version": 1,
            "updated_at": "before",
            "forests": {"grove": grove_record, "elm": elm_record},
            "nodes": {"grove": grove, "elm": elm},
        }))
    })
}

/// The registry without what agents own: what must be the same, to the byte, after any number of updates.
/// Entries that were not among the `old` ones are left out.
fn of_others(registry: &Registry, old: &[String]) -> String {
    let mut root: Value = serde_json::from_str(&registry.render()).unwrap();
    root["updated_at"] = Value::Null;
    let record = root["forests"]["grove"].as_object_mut().unwrap();
    record.shift_remove("removed");
    let list = root["nodes"]["grove"].as_array_mut().unwrap();
    list.retain(|entry| old.iter().any(|id| entry["id"] == **id));
    for entry in list.iter_mut() {
        let entry = entry.as_object_mut().unwrap();
        for key in ["ip", "forest_id", "ipv6", "ipv4", "status", "created_at"] {
            entry.shift_remove(key);
        }
        let metadata = entry["metadata"].as_object_mut().unwrap();
        for key in ["instance", "cluster_port", "monitor_port", "health_port"] {
            metadata.shift_remove(key);
        }
    }
    root.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_belongs_to_others_survives_100_updates(
        root in registries(),
        steps in proptest::collection::vec((1..12_u8, 20..40_u8, 0..3_u16), 100),
    ) {
        let first = Registry::parse(root.to_string().as_bytes()).unwrap();
        let old = ids(&first);
        let due = of_others(&first, &old);
        let mut registry = first;
        for (node, address, port) in steps {
            let mut step = n1();
            step.node = format!("n{node}").parse().unwrap();
            step.address = format!("fd00::{node}:{address}").parse().unwrap();
            step.instance = format!("instance-{node}");
            step.ports.monitor += port;
            let next = if port == 2 {
                bury(&registry, &grove(), &format!("gone-{node}-{address}").parse().unwrap(), now())
            } else {
                let change = claim(&registry, &step).unwrap();
                prop_assert_eq!(change.action == Action::None, change.registry.is_none());
                change.registry
            };
            let Some(next) = next else { continue };
            registry = Registry::parse(next.render().as_bytes()).unwrap();
            prop_assert_eq!(&registry, &next);
        }
        prop_assert_eq!(of_others(&registry, &old), due);
    }

    #[test]
    fn a_claim_stands_and_a_second_one_changes_nothing(root in registries()) {
        let registry = Registry::parse(root.to_string().as_bytes()).unwrap();
        let next = claim(&registry, &n1()).unwrap().registry.expect("no entry has the instance yet");
        let mine: Vec<Entry> = next.entries(&grove()).into_iter().filter(|entry| entry.id == "n1").collect();
        prop_assert_eq!(mine.len(), 1);
        prop_assert_eq!((&*mine[0].ip, mine[0].instance()), ("fd00::1", Some("me")));
        let mut later = n1();
        later.now = Timestamp::MAX;
        let again = claim(&next, &later).unwrap();
        prop_assert_eq!((again.action, again.registry), (Action::None, None));
    }
}
