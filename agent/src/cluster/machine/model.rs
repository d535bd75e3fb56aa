//! A small model of a whole forest: agents that follow the plan, servers that make a group where they can, and a
//! world that kills them and takes the share away. As cruel as the oldest server: two servers on empty stores
//! that meet make a group of their own at once, even beside a leader.

use std::collections::{BTreeMap, BTreeSet};

use forest_core::registry::Document;
use forest_core::secrets::Secrets;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::cluster::sys::Member;

/// One server: its store, and whether it runs. `group`: which group its store belongs to.
#[derive(Debug, Clone, Copy, Default)]
struct Server {
    begun: bool,
    group: Option<u32>,
    runs: bool,
    /// Taken out while it ran: it comes back only once it is started again.
    out: bool,
}

#[derive(Debug, Clone, Default)]
struct Node {
    agent: bool,
    registered: bool,
    kept: Option<(Secrets, BTreeSet<String>)>,
    marker: Option<Marker>,
    engine: Server,
    witnesses: BTreeMap<String, Server>,
}

#[derive(Debug, Clone)]
struct Forest {
    nodes: BTreeMap<String, Node>,
    share: Option<(Secrets, BTreeSet<String>)>,
    away: bool,
    voters: BTreeSet<String>,
    leader: Option<String>,
    groups: u32,
    founders: BTreeSet<String>,
}

#[derive(Debug, Clone)]
enum Fault {
    Agent(usize),
    Engine(usize),
    Witness(usize),
    Host(usize),
    ShareAway(bool),
    Rebuild(usize),
}

impl Forest {
    fn new(count: usize) -> Self {
        let nodes = (1..=count).map(|n| (format!("n{n}"), Node::default())).collect();
        Self {
            nodes,
            share: Some((Secrets::empty(), BTreeSet::new())),
            away: false,
            voters: BTreeSet::new(),
            leader: None,
            groups: 0,
            founders: BTreeSet::new(),
        }
    }

    fn servers(&mut self) -> BTreeMap<String, &mut Server> {
        let mut servers = BTreeMap::new();
        for (id, node) in &mut self.nodes {
            servers.insert(id.clone(), &mut node.engine);
            servers.extend(node.witnesses.iter_mut().map(|(name, server)| (name.clone(), server)));
        }
        servers
    }

    /// The servers do what servers do: elect, take in, or, left alone with each other, begin.
    fn settle(&mut self) {
        let voters = self.voters.clone();
        let leader = self.leader.take();
        let number = self.groups + 1;
        let mut servers = self.servers();
        servers.retain(|_, server| server.runs);
        let up: Vec<String> = servers
            .iter()
            .filter(|(name, server)| voters.contains(*name) && server.group == Some(1))
            .map(|(name, _)| name.clone())
            .collect();
        let mut empty: Vec<_> = servers.iter_mut().filter(|(_, server)| server.group.is_none()).collect();
        if empty.len() >= 2 {
            let names = empty.iter_mut().map(|(name, server)| {
                server.group = Some(number);
                (*name).clone()
            });
            let names: BTreeSet<_> = names.collect();
            self.groups = number;
            if number == 1 {
                self.leader = names.last().cloned();
                self.voters = names;
            }
        } else if !voters.is_empty() && up.len() * 2 > voters.len() {
            empty.into_iter().for_each(|(_, server)| server.group = Some(1));
            // One that was taken out and is started again comes back.
            let back = servers.iter().filter(|(_, server)| server.group == Some(1) && !server.out);
            let back: Vec<_> = back.map(|(name, _)| name.clone()).collect();
            self.leader = leader.filter(|name| up.contains(name)).or_else(|| up.last().cloned());
            self.voters.extend(back);
        }
    }

    /// One pass of one agent.
    fn pass(&mut self, id: &str) {
        let mut node = self.nodes[id].clone();
        if !node.agent {
            return;
        }
        let fresh = !self.away;
        if let (true, Some((secrets, entries))) = (fresh, &mut self.share) {
            let others = entries.iter().any(|entry| entry != id);
            let kept = node.kept.as_ref().is_some_and(|(kept, _)| kept.record().is_some());
            match secrets_due(secrets.record().is_some(), kept, others) {
                SecretsDue::Found => {
                    node.marker = Some(Marker { founding: format!("f-{id}"), phase: Phase::Founding });
                    let founding = format!("f-{id}");
                    *secrets = secrets.found(&id.parse().unwrap(), &founding, Timestamp::UNIX_EPOCH).unwrap();
                    self.founders.insert(id.to_owned());
                }
                SecretsDue::PutBack => *secrets = node.kept.clone().unwrap().0,
                SecretsDue::Nothing | SecretsDue::Refuse => {}
            }
            entries.insert(id.to_owned());
            node.registered = true;
            node.kept = Some((secrets.clone(), entries.clone()));
        }
        let empty = BTreeSet::new();
        let record = node.kept.as_ref().and_then(|(secrets, _)| secrets.record().cloned());
        let entries = node.kept.as_ref().map_or(&empty, |(_, entries)| entries).clone();
        let plan = self.plan(id, &node, record.as_ref(), &entries, fresh);
        if let (Some(phase), Some(record)) = (plan.phase, &record) {
            node.marker = Some(Marker { founding: record.founding.clone(), phase });
        }
        if plan.engine == EnginePlan::Run && record.is_some() {
            node.engine.runs = true;
            node.engine.begun = true;
        }
        if let EnginePlan::Yield(_) = &plan.engine {
            node.engine.runs = false;
        }
        if let EnginePlan::TakeTurn(before) = &plan.engine {
            self.change(|secrets| secrets.take_turn(&id.parse().unwrap(), before.as_deref()));
        }
        if plan.ends_turn {
            self.change(|secrets| secrets.end_turn(&id.parse().unwrap()));
        }
        self.act(&mut node, id, &plan.witness);
        self.nodes.insert(id.to_owned(), node);
    }

    fn plan(
        &self,
        id: &str,
        node: &Node,
        record: Option<&Record>,
        entries: &BTreeSet<String>,
        fresh: bool,
    ) -> Plan {
        let name = record.and_then(|record| record.witness.as_ref()).map(|duty| duty.name.clone());
        let witness = name.and_then(|name| node.witnesses.get(&name)).copied();
        let joined = node.engine.runs && self.voters.contains(id) && node.engine.group == Some(1);
        let elsewhere = self.nodes.iter().any(|(other, node)| {
            other != id && node.engine.runs && node.engine.group == Some(1) && self.voters.contains(other)
        });
        let leads = self.leader.is_some();
        let current = |name: &String| {
            let servers = self.nodes.iter().flat_map(|(id, node)| {
                let engine = std::iter::once((id, &node.engine));
                engine.chain(&node.witnesses)
            });
            let mut servers = servers.filter(|(id, _)| *id == name);
            servers.any(|(_, server)| server.runs && server.group == Some(1))
        };
        let members = self.voters.iter().map(|name| Member { name: name.clone(), current: current(name) });
        let group = self.leader.clone().map(|leader| Group { leader, members: members.collect() });
        decide(&Inputs {
            me: id,
            nodes: entries,
            record,
            fresh,
            marker: node.marker.as_ref(),
            store: match node.engine {
                Server { group: Some(_), .. } => Store::Clustered,
                Server { begun: true, .. } => Store::Begun,
                Server { .. } => Store::Empty,
            },
            engine_runs: node.engine.runs,
            witness: WitnessState {
                runs: witness.is_some_and(|server| server.runs),
                stored: witness.is_some_and(|server| server.begun),
            },
            member_reports_leader: leads && elsewhere,
            turn_is_stale: record
                .and_then(|record| self.nodes.get(record.joining.as_ref()?))
                .is_some_and(|node| !node.engine.runs && !node.agent),
            own_reports_leader: leads && joined,
            group: group.as_ref().filter(|_| joined),
        })
    }

    fn act(&mut self, node: &mut Node, id: &str, plan: &WitnessPlan) {
        match plan {
            WitnessPlan::Leave | WitnessPlan::Wait(_) => {}
            WitnessPlan::Absent => node.witnesses.clear(),
            WitnessPlan::Run(duty) => {
                let server = node.witnesses.entry(duty.name.clone()).or_default();
                server.out &= server.runs;
                (server.runs, server.begun) = (true, true);
            }
            WitnessPlan::Take => self.change(|secrets| secrets.take_witness(&id.parse().unwrap())),
            WitnessPlan::RemoveGhost(name) => {
                assert!(self.voters.len() > ENOUGH && name.starts_with('w'));
                self.voters.remove(name);
            }
            WitnessPlan::Retire(duty) => self.change(|secrets| secrets.retire_witness(&duty.name)),
            WitnessPlan::StepDown(duty) => {
                assert_eq!(self.leader.as_deref(), Some(duty.name.as_str()));
                self.leader = self.voters.iter().find(|name| **name != duty.name).cloned();
            }
            WitnessPlan::Remove(duty) => {
                assert_ne!(self.leader.as_deref(), Some(duty.name.as_str()));
                assert!(self.voters.len() > ENOUGH);
                self.voters.remove(&duty.name);
                let server = node.witnesses.entry(duty.name.clone()).or_default();
                server.out = server.runs;
            }
            WitnessPlan::Stop(duty) => node.witnesses.get_mut(&duty.name).unwrap().runs = false,
            WitnessPlan::Discharge(duty) => {
                node.witnesses.remove(&duty.name);
                self.change(|secrets| secrets.discharge_witness(&duty.name));
            }
        }
    }

    fn change(&mut self, change: impl Fn(&Secrets) -> Option<Secrets>) {
        if let Some((secrets, _)) = &mut self.share
            && let Some(next) = change(secrets)
        {
            *secrets = next;
        }
    }

    fn suffer(&mut self, fault: &Fault, count: usize) {
        let id = |n: &usize| format!("n{}", n % count + 1);
        match fault {
            Fault::ShareAway(away) => self.away = *away,
            Fault::Agent(n) => self.nodes.get_mut(&id(n)).unwrap().agent = false,
            Fault::Engine(n) => self.nodes.get_mut(&id(n)).unwrap().engine.runs = false,
            Fault::Witness(n) => {
                let node = self.nodes.get_mut(&id(n)).unwrap();
                node.witnesses.values_mut().for_each(|server| server.runs = false);
            }
            Fault::Host(n) => {
                let node = self.nodes.get_mut(&id(n)).unwrap();
                node.agent = false;
                node.engine.runs = false;
                node.witnesses.values_mut().for_each(|server| server.runs = false);
            }
            // Only where the others can bear it: data that is gone for good is a person's affair.
            Fault::Rebuild(n) => {
                let (id, voters) = (id(n), self.voters.clone());
                let servers = self.servers();
                let intact = |name: &&String| {
                    **name != id && servers.get(*name).is_some_and(|server| server.group == Some(1))
                };
                let rest = voters.iter().filter(intact).count();
                let keeps = !self.nodes[&id].witnesses.is_empty();
                if rest * 2 > self.voters.len() && !keeps && self.nodes[&id].engine.group == Some(1) {
                    *self.nodes.get_mut(&id).unwrap() = Node::default();
                }
            }
        }
    }
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        any::<usize>().prop_map(Fault::Agent),
        any::<usize>().prop_map(Fault::Engine),
        any::<usize>().prop_map(Fault::Witness),
        any::<usize>().prop_map(Fault::Host),
        any::<bool>().prop_map(Fault::ShareAway),
        any::<usize>().prop_map(Fault::Rebuild),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens on the way: one founder, one group; and once all is left in peace, every node is in it,
    /// with a witness exactly where fewer than three are there.
    #[test]
    fn a_forest_converges_to_one_group(
        count in 1usize..6,
        turns in proptest::collection::vec((any::<u8>(), proptest::option::weighted(0.3, faults())), 0..80),
    ) {
        let mut forest = Forest::new(count);
        for (turn, fault) in &turns {
            let id = format!("n{}", usize::from(*turn) % count + 1);
            forest.nodes.get_mut(&id).unwrap().agent = true;
            forest.pass(&id);
            if *turn % 3 == 0 {
                forest.settle();
            }
            if let Some(fault) = fault {
                forest.settle();
                forest.suffer(fault, count);
                forest.settle();
            }
            prop_assert!(forest.groups <= 1 && forest.founders.len() <= 1);
        }
        forest.away = false;
        for _ in 0..16 {
            for id in forest.nodes.keys().cloned().collect::<Vec<_>>() {
                forest.nodes.get_mut(&id).unwrap().agent = true;
                forest.pass(&id);
            }
            forest.settle();
        }
        prop_assert_eq!(forest.groups, 1);
        prop_assert_eq!(forest.founders.len(), 1);
        let mut due: BTreeSet<String> = forest.nodes.keys().cloned().collect();
        let witness = forest.share.as_ref().unwrap().0.record().unwrap().witness.clone();
        prop_assert_eq!(witness.is_some(), count < ENOUGH, "{:?}", forest);
        due.extend(witness.map(|duty| duty.name));
        prop_assert_eq!(&forest.voters, &due);
        prop_assert!(forest.leader.is_some());
        let stray = forest.nodes.values().flat_map(|node| node.witnesses.keys()).any(|name| !due.contains(name));
        prop_assert!(!stray, "a witness is left over");
    }
}
