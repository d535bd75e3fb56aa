use proptest::prelude::*;
use serde_json::json;

use super::*;

fn stream(replicas: usize, leader: &str, others: &[(&str, bool)]) -> Stream {
    Stream {
        name: "s".to_owned(),
        config: json!({"name": "s", "num_replicas": replicas}),
        replicas,
        leader: Some(leader.to_owned()),
        others: others.iter().map(|(name, current)| ((*name).to_owned(), *current)).collect(),
        settling: false,
        last_seq: 0,
    }
}

fn due(stream: &Stream, stay: &[&str], pinned: bool) -> Order {
    asked(stream, stay, pinned, false)
}

fn asked(stream: &Stream, stay: &[&str], pinned: bool, refused: bool) -> Order {
    let current: Vec<String> = stay.iter().map(|name| (*name).to_owned()).collect();
    order(stream, Stay { goes: "n1", count: stay.len(), current: &current, pinned, refused, turn: 0 })
}

#[test]
fn a_lone_copy_is_pinned_elsewhere_and_unpinned_there() {
    assert_eq!(due(&stream(1, "n1", &[]), &["n2"], false), Order::Pin("n2".to_owned()));
    assert_eq!(due(&stream(1, "n1", &[("n2", true)]), &["n2"], true), Order::Wait);
    assert_eq!(due(&stream(1, "n2", &[]), &["n2"], true), Order::Unpin);
    assert_eq!(due(&stream(1, "n2", &[]), &["n2"], false), Order::Settled);
}

#[test]
fn replicas_are_lowered_only_while_another_leads() {
    assert_eq!(due(&stream(2, "n1", &[("n2", true)]), &["n2"], false), Order::StepDown);
    assert_eq!(due(&stream(2, "n1", &[("n2", false)]), &["n2"], false), Order::Wait);
    assert_eq!(due(&stream(2, "n2", &[("n1", true)]), &["n2"], false), Order::Lower(1));
    assert_eq!(due(&stream(3, "n2", &[("n3", true)]), &["n2", "n3"], false), Order::Lower(2));
    let raising = Stream { settling: true, ..stream(2, "n1", &[("n2", true)]) };
    assert_eq!(due(&raising, &["n2"], false), Order::Wait, "it has not caught up");
    let all = stream(3, "n2", &[("n1", true), ("n3", true)]);
    assert_eq!(due(&all, &["n2", "n3"], false), Order::GiveUp);
    assert_eq!(asked(&all, &["n2", "n3"], false, true), Order::Lower(2));
}

#[test]
fn one_of_several_is_given_up_by_one_that_follows() {
    let stay = ["n2", "n3", "n4"];
    assert_eq!(due(&stream(3, "n1", &[("n2", true), ("n3", true)]), &stay, false), Order::StepDown);
    assert_eq!(due(&stream(3, "n2", &[("n1", true), ("n3", true)]), &stay, false), Order::GiveUp);
    assert_eq!(due(&stream(3, "n2", &[("n1", true), ("n3", false)]), &stay, false), Order::Wait);
    assert_eq!(due(&stream(2, "n2", &[("n1", true)]), &stay, false), Order::GiveUp);
    assert_eq!(due(&stream(2, "n1", &[("n9", false)]), &stay, false), Order::Wait, "the other is dead");
}

#[test]
fn reads_what_servers_tell() {
    let item = json!({
        "config": {"name": "orders", "num_replicas": 3, "placement": {"tags": ["x"]}},
        "state": {"messages": 5, "last_seq": 9},
        "cluster": {"name": "grove", "leader": "n2", "replicas": [
            {"name": "n1", "current": true, "lag": 3}, {"name": "n3", "current": true, "offline": true}]},
    });
    let read = Stream::of(&item).unwrap();
    assert_eq!((read.replicas, read.last_seq, read.leader.as_deref()), (3, 9, Some("n2")));
    assert_eq!(read.others, [("n1".to_owned(), true), ("n3".to_owned(), false)]);
    assert_eq!(read.placement(), json!({"tags": ["x"]}));
    assert_eq!(read.with("placement", Value::Null).get("placement"), None);
    assert!(Stream::of(&json!({"config": {"name": "x"}})).unwrap().leader.is_none());
}

/// A stream as servers have it: who holds a copy, and which are whole.
#[derive(Debug, Clone)]
struct World {
    replicas: usize,
    peers: Vec<(String, bool)>,
    leader: String,
    nodes: Vec<String>,
    pinned: bool,
    /// Does the server refuse to give up a copy for which there is no other place?
    strict: bool,
    refused: bool,
}

impl World {
    fn seen(&self) -> Stream {
        let others = self.peers.iter().filter(|(name, _)| *name != self.leader);
        let others: Vec<_> = others.map(|(name, current)| (name.as_str(), *current)).collect();
        stream(self.replicas, &self.leader, &others)
    }

    fn stay(&self) -> Vec<&str> {
        self.nodes.iter().map(String::as_str).filter(|node| *node != "n1").collect()
    }

    fn whole(&self) -> usize {
        self.peers.iter().filter(|(_, current)| *current).count()
    }

    /// Does what a server does; a moved copy catches up before the old one goes.
    fn carry_out(&mut self, order: &Order) {
        self.refused = false;
        match order {
            Order::Wait => self.peers.iter_mut().for_each(|peer| peer.1 = true),
            Order::Settled => {}
            Order::StepDown => {
                let next = self.peers.iter().find(|(name, current)| *name != self.leader && *current);
                self.leader = next.expect("another can lead").0.clone();
            }
            Order::Lower(count) => {
                self.replicas = *count;
                // The leader stays, and anyone else with it.
                self.peers.sort_by_key(|(name, _)| *name != self.leader);
                self.peers.truncate(*count);
            }
            Order::GiveUp => {
                let full = self.peers.len() >= self.nodes.len();
                self.refused = full;
                if full && self.strict {
                    return;
                }
                self.peers.retain(|(name, _)| name != "n1");
                let free = self
                    .nodes
                    .iter()
                    .find(|node| **node != "n1" && self.peers.iter().all(|peer| peer.0 != **node));
                self.peers.extend(free.map(|node| (node.clone(), false)));
            }
            Order::Pin(node) => {
                self.peers = vec![(node.clone(), true)];
                self.leader = node.clone();
                self.pinned = true;
            }
            Order::Unpin => self.pinned = false,
        }
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let parts = (2usize..6, 1usize..6, any::<[bool; 5]>(), any::<usize>(), any::<bool>());
    parts.prop_map(|(count, replicas, current, leader, strict)| {
        let nodes: Vec<String> = (1..=count).map(|n| format!("n{n}")).collect();
        let replicas = replicas.min(count);
        let start = leader % count;
        let peers = nodes.iter().cycle().skip(start).take(replicas).cloned().zip(current);
        let mut peers: Vec<_> = peers.collect();
        peers[0].1 = true;
        World { replicas, leader: peers[0].0.clone(), peers, nodes, pinned: false, strict, refused: false }
    })
}

proptest! {
    /// From anywhere, with servers that do as servers do: the node ends without a copy, no step takes the last whole
    /// copy away, and what is left has as many as the nodes allow.
    #[test]
    fn every_stream_ends_whole_without_the_node(mut world in worlds(), slow in any::<[bool; 40]>()) {
        let wanted = world.replicas.min(world.nodes.len() - 1);
        for slow in slow {
            let due = asked(&world.seen(), &world.stay(), world.pinned, world.refused);
            if due == Order::Wait && slow {
                continue;
            }
            world.carry_out(&due);
            prop_assert!(world.whole() > 0, "{due:?} took the last: {world:?}");
            prop_assert!(world.peers.iter().any(|(name, current)| *name == world.leader && *current), "{world:?}");
        }
        for _ in 0..20 {
            let due = asked(&world.seen(), &world.stay(), world.pinned, world.refused);
            world.carry_out(&due);
            prop_assert!(world.whole() > 0, "{due:?} took the last: {world:?}");
        }
        prop_assert_eq!(due(&world.seen(), &world.stay(), world.pinned), Order::Settled, "{:?}", &world);
        prop_assert!(!world.seen().is_on("n1") && !world.pinned);
        prop_assert_eq!(world.peers.len(), wanted);
    }
}
