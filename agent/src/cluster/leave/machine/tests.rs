use forest_core::registry::Document;
use forest_core::secrets::Secrets;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::cluster::machine::{self, EnginePlan, WitnessPlan, WitnessState};
use crate::cluster::marker::{Marker, Phase};
use crate::cluster::store::Store;
use crate::cluster::sys::Member;

fn founded() -> Secrets {
    Secrets::empty().found(&"n1".parse().unwrap(), "f1", Timestamp::UNIX_EPOCH).unwrap()
}

fn group(leader: &str, members: &[(&str, bool)]) -> Group {
    let members =
        members.iter().map(|(name, current)| Member { name: (*name).to_owned(), current: *current });
    Group { leader: leader.to_owned(), members: members.collect() }
}

fn names(count: usize) -> BTreeSet<String> {
    (1..=count).map(|n| format!("n{n}")).collect()
}

fn ask(me: &str, nodes: usize, secrets: &Secrets, group: Option<&Group>, wanted: Option<bool>) -> Next {
    let nodes = names(nodes);
    let record = secrets.record().unwrap();
    next(&Inputs { me, nodes: &nodes, record, fresh: true, wanted, group, engine_runs: true, listed: true })
}

#[test]
fn the_last_node_and_a_broken_quorum_are_refused_and_forced() {
    let secrets = founded();
    let alone = group("n1", &[("n1", true), ("w-n1-1", true)]);
    assert_eq!(ask("n1", 1, &secrets, Some(&alone), Some(false)), Next::Refuse(Refusal::LastNode));
    assert_eq!(ask("n1", 1, &secrets, Some(&alone), Some(true)), Next::Begin);
    let none = secrets.discharge_witness("w-n1-1").unwrap();
    let three = group("n1", &[("n1", true), ("n2", true), ("n3", false)]);
    let refusal = Refusal::Quorum { alive: 2, of: 3, away: vec!["n3".to_owned()] };
    assert_eq!(ask("n1", 3, &none, Some(&three), Some(false)), Next::Refuse(refusal));
    let away = ask("n1", 3, &none, None, Some(false));
    assert!(matches!(away, Next::Refuse(Refusal::Quorum { alive: 0, .. })), "{away:?}");
    let five = [("n1", true), ("n2", true), ("n3", true), ("n4", true), ("n5", false)];
    assert_eq!(ask("n1", 5, &none, Some(&group("n1", &five)), Some(false)), Next::Begin, "enough are left");
}

#[test]
fn the_witness_passes_on_before_anything_is_taken_away() {
    let begun = founded().begin_leaving(&"n1".parse().unwrap(), Timestamp::UNIX_EPOCH).unwrap();
    let two = group("n1", &[("n1", true), ("n2", true), ("w-n1-1", true)]);
    assert_eq!(ask("n1", 2, &begun, Some(&two), Some(false)), Next::Wait(Wait::Witness));
    let taken = begun.take_witness(&"n2".parse().unwrap()).unwrap();
    assert_eq!(ask("n1", 2, &taken, Some(&two), Some(false)), Next::Wait(Wait::Witness));
    let four = group("n1", &[("n1", true), ("n2", true), ("w-n1-1", true), ("w-n2-2", true)]);
    assert_eq!(
        ask("n1", 2, &taken, Some(&four), Some(false)),
        Next::Wait(Wait::OwnWitness("w-n1-1".to_owned()))
    );
    let gone = taken.discharge_left_witness("w-n1-1").unwrap();
    assert_eq!(ask("n1", 2, &gone, Some(&four), Some(false)), Next::Move);
}

#[test]
fn one_who_stays_takes_out_the_dead_and_its_witness() {
    let dead = founded().forget(&"n1".parse().unwrap(), Timestamp::UNIX_EPOCH).unwrap();
    let both = [("n1", false), ("n2", true), ("w-n1-1", false), ("w-n2-2", true)];
    let taken = dead.take_witness(&"n2".parse().unwrap()).unwrap();
    assert_eq!(ask("n2", 2, &taken, Some(&group("n2", &both)), None), Next::RemovePeer("n1".to_owned()));
    let left = group("w-n2-2", &both[1..]);
    assert_eq!(ask("n2", 2, &taken, Some(&left), None), Next::RemovePeer("w-n1-1".to_owned()));
    let out = group("n2", &[both[1], both[3]]);
    assert_eq!(ask("n2", 2, &taken, Some(&out), None), Next::Bury("n1".to_owned()));
    // Under the name of the dead one's witness there runs one that is needed.
    let stands_in = dead.stand_in(&"n1".parse().unwrap(), &"n2".parse().unwrap()).unwrap();
    let three = group("n2", &[("n1", false), ("n2", true), ("w-n1-1", true)]);
    assert_eq!(ask("n2", 2, &stands_in, Some(&three), None), Next::RemovePeer("n1".to_owned()));
    let two = group("n2", &[("n2", true), ("w-n1-1", true)]);
    assert_eq!(ask("n2", 2, &stands_in, Some(&two), None), Next::Bury("n1".to_owned()));
}

/// A whole forest in which one leaves: agents that follow both machines, servers that vote, and a world that kills.
#[derive(Debug, Clone)]
struct Forest {
    secrets: Secrets,
    nodes: BTreeSet<String>,
    buried: bool,
    voters: BTreeSet<String>,
    leader: Option<String>,
    up: BTreeSet<String>,
    stored: BTreeSet<String>,
    /// Does the node that leaves hold a stream nobody else has?
    alone: bool,
    leaver: String,
}

impl Forest {
    /// `late`: it has just grown, and its witness is still there.
    fn new(count: usize, leaver: usize, keeper: usize, late: bool) -> Self {
        let nodes = names(count);
        let mut secrets = founded().discharge_witness("w-n1-1").unwrap();
        let mut voters = nodes.clone();
        if count < ENOUGH || late {
            secrets = secrets.take_witness(&format!("n{}", keeper % count + 1).parse().unwrap()).unwrap();
            voters.extend(secrets.record().unwrap().witness.clone().map(|duty| duty.name));
        }
        let leader = voters.first().cloned();
        let leaver = format!("n{}", leaver % count + 1);
        Self {
            secrets,
            nodes,
            buried: false,
            up: voters.clone(),
            stored: voters.clone(),
            voters,
            leader,
            alone: true,
            leaver,
        }
    }

    fn group(&self) -> Option<Group> {
        let leader = self.leader.clone()?;
        let members =
            self.voters.iter().map(|name| Member { name: name.clone(), current: self.up.contains(name) });
        Some(Group { leader, members: members.collect() })
    }

    /// Servers elect, and take in who runs and is no voter yet.
    fn settle(&mut self) {
        let alive = self.voters.iter().filter(|name| self.up.contains(*name)).count();
        self.leader = self.leader.take().filter(|name| self.up.contains(name) && self.voters.contains(name));
        if alive * 2 <= self.voters.len() {
            self.leader = None;
            return;
        }
        self.leader =
            self.leader.take().or_else(|| self.voters.iter().find(|name| self.up.contains(*name)).cloned());
    }

    fn start(&mut self, name: &str) {
        self.up.insert(name.to_owned());
        if self.stored.insert(name.to_owned()) {
            self.voters.insert(name.to_owned());
        }
    }

    fn change(&mut self, next: Option<Secrets>) {
        self.secrets = next.unwrap_or(self.secrets.clone());
    }

    /// A voter goes: those who are left must be able to go on.
    fn remove(&mut self, name: &str) {
        assert_ne!(self.leader.as_deref(), Some(name), "never the leader");
        self.voters.remove(name);
        let alive = self.voters.iter().filter(|name| self.up.contains(*name)).count();
        assert!(alive * 2 > self.voters.len(), "{name} was needed: {self:?}");
        assert!(self.voters.len() > 1, "nobody is left alone: {self:?}");
    }

    fn pass(&mut self, me: &str) {
        if me == self.leaver && self.buried {
            self.up.remove(me);
            return;
        }
        let record = self.secrets.record().unwrap().clone();
        let stopping = record.leaving.as_ref().is_some_and(|l| l.node == me && l.stage >= Stage::Stopping);
        if stopping {
            self.up.remove(me);
        } else if !self.up.contains(me) {
            self.start(me);
        }
        self.settle();
        self.witness(me, &record);
        self.settle();
        self.leave(me);
        self.settle();
    }

    fn witness(&mut self, me: &str, record: &Record) {
        let kept = machine::kept_duty(record, me).map(|duty| duty.name.clone()).unwrap_or_default();
        let group = self.group();
        let marker = Marker { founding: record.founding.clone(), phase: Phase::Member };
        let plan = machine::decide(&machine::Inputs {
            me,
            nodes: &self.nodes,
            record: Some(record),
            fresh: true,
            marker: Some(&marker),
            store: Store::Clustered,
            engine_runs: self.up.contains(me),
            witness: WitnessState { runs: self.up.contains(&kept), stored: self.stored.contains(&kept) },
            member_reports_leader: group.is_some(),
            turn_is_stale: false,
            own_reports_leader: group.is_some(),
            group: group.as_ref(),
        });
        assert_eq!(plan.engine, EnginePlan::Run);
        let id = me.parse().unwrap();
        match plan.witness {
            WitnessPlan::Leave | WitnessPlan::Wait(_) => {}
            WitnessPlan::Absent => {
                let mine: Vec<_> =
                    self.up.iter().filter(|name| name.starts_with(&format!("w-{me}-"))).cloned().collect();
                for name in mine {
                    assert!(!self.voters.contains(&name), "{name} goes uncounted: {self:?}");
                    self.up.remove(&name);
                }
            }
            WitnessPlan::Run(duty) => self.start(&duty.name),
            WitnessPlan::Take => self.change(self.secrets.take_witness(&id)),
            WitnessPlan::RemoveGhost(name) => self.remove(&name),
            WitnessPlan::Retire(duty) => self.change(self.secrets.retire_witness(&duty.name)),
            WitnessPlan::StepDown(duty) => {
                self.leader =
                    self.voters.iter().find(|name| **name != duty.name && self.up.contains(*name)).cloned();
            }
            WitnessPlan::Remove(duty) => self.remove(&duty.name),
            WitnessPlan::Stop(duty) => _ = self.up.remove(&duty.name),
            WitnessPlan::Discharge(duty) => {
                self.stored.remove(&duty.name);
                let next = self.secrets.discharge_witness(&duty.name);
                self.change(next.or_else(|| self.secrets.discharge_left_witness(&duty.name)));
            }
        }
    }

    fn leave(&mut self, me: &str) {
        let record = self.secrets.record().unwrap().clone();
        let group = self.group();
        let listed = self.nodes.contains(&self.leaver) || !self.buried;
        let inputs = Inputs {
            me,
            nodes: &self.nodes,
            record: &record,
            fresh: true,
            wanted: (me == self.leaver).then_some(false),
            group: group.as_ref(),
            engine_runs: self.up.contains(me),
            listed,
        };
        let id = me.parse().unwrap();
        match next(&inputs) {
            Next::Nothing | Next::Wait(_) | Next::Refuse(_) => {}
            Next::Begin => self.change(self.secrets.begin_leaving(&id, Timestamp::UNIX_EPOCH)),
            Next::Move if self.alone => self.alone = self.leader.is_none(),
            Next::Move if self.leader.as_deref() == Some(me) => {
                self.leader = self.voters.iter().find(|name| *name != me && self.up.contains(*name)).cloned();
            }
            Next::Move => self.change(self.secrets.advance_leaving(&id, Stage::Stopping)),
            Next::NoteStopped => self.change(self.secrets.advance_leaving(&id, Stage::Stopped)),
            Next::RemovePeer(name) => {
                assert!(name != self.leaver || !self.alone, "its data is elsewhere: {self:?}");
                assert!(!self.up.contains(&name), "it has ended: {self:?}");
                self.remove(&name);
            }
            Next::Bury(name) => {
                assert!(!self.voters.contains(&name));
                self.nodes.remove(&name);
                self.buried = true;
            }
            Next::Clear(name) => self.change(self.secrets.left(&name.parse().unwrap(), &id)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whoever leaves, whoever keeps the witness, whoever is killed on the way: nothing is taken away too early, and
    /// in the end it is out, and those who stay have the votes that they need.
    #[test]
    fn a_node_leaves_whatever_is_killed(
        count in 2usize..6,
        leaver in any::<usize>(),
        keeper in any::<usize>(),
        late in any::<bool>(),
        turns in proptest::collection::vec((any::<usize>(), proptest::option::weighted(0.2, any::<usize>())), 0..60),
    ) {
        let mut forest = Forest::new(count, leaver, keeper, late);
        let ids: Vec<String> = forest.nodes.iter().cloned().collect();
        for (turn, kill) in turns {
            forest.pass(&ids[turn % ids.len()]);
            // One server at a time, as long as the group can bear it: more is nobody's to mend.
            let all: Vec<_> = forest.up.iter().cloned().collect();
            let spare = forest.voters.iter().filter(|name| forest.up.contains(*name)).count();
            if let Some(kill) = kill && spare > 0 && (spare - 1) * 2 > forest.voters.len() {
                forest.up.remove(&all[kill % all.len()]);
                forest.settle();
            }
        }
        for _ in 0..24 {
            ids.iter().for_each(|id| forest.pass(id));
        }
        prop_assert!(!forest.nodes.contains(&forest.leaver) && forest.buried, "{:?}", forest);
        let record = forest.secrets.record().unwrap();
        prop_assert_eq!(&record.leaving, &None);
        prop_assert_ne!(&record.founder, &forest.leaver);
        let mut due = forest.nodes.clone();
        due.extend(record.witness.clone().map(|duty| duty.name));
        prop_assert_eq!(record.witness.is_some(), count - 1 < ENOUGH);
        prop_assert_eq!(&forest.voters, &due);
        prop_assert!(forest.leader.is_some() && !forest.alone);
    }
}
