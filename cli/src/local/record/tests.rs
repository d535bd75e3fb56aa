use forest_core::registry::{Document as _, remove_forest};
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn request(count: u8, seed: u64) -> Request {
    let programs = Programs {
        agent: "/bin/forest-agent".into(),
        engine: EngineKind::NatsServer,
        binary: Some("/bin/nats-server".into()),
        download: None,
    };
    Request { count, programs, busy: BTreeSet::new(), seed, now: NOW }
}

fn id(text: &str) -> ForestId {
    text.parse().unwrap()
}

fn planted(count: u8) -> Registry {
    plant(&Registry::empty(), &id("grove"), &request(count, 7)).unwrap().0.unwrap()
}

fn plan(registry: &Registry) -> Plan {
    Forest::find(registry, &id("grove")).unwrap().plan
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.members.iter().map(|member| member.id.as_str()).collect()
}

#[test]
fn a_plant_that_was_cut_short_is_taken_up_again() {
    let registry = planted(3);
    assert_eq!(names(&plan(&registry)), ["grove-node-1", "grove-node-2", "grove-node-3"]);
    let (again, same) = plant(&registry, &id("grove"), &request(3, 99)).unwrap();
    assert_eq!((again, same), (None, plan(&registry)));
    let other = plant(&registry, &id("grove"), &request(1, 7)).unwrap_err();
    assert!(other.reason == Reason::NameTaken && other.message.contains("with 3 nodes"), "{other}");
}

#[test]
fn a_name_is_taken_once_its_forest_stands_or_falls() {
    let all: Vec<NodeId> = plan(&planted(3)).pending;
    let some = settle(&planted(3), &id("grove"), &all[..2], NOW).unwrap();
    assert_eq!((plan(&some).status, plan(&some).pending.len()), (Status::Planting, 1));
    let active = settle(&some, &id("grove"), &all[2..], NOW).unwrap();
    assert_eq!(plan(&active).status, Status::Active);
    assert_eq!(settle(&active, &id("grove"), &all, NOW), None);
    let removing = bury(&active, &id("grove"), NOW).unwrap();
    for registry in [&active, &removing] {
        let err = plant(registry, &id("grove"), &request(3, 7)).unwrap_err();
        assert!(err.message.contains("grove") && err.reason == Reason::NameTaken);
    }
    assert!(grow(&removing, &id("grove"), 1, NOW).unwrap_err().message.contains("half torn down"));
}

#[test]
fn a_growth_that_was_cut_short_is_not_doubled() {
    let active = settle(&planted(1), &id("grove"), &plan(&planted(1)).pending, NOW).unwrap();
    let (grown, first) = grow(&active, &id("grove"), 2, NOW).unwrap();
    assert_eq!(names(&first), ["grove-node-1", "grove-node-2", "grove-node-3"]);
    let (again, second) = grow(grown.as_ref().unwrap(), &id("grove"), 2, NOW).unwrap();
    assert_eq!((again, second), (None, first));
}

#[test]
fn burying_is_done_once_and_for_every_node() {
    let removing = bury(&planted(3), &id("grove"), NOW).unwrap();
    assert!(removing.tombstone(&id("grove"), &"grove-node-3".parse().unwrap()).is_some());
    assert_eq!(bury(&removing, &id("grove"), NOW), None);
    assert_eq!(remove_forest(&removing, &id("grove"), NOW).unwrap().forest_names(), [""; 0]);
}

#[test]
fn two_forests_have_two_networks() {
    let registry = planted(1);
    let (_, other) = plant(&registry, &id("elm"), &request(1, 7)).unwrap();
    assert_ne!(other.network, plan(&registry).network);
}

#[test]
fn a_network_has_an_end() {
    let settled = |registry: &Registry| settle(registry, &id("grove"), &plan(registry).pending, NOW).unwrap();
    let mut registry = settled(&planted(100));
    for count in [100, 54] {
        registry = settled(&grow(&registry, &id("grove"), count, NOW).unwrap().0.unwrap());
    }
    let err = grow(&registry, &id("grove"), 1, NOW).unwrap_err();
    assert!(err.message.contains("as many nodes as its network"), "{err}");
}

proptest! {
    /// Whatever is done in whatever order: no number is given twice, and every member has its own address.
    #[test]
    fn numbers_and_addresses_are_given_once(steps in proptest::collection::vec((0u8..3, 1u8..4), 0..20)) {
        let mut registry = planted(1);
        let mut last = plan(&registry).next_node;
        for (what, count) in steps {
            let now = plan(&registry);
            let next = match what {
                0 => grow(&registry, &id("grove"), count, NOW).unwrap().0,
                1 => settle(&registry, &id("grove"), &now.pending, NOW),
                _ => settle(&registry, &id("grove"), &now.pending[..now.pending.len().min(1)], NOW),
            };
            registry = next.unwrap_or(registry);
            let now = plan(&registry);
            let addresses: BTreeSet<_> = now.members.iter().map(|member| member.ip).collect();
            let ids: BTreeSet<_> = now.members.iter().map(|member| &member.id).collect();
            prop_assert!(addresses.len() == now.members.len() && ids.len() == now.members.len());
            prop_assert!(now.next_node >= last);
            last = now.next_node;
        }
    }
}
