use forest_core::registry::Document;
use forest_core::secrets::{Leaving, Secrets, Stage};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::cluster::sys::Member;

/// The record of a forest founded by `n1`, with its witness at `keeper`.
pub(super) fn record(keeper: Option<&str>) -> Record {
    let node = |id: &str| id.parse().unwrap();
    let founded = Secrets::empty().found(&node("n1"), "f1", Timestamp::UNIX_EPOCH).unwrap();
    let secrets = match keeper {
        Some("n1") => founded,
        None => founded.discharge_witness("w-n1-1").unwrap(),
        Some(other) => {
            let none = founded.discharge_witness("w-n1-1").unwrap();
            none.take_witness(&node(other)).unwrap()
        }
    };
    secrets.record().unwrap().clone()
}

#[derive(Debug, Clone)]
struct World {
    nodes: BTreeSet<String>,
    record: Option<Record>,
    fresh: bool,
    marker: Option<Marker>,
    store: Store,
    engine_runs: bool,
    witness: WitnessState,
    member_reports_leader: bool,
    turn_is_stale: bool,
    own_reports_leader: bool,
    group: Option<Group>,
}

impl World {
    fn decide(&self) -> Plan {
        decide(&Inputs {
            me: "n1",
            nodes: &self.nodes,
            record: self.record.as_ref(),
            fresh: self.fresh,
            marker: self.marker.as_ref(),
            store: self.store,
            engine_runs: self.engine_runs,
            witness: self.witness,
            member_reports_leader: self.member_reports_leader,
            turn_is_stale: self.turn_is_stale,
            own_reports_leader: self.own_reports_leader,
            group: self.group.as_ref(),
        })
    }

    /// A node that has just founded its forest.
    fn founder() -> Self {
        Self {
            nodes: names(1),
            record: Some(record(Some("n1"))),
            fresh: true,
            marker: marker("f1", Phase::Founding),
            store: Store::Empty,
            engine_runs: false,
            witness: WitnessState::default(),
            member_reports_leader: false,
            turn_is_stale: false,
            own_reports_leader: false,
            group: None,
        }
    }

    /// It is this node's turn to join.
    fn turn(&mut self, node: &str) {
        self.record.as_mut().unwrap().joining = Some(node.to_owned());
    }

    /// A founder whose group of `real` nodes and the witness is well.
    fn grown(real: usize) -> Self {
        Self {
            nodes: names(real),
            marker: marker("f1", Phase::Member),
            store: Store::Clustered,
            engine_runs: true,
            witness: WitnessState { runs: true, stored: true },
            own_reports_leader: true,
            group: Some(group(real, &["w-n1-1"])),
            ..Self::founder()
        }
    }
}

fn names(count: usize) -> BTreeSet<String> {
    (1..=count).map(|n| format!("n{n}")).collect()
}

fn marker(founding: &str, phase: Phase) -> Option<Marker> {
    Some(Marker { founding: founding.to_owned(), phase })
}

fn group(real: usize, more: &[&str]) -> Group {
    let names = names(real).into_iter().chain(more.iter().map(|name| (*name).to_owned()));
    let members = names.map(|name| Member { name, current: true }).collect();
    Group { leader: "n1".to_owned(), members }
}

#[test]
fn a_founder_starts_both_and_keeps_them() {
    let plan = World::founder().decide();
    assert_eq!(plan.engine, EnginePlan::Run);
    assert!(matches!(plan.witness, WitnessPlan::Run(duty) if duty.name == "w-n1-1"));
    let plan = World { engine_runs: true, own_reports_leader: true, ..World::founder() }.decide();
    assert_eq!(plan.phase, Some(Phase::Member));
}

#[test]
fn the_servers_that_make_the_group_list_nobody_else_until_it_is_made() {
    let mut world = World { nodes: names(3), ..World::founder() };
    assert!(world.decide().alone);
    (world.engine_runs, world.store) = (true, Store::Begun);
    assert!(world.decide().alone);
    world.own_reports_leader = true;
    let plan = world.decide();
    assert_eq!(plan.phase, Some(Phase::Member));
    world.marker = marker("f1", Phase::Member);
    assert!(!world.decide().alone);
    // A joiner finds its way by all of them.
    world.marker = marker("f1", Phase::Joining);
    assert!(!world.decide().alone);
}

#[test]
fn a_founder_rebuilt_empty_waits_and_then_joins() {
    let rebuilt = World { marker: None, ..World::founder() };
    assert_eq!(rebuilt.decide().engine, EnginePlan::Wait(Wait::FounderLost));
    let mut joiner = rebuilt.clone();
    joiner.record.as_mut().unwrap().founder = "n2".to_owned();
    assert_eq!(joiner.decide().engine, EnginePlan::Wait(Wait::Founder("n2".to_owned())));
    let mut joins = World { member_reports_leader: true, ..rebuilt };
    assert_eq!(joins.decide().engine, EnginePlan::TakeTurn(None));
    joins.turn("n2");
    assert_eq!(joins.decide().engine, EnginePlan::TakeTurn(Some("n2".to_owned())), "no node any more");
    joins.nodes = names(2);
    assert_eq!(joins.decide().engine, EnginePlan::Wait(Wait::Turn("n2".to_owned())));
    let stale = World { turn_is_stale: true, ..joins.clone() };
    assert_eq!(stale.decide().engine, EnginePlan::TakeTurn(Some("n2".to_owned())));
    joins.turn("n1");
    let plan = joins.decide();
    assert_eq!((plan.engine, plan.phase, plan.ends_turn), (EnginePlan::Run, Some(Phase::Joining), false));
    let joined = World { engine_runs: true, own_reports_leader: true, group: Some(group(2, &[])), ..joins };
    assert!(joined.decide().ends_turn);
}

#[test]
fn one_who_never_arrived_is_gated_again() {
    let halfway = World { marker: marker("f1", Phase::Joining), store: Store::Begun, ..World::founder() };
    assert!(matches!(halfway.decide().engine, EnginePlan::Wait(Wait::FounderLost)));
}

#[test]
fn one_who_has_not_arrived_yields_to_the_next() {
    let marker = marker("f1", Phase::Joining);
    let mut joins = World { marker, store: Store::Begun, engine_runs: true, ..World::founder() };
    joins.turn("n1");
    assert_eq!(joins.decide().engine, EnginePlan::Run);
    joins.turn("n2");
    assert_eq!(joins.decide().engine, EnginePlan::Yield("n2".to_owned()));
    assert_eq!(World { own_reports_leader: true, ..joins.clone() }.decide().engine, EnginePlan::Run);
    assert_eq!(World { fresh: false, ..joins.clone() }.decide().engine, EnginePlan::Run, "hearsay");
    let waits = World { engine_runs: false, member_reports_leader: true, nodes: names(2), ..joins };
    assert_eq!(waits.decide().engine, EnginePlan::Wait(Wait::Turn("n2".to_owned())));
}

#[test]
fn another_store_is_left_alone() {
    let standalone = World { store: Store::Standalone, member_reports_leader: true, ..World::founder() };
    assert_eq!(standalone.decide().engine, EnginePlan::Wait(Wait::Standalone));
    assert_eq!(standalone.decide().witness, WitnessPlan::Wait(Wait::Standalone));
    let other = World { store: Store::Clustered, marker: marker("f0", Phase::Member), ..World::founder() };
    assert_eq!(other.decide().engine, EnginePlan::Wait(Wait::OtherFounding));
}

#[test]
fn the_witness_retires_step_by_step() {
    let duty = record(Some("n1")).witness.unwrap();
    assert_eq!(World::grown(3).decide().witness, WitnessPlan::Retire(duty));
    let retiring = World { record: Some(retiring()), ..World::grown(3) };
    let leads =
        World { group: Some(Group { leader: "w-n1-1".into(), ..group(3, &["w-n1-1"]) }), ..retiring.clone() };
    let removed = World { group: Some(group(3, &[])), ..retiring.clone() };
    let ended = World { witness: WitnessState { runs: false, stored: true }, ..removed.clone() };
    let duty = self::retiring().witness.unwrap();
    assert_eq!(leads.decide().witness, WitnessPlan::StepDown(duty.clone()));
    assert_eq!(retiring.decide().witness, WitnessPlan::Remove(duty.clone()));
    assert_eq!(removed.decide().witness, WitnessPlan::Stop(duty.clone()));
    assert_eq!(ended.decide().witness, WitnessPlan::Discharge(duty));
    let done = World { record: Some(record(None)), ..ended };
    assert_eq!(done.decide().witness, WitnessPlan::Absent);
}

/// The record of a forest whose witness may be taken out.
fn retiring() -> Record {
    let founded = Secrets::empty().found(&"n1".parse().unwrap(), "f1", Timestamp::UNIX_EPOCH).unwrap();
    founded.retire_witness("w-n1-1").unwrap().record().unwrap().clone()
}

#[test]
fn a_witness_that_went_out_while_a_node_began_to_leave_makes_way_for_another() {
    let leaving =
        Leaving { node: "n2".to_owned(), since: String::new(), stage: Stage::Moving, witness: None };
    let record = Record { leaving: Some(leaving), ..retiring() };
    let duty = record.witness.clone().unwrap();
    let counted = World { record: Some(record), ..World::grown(3) };
    assert_eq!(counted.decide().witness, WitnessPlan::Run(duty.clone()), "two are too few without it");
    let out = World { group: Some(group(3, &[])), ..counted };
    assert_eq!(out.decide().witness, WitnessPlan::Stop(duty.clone()));
    let ended = World { witness: WitnessState { runs: false, stored: true }, ..out };
    assert_eq!(ended.decide().witness, WitnessPlan::Discharge(duty.clone()));
    let discharged = Record { witness: None, ..ended.record.clone().unwrap() };
    assert_eq!(World { record: Some(discharged), ..ended.clone() }.decide().witness, WitnessPlan::Take);
    // One that is only coming is not in the group yet either.
    let fresh = Record { witness: Some(Duty { retiring: false, ..duty }), ..ended.record.clone().unwrap() };
    assert!(matches!(World { record: Some(fresh), ..ended }.decide().witness, WitnessPlan::Run(_)));
}

#[test]
fn a_forest_that_falls_below_three_gets_a_witness_again() {
    let fallen = World { nodes: names(2), record: Some(record(None)), ..World::grown(3) };
    assert_eq!(fallen.decide().witness, WitnessPlan::Take);
    assert_eq!(World { fresh: false, ..fallen }.decide().witness, WitnessPlan::Leave);
}

#[test]
fn a_witness_that_may_have_been_discharged_meanwhile_is_not_missed() {
    // The record as it was kept before the discharge, the store gone since, and the share away.
    let world = World { fresh: false, witness: WitnessState::default(), ..World::grown(3) };
    assert_eq!(world.decide().witness, WitnessPlan::Leave);
    let leaderless = World { own_reports_leader: false, group: None, ..world };
    assert_eq!(leaderless.decide().witness, WitnessPlan::Wait(Wait::WitnessLost("w-n1-1".to_owned())));
}

#[test]
fn a_witness_of_before_that_is_still_counted_is_taken_out_by_the_leaders_node() {
    let mut left = group(3, &["w-n2-1"]);
    left.members[3].current = false;
    let world = World { record: Some(record(None)), group: Some(left.clone()), ..World::grown(3) };
    assert_eq!(world.decide().witness, WitnessPlan::RemoveGhost("w-n2-1".to_owned()));
    let other = Group { leader: "n2".to_owned(), ..left };
    assert_eq!(World { group: Some(other), ..world }.decide().witness, WitnessPlan::Absent);
}

#[test]
fn lost_secrets_are_never_made_anew_beside_others() {
    assert_eq!(secrets_due(false, false, true), SecretsDue::Refuse);
    assert_eq!(secrets_due(false, true, true), SecretsDue::PutBack);
    assert_eq!(secrets_due(false, false, false), SecretsDue::Found);
}

fn worlds() -> impl Strategy<Value = World> {
    let phases = prop_oneof![Just(Phase::Founding), Just(Phase::Joining), Just(Phase::Member)];
    let markers = proptest::option::of((prop_oneof![Just("f1"), Just("f0")], phases));
    let keepers = prop_oneof![Just(Some("n1")), Just(Some("n2")), Just(None)];
    let turns = prop_oneof![Just(None), Just(Some("n1")), Just(Some("n2"))];
    let records = (keepers, turns, any::<bool>()).prop_map(|(keeper, turn, retiring)| {
        let mut record = Record { joining: turn.map(str::to_owned), ..record(keeper) };
        if let Some(duty) = &mut record.witness {
            duty.retiring = retiring;
        }
        record
    });
    let records = proptest::option::of(records);
    let stores =
        prop_oneof![Just(Store::Empty), Just(Store::Begun), Just(Store::Clustered), Just(Store::Standalone)];
    let members = proptest::collection::vec((1usize..6, any::<bool>()), 0..6);
    let groups =
        (members, proptest::option::of(any::<bool>()), 0usize..6).prop_map(|(members, witness, leader)| {
            let mut list: Vec<Member> =
                members.into_iter().map(|(n, current)| Member { name: format!("n{n}"), current }).collect();
            list.extend(witness.map(|current| Member { name: "w-n1-1".to_owned(), current }));
            let leader = list.get(leader).map_or("n1".to_owned(), |member| member.name.clone());
            Group { leader, members: list }
        });
    let flags = any::<[bool; 7]>();
    (0usize..6, records, markers, stores, proptest::option::of(groups), flags).prop_map(
        |(count, record, marker, store, group, [fresh, engine_runs, runs, stored, member, own, stale])| {
            World {
                nodes: names(count),
                record,
                fresh,
                marker: marker.map(|(founding, phase)| Marker { founding: founding.to_owned(), phase }),
                store,
                engine_runs,
                witness: WitnessState { runs, stored },
                member_reports_leader: member,
                turn_is_stale: stale,
                own_reports_leader: own,
                group,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_empty_store_starts_only_for_the_marked_founder_or_beside_a_leader(mut world in worlds()) {
        world.engine_runs = false;
        world.store = Store::Empty;
        let plan = world.decide();
        if plan.engine == EnginePlan::Run && !world.member_reports_leader {
            prop_assert_eq!(&world.record.as_ref().unwrap().founder, "n1");
            prop_assert_eq!(&world.marker, &marker("f1", Phase::Founding));
        }
        if plan.engine == EnginePlan::Run && world.marker != marker("f1", Phase::Founding) {
            prop_assert_eq!(world.record.as_ref().unwrap().joining.as_deref(), Some("n1"));
        }
        // Whoever joins has said so before.
        if plan.engine == EnginePlan::Run && world.marker != marker("f1", Phase::Founding) {
            prop_assert!(plan.phase == Some(Phase::Joining) || world.marker == marker("f1", Phase::Joining));
        }
    }

    #[test]
    fn a_standalone_store_is_never_started(mut world in worlds()) {
        world.store = Store::Standalone;
        if world.record.is_some() {
            prop_assert_eq!(world.decide().engine, EnginePlan::Wait(Wait::Standalone));
        }
    }

    #[test]
    fn the_witness_goes_only_from_three_current_nodes_by_its_keeper_and_never_as_leader(world in worlds()) {
        use WitnessPlan::{Discharge, Remove, Retire, StepDown, Stop};
        let plan = world.decide().witness;
        if let Retire(duty) | StepDown(duty) | Remove(duty) | Stop(duty) | Discharge(duty) = &plan {
            let group = world.group.as_ref().unwrap();
            let enough = world.nodes.len() >= ENOUGH && world.nodes.iter().all(|node| group.has_current(node));
            let out = duty.retiring && !group.has(&duty.name) && matches!(plan, Stop(_) | Discharge(_));
            prop_assert!(world.fresh && (enough || out));
            prop_assert_eq!(&duty.node, "n1");
            prop_assert_eq!(duty.retiring, !matches!(plan, Retire(_)));
        }
        if let StepDown(duty) | Remove(duty) | Stop(duty) | Discharge(duty) = &plan {
            let group = world.group.as_ref().unwrap();
            prop_assert_eq!(group.leader == duty.name, matches!(plan, StepDown(_)));
            prop_assert!(matches!(plan, StepDown(_) | Remove(_)) || !group.has(&duty.name));
            prop_assert!(!matches!(plan, Discharge(_)) || !world.witness.runs);
        }
    }

    #[test]
    fn a_running_engine_of_the_forest_is_never_stopped(mut world in worlds()) {
        world.engine_runs = true;
        if let EnginePlan::Wait(wait) = world.decide().engine {
            prop_assert!(matches!(wait, Wait::Standalone | Wait::OtherFounding), "{wait:?}");
        }
    }

    #[test]
    fn nothing_of_the_witness_is_undone_on_an_old_record(mut world in worlds()) {
        world.fresh = false;
        let plan = world.decide().witness;
        prop_assert!(matches!(plan, WitnessPlan::Leave | WitnessPlan::Run(_) | WitnessPlan::Wait(_)), "{plan:?}");
    }

    #[test]
    fn no_leader_is_missed_where_one_is_reported(world in worlds()) {
        if let WitnessPlan::Wait(Wait::WitnessLost(_)) = world.decide().witness {
            prop_assert!(!world.own_reports_leader && !world.member_reports_leader);
        }
    }

    #[test]
    fn an_empty_witness_starts_only_for_the_marked_founder_or_beside_a_leader(mut world in worlds()) {
        world.witness = WitnessState::default();
        if let WitnessPlan::Run(_) = world.decide().witness {
            let founding = world.marker == marker("f1", Phase::Founding);
            prop_assert!(founding || world.member_reports_leader || world.own_reports_leader);
        }
    }
}
