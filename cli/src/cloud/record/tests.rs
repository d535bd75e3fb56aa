use forest_core::registry::{Document as _, remove_forest};
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A laptop whose processes nobody else can look at.
fn worker(host: &str, now: Timestamp) -> Worker {
    let owner = Owner { host: host.to_owned(), boot_id: host.to_owned(), ..Owner::current("morpheus") };
    Worker { owner, now }
}

fn grove() -> ForestId {
    "grove".parse().unwrap()
}

fn request(count: u8) -> Request {
    Request { count, location: "fsn1".to_owned(), planting: "p1".to_owned(), programs: None }
}

fn planted(count: u8) -> Registry {
    plant(&Registry::empty(), &grove(), &request(count), &worker("a", NOW)).unwrap().0.unwrap()
}

fn names(nodes: &[NodeId]) -> Vec<&str> {
    nodes.iter().map(NodeId::as_str).collect()
}

fn active(count: u8) -> Registry {
    let registry = planted(count);
    let members = Plan::find(&registry, &grove()).unwrap().members;
    settle(&registry, &grove(), &members, NOW).unwrap()
}

#[test]
fn a_planting_is_taken_up_under_its_first_mark() {
    let registry = planted(2);
    let again = Request { planting: "p2".to_owned(), location: "hel1".to_owned(), ..request(2) };
    let (next, plan, nodes) = plant(&registry, &grove(), &again, &worker("b", NOW)).unwrap();
    assert_eq!((next, plan.planting.as_str()), (None, "p1"));
    assert_eq!(names(&nodes), ["grove-node-1", "grove-node-2"]);
    let err = plant(&registry, &grove(), &request(3), &worker("a", NOW)).unwrap_err();
    assert!(err.reason == Reason::NameTaken && err.message.contains("with 2 nodes"), "{err}");
    let err = plant(&active(2), &grove(), &request(2), &worker("a", NOW)).unwrap_err();
    assert!(err.message.contains("is there already"), "{err}");
    let local =
        Registry::parse(br#"{"forests":{"grove":{"provider":"local","status":"planting"}}}"#).unwrap();
    assert_eq!(
        plant(&local, &grove(), &request(2), &worker("a", NOW)).unwrap_err().reason,
        Reason::NameTaken
    );
}

#[test]
fn two_laptops_add_their_own_and_what_was_left_is_taken_up() {
    let registry = active(1);
    let (first, _, ours) = grow(&registry, &grove(), 2, &worker("a", NOW)).unwrap();
    let (second, plan, theirs) = grow(&first.unwrap(), &grove(), 2, &worker("b", NOW)).unwrap();
    assert_eq!(
        (names(&ours), names(&theirs)),
        (vec!["grove-node-2", "grove-node-3"], vec!["grove-node-4", "grove-node-5"])
    );
    assert_eq!((plan.members.len(), plan.next_node), (5, 6));
    // Three hours later nobody is at work on them.
    let later = NOW + SignedDuration::from_hours(3);
    let (third, plan, taken) = grow(&second.unwrap(), &grove(), 3, &worker("c", later)).unwrap();
    assert_eq!(names(&taken), ["grove-node-2", "grove-node-3", "grove-node-4", "grove-node-5"]);
    assert_eq!(plan.members.len(), 5, "four that were left are more than three");
    assert!(third.unwrap().render().contains("\"c\""));
}

#[test]
fn a_process_that_is_gone_has_left_its_nodes() {
    let owner = Owner { pid: 1, pid_start: u64::MAX, ..Owner::current("morpheus") };
    let (next, ..) = grow(&active(1), &grove(), 1, &Worker { owner, now: NOW }).unwrap();
    let here = Worker { owner: Owner::current("morpheus"), now: NOW };
    let (_, plan, taken) = grow(&next.unwrap(), &grove(), 1, &here).unwrap();
    assert_eq!((names(&taken), plan.members.len()), (vec!["grove-node-2"], 2));
}

#[test]
fn a_teardown_buries_clears_and_removes() {
    let text = r#"{"id":"grove-node-9","ip":"::9","forest_id":"grove"}"#;
    let with_entry = active(2).render().replace("\"nodes\": {", &format!("\"nodes\": {{\"grove\": [{text}]"));
    let registry = Registry::parse(with_entry.as_bytes()).unwrap();
    let buried = bury(&registry, &grove(), NOW).unwrap();
    for n in [1, 2, 9] {
        assert!(buried.tombstone(&grove(), &format!("grove-node-{n}").parse().unwrap()).is_some(), "{n}");
    }
    assert_eq!(bury(&buried, &grove(), NOW), None);
    assert_eq!(live(&buried, &grove()).unwrap_err().reason, Reason::NameTaken);
    assert_eq!(settle(&buried, &grove(), &[], NOW), None, "a late laptop does not revive it");
    let cleared = clear(&buried, &grove(), NOW).unwrap();
    assert_eq!((cleared.entries(&grove()).len(), clear(&cleared, &grove(), NOW)), (0, None));
    assert_eq!(remove_forest(&cleared, &grove(), NOW).unwrap().forest(&grove()), None);
}

proptest! {
    #[test]
    fn numbers_are_never_used_again(steps in prop::collection::vec((1u8..4, any::<bool>(), 0usize..3), 1..12)) {
        let (mut registry, mut seen) = (active(1), BTreeSet::from(["grove-node-1".to_owned()]));
        for (count, settled, host) in steps {
            let worker = worker(["a", "b", "c"][host], NOW);
            let before = Plan::find(&registry, &grove()).unwrap();
            let (next, plan, nodes) = grow(&registry, &grove(), count, &worker).unwrap();
            registry = next.unwrap_or(registry);
            prop_assert!(nodes.len() >= usize::from(count));
            for node in nodes.iter().filter(|node| !before.members.contains(node)) {
                prop_assert!(seen.insert(node.to_string()), "{} twice", node);
            }
            prop_assert_eq!(plan.members.len(), seen.len());
            if settled {
                registry = settle(&registry, &grove(), &nodes, NOW).unwrap_or(registry);
            }
        }
    }
}
