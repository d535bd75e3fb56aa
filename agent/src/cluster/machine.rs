//! What a node does about its cluster, decided from what is seen. Pure.
//!
//! The rules, each of which keeps a group from being split or left without a quorum:
//! - a server on an empty store starts only where its node has founded the forest and says so itself, or where a
//!   member reports a meta leader, and then one after the other, in turns under the lease: two empty servers may
//!   make a group of their own, and nats-server 2.9 does so even beside a leader (measured: two leaders at once);
//! - the servers that make the group list nobody else: a server on an empty store expects as many voters as it
//!   lists, and founder and witness are two, however many nodes wait for them;
//! - a store that was never clustered is not started: as a member's, its streams would be deleted;
//! - a node that leaves for good counts no more for how many there are, and hands its witness on to one that stays;
//!   its own goes once the other's is in the group;
//! - the witness goes only when three real nodes or more are there and all are current; never while it leads;
//!   that it may be taken out is recorded, then it goes out of the group, is stopped, then its store, then its record,
//!   so that no step leaves a ghost, nor a witness that runs and is not counted where a node leaves meanwhile.

use std::collections::BTreeSet;

use forest_core::reason::Reason;
use forest_core::secrets::{Duty, Record};

use crate::cluster::marker::{Marker, Phase};
use crate::cluster::store::Store;
use crate::cluster::sys::Group;
use crate::fault::Fault;

/// So many real nodes need no witness.
pub const ENOUGH: usize = 3;

/// Everything that the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// This node.
    pub me: &'a str,
    /// The nodes of the forest: its entries, but those taken out on purpose.
    pub nodes: &'a BTreeSet<String>,
    /// The founding; `None`: never read, and no copy is kept.
    pub record: Option<&'a Record>,
    /// Were record and nodes read just now? Else they are what was kept of an earlier read.
    pub fresh: bool,
    /// What this node kept for itself.
    pub marker: Option<&'a Marker>,
    /// The engine's store.
    pub store: Store,
    /// Has the engine a process?
    pub engine_runs: bool,
    /// The witness here.
    pub witness: WitnessState,
    /// Does another node report a meta leader?
    pub member_reports_leader: bool,
    /// Has the node whose turn it is to join been out of reach for long, or had its turn for all too long?
    pub turn_is_stale: bool,
    /// Does the own server report one?
    pub own_reports_leader: bool,
    /// The meta group as its leader tells; `None`: there is no leader, or it could not be asked.
    pub group: Option<&'a Group>,
}

/// The witness of this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WitnessState {
    /// Has it a process?
    pub runs: bool,
    /// Has the recorded witness a store here?
    pub stored: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// With the engine.
    pub engine: EnginePlan,
    /// With the witness.
    pub witness: WitnessPlan,
    /// What is to be noted for later lives, before anything is started.
    pub phase: Option<Phase>,
    /// This node has joined, and it is still its turn.
    pub ends_turn: bool,
    /// This node makes the group: its servers list nobody else yet.
    pub alone: bool,
}

/// What is to be done with the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnginePlan {
    /// It may run.
    Run,
    /// It may run once it is this node's turn, which it takes from whoever is named.
    TakeTurn(Option<String>),
    /// It has not joined, and it is another's turn by now: it stops, and joins in a later turn.
    Yield(String),
    /// It is not started; one that runs is left alone.
    Wait(Wait),
}

/// What is to be done with the witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessPlan {
    /// Nobody knows whose it is, or whether it is needed still: whatever is here stays as it is.
    Leave,
    /// It has no place here: stopped, and its store deleted.
    Absent,
    /// This one runs.
    Run(Duty),
    /// This one is this node's, and cannot be started yet.
    Wait(Wait),
    /// This node takes the duty, which nobody has.
    Take,
    /// This node leads the group, in which a witness of before is left over, without a server: it goes.
    RemoveGhost(String),
    /// It is recorded that it may be taken out.
    Retire(Duty),
    /// It leads, and must not when it goes.
    StepDown(Duty),
    /// It goes out of the group.
    Remove(Duty),
    /// Out of the group, it ends.
    Stop(Duty),
    /// Ended, its store goes, then its record.
    Discharge(Duty),
}

/// What a server waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// The forest's credentials were never read.
    Secrets,
    /// Its store is of a standalone server.
    Standalone,
    /// Its store is of an earlier founding of a forest of this name.
    OtherFounding,
    /// Its store is empty, and no member reports a meta leader.
    Founder(String),
    /// The same, on the founder itself: its store was lost, and perhaps the forest with it.
    FounderLost,
    /// Another node joins first.
    Turn(String),
    /// The witness has no store and the group no leader.
    WitnessLost(String),
}

impl Wait {
    /// As a fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let (reason, message) = match self {
            Self::Secrets => (
                Reason::SecretsMissing,
                "the forest's credentials were never read, and no copy of them is kept".to_owned(),
            ),
            Self::Standalone => (
                Reason::StandaloneStore,
                "the JetStream store was written by a standalone server; a cluster would delete its streams, so \
                 nothing is started on it and nothing of it is touched"
                    .to_owned(),
            ),
            Self::OtherFounding => (
                Reason::OtherFounding,
                "the JetStream store belongs to an earlier forest of this name".to_owned(),
            ),
            Self::Founder(founder) => (
                Reason::WaitsForFounder,
                format!("the store is empty and no member reports a meta leader yet; {founder} founded the forest"),
            ),
            Self::FounderLost => (
                Reason::FounderLost,
                "this node founded the forest and its store is empty; no member reports a meta leader".to_owned(),
            ),
            Self::Turn(node) => (
                Reason::WaitsForFounder,
                format!("{node} is joining the group; nodes on empty stores join one after the other"),
            ),
            Self::WitnessLost(name) => (
                Reason::QuorumLost,
                format!("the store of the witness {name} is gone, and without it the group has no leader"),
            ),
        };
        Fault::new(reason, message)
    }
}

/// Decides.
#[must_use]
pub fn decide(inputs: &Inputs<'_>) -> Plan {
    let Some(record) = inputs.record else {
        let engine = if inputs.engine_runs { EnginePlan::Run } else { EnginePlan::Wait(Wait::Secrets) };
        return Plan { engine, witness: WitnessPlan::Leave, phase: None, ends_turn: false, alone: false };
    };
    let engine = engine(inputs, record);
    let witness = witness(inputs, record, &engine);
    let phase = phase(inputs, record, &engine);
    // NimsForest's node cannot always ask the leader; that it follows one must do then.
    let follows = inputs.group.map_or(inputs.own_reports_leader, |group| group.has_current(inputs.me));
    let joined = inputs.engine_runs && follows;
    let ends_turn = joined && inputs.fresh && record.joining.as_deref() == Some(inputs.me);
    Plan { engine, witness, phase, ends_turn, alone: founds(inputs, record) }
}

/// The marker, where it speaks of this founding.
fn marked(inputs: &Inputs<'_>, record: &Record) -> Option<Phase> {
    inputs.marker.filter(|marker| marker.founding == record.founding).map(|marker| marker.phase)
}

/// May this node start servers on empty stores, to make the group?
fn founds(inputs: &Inputs<'_>, record: &Record) -> bool {
    record.founder == inputs.me && marked(inputs, record) == Some(Phase::Founding)
}

fn engine(inputs: &Inputs<'_>, record: &Record) -> EnginePlan {
    let foreign = inputs.marker.is_some_and(|marker| marker.founding != record.founding);
    let member = match inputs.store {
        Store::Clustered => true,
        Store::Begun => marked(inputs, record) != Some(Phase::Joining),
        Store::Empty | Store::Standalone => false,
    };
    match inputs.store {
        Store::Standalone => EnginePlan::Wait(Wait::Standalone),
        Store::Clustered | Store::Begun if foreign => EnginePlan::Wait(Wait::OtherFounding),
        _ if member || founds(inputs, record) => EnginePlan::Run,
        _ if inputs.engine_runs => yields(inputs, record).map_or(EnginePlan::Run, EnginePlan::Yield),
        _ if inputs.member_reports_leader && inputs.fresh => join(inputs, record),
        _ if record.founder == inputs.me => EnginePlan::Wait(Wait::FounderLost),
        _ => EnginePlan::Wait(Wait::Founder(record.founder.clone())),
    }
}

/// A server that was started to join and has not, while another has the turn: two of them at once may make a group
/// of their own.
fn yields(inputs: &Inputs<'_>, record: &Record) -> Option<String> {
    let joining = marked(inputs, record) == Some(Phase::Joining) && !inputs.own_reports_leader;
    record.joining.clone().filter(|node| inputs.fresh && joining && node != inputs.me)
}

/// A server on an empty store, beside a leader: whose turn is it?
fn join(inputs: &Inputs<'_>, record: &Record) -> EnginePlan {
    match &record.joining {
        None => EnginePlan::TakeTurn(None),
        Some(node) if node == inputs.me => EnginePlan::Run,
        Some(node) if inputs.turn_is_stale || !inputs.nodes.contains(node) => {
            EnginePlan::TakeTurn(Some(node.clone()))
        }
        Some(node) => EnginePlan::Wait(Wait::Turn(node.clone())),
    }
}

fn phase(inputs: &Inputs<'_>, record: &Record, engine: &EnginePlan) -> Option<Phase> {
    let before = marked(inputs, record);
    if *engine != EnginePlan::Run {
        return None;
    }
    let due = if inputs.engine_runs && inputs.own_reports_leader {
        Phase::Member
    } else if inputs.store == Store::Empty && !inputs.engine_runs && !founds(inputs, record) {
        Phase::Joining
    } else {
        return None;
    };
    (before != Some(due)).then_some(due)
}

fn witness(inputs: &Inputs<'_>, record: &Record, engine: &EnginePlan) -> WitnessPlan {
    if let Some(ghost) = ghost(inputs, record) {
        return WitnessPlan::RemoveGhost(ghost);
    }
    let staying = staying(inputs.nodes, record);
    let few = staying.len() < ENOUGH && staying.contains(inputs.me);
    if let Some(leaving) = record.leaving.as_ref().filter(|leaving| leaving.node == inputs.me)
        && let Some(duty) = &leaving.witness
    {
        return hand_over(inputs, record, duty.clone(), &staying);
    }
    let Some(duty) = record.witness.clone() else {
        return match inputs.fresh {
            true if few && inputs.group.is_some() => WitnessPlan::Take,
            true => WitnessPlan::Absent,
            false => WitnessPlan::Leave,
        };
    };
    let handed_on =
        record.leaving.as_ref().is_some_and(|leaving| leaving.node == duty.node && leaving.witness.is_none());
    if few && handed_on && inputs.fresh && inputs.group.is_some() {
        return WitnessPlan::Take;
    }
    if duty.node != inputs.me {
        return if inputs.fresh { WitnessPlan::Absent } else { WitnessPlan::Leave };
    }
    if let Some(group) = inputs.group.filter(|_| inputs.fresh) {
        let out = duty.retiring && !group.has(&duty.name);
        match enough(&staying, group) {
            true if !duty.retiring => return WitnessPlan::Retire(duty),
            // One that is out is of no use to those who are few again: another takes its place.
            enough if enough || out => return retire(duty, group, inputs.witness),
            _ => {}
        }
    }
    if inputs.witness.runs {
        return WitnessPlan::Run(duty);
    }
    let leader = inputs.member_reports_leader || inputs.own_reports_leader;
    match engine {
        EnginePlan::Wait(wait @ (Wait::Standalone | Wait::OtherFounding)) => WitnessPlan::Wait(wait.clone()),
        _ if inputs.witness.stored
            || founds(inputs, record)
            || (inputs.fresh && record.stand_in.as_ref() == Some(&duty.name))
            || (inputs.fresh && leader && (record.joining.is_none() || inputs.turn_is_stale)) =>
        {
            WitnessPlan::Run(duty)
        }
        // The group does without it: it was discharged, perhaps, after the record was last read.
        _ if leader && !inputs.fresh => WitnessPlan::Leave,
        _ => match record.joining.clone().filter(|_| leader) {
            Some(node) => WitnessPlan::Wait(Wait::Turn(node)),
            None => WitnessPlan::Wait(Wait::WitnessLost(duty.name)),
        },
    }
}

/// A witness of before that is still counted: servers of 2.9 may bring one back after a restart of all.
fn ghost(inputs: &Inputs<'_>, record: &Record) -> Option<String> {
    let group = inputs.group.filter(|group| inputs.fresh && group.leader == inputs.me)?;
    let recorded = |name: &str| record.witness.as_ref().is_some_and(|duty| duty.name == name);
    let left_over = |name: &str| name.starts_with("w-") && !recorded(name) && !inputs.nodes.contains(name);
    let ghost = group.members.iter().find(|member| left_over(&member.name) && !member.current)?;
    enough(&staying(inputs.nodes, record), group).then(|| ghost.name.clone())
}

/// The nodes without the one that leaves.
#[must_use]
pub fn staying(nodes: &BTreeSet<String>, record: &Record) -> BTreeSet<String> {
    let leaves = |node: &&String| record.leaving.as_ref().is_some_and(|leaving| leaving.node == **node);
    nodes.iter().filter(|node| !leaves(node)).cloned().collect()
}

/// The witness that `me` keeps: the recorded one, or, while it leaves, the one it had before.
#[must_use]
pub fn kept_duty<'a>(record: &'a Record, me: &str) -> Option<&'a Duty> {
    let leaving = record.leaving.as_ref().filter(|leaving| leaving.node == me);
    leaving.and_then(|leaving| leaving.witness.as_ref()).or(record.witness.as_ref())
}

/// Can the group be without the witness `name`? The nodes that stay are enough, or another one is in its place.
#[must_use]
pub fn spares(staying: &BTreeSet<String>, record: &Record, group: &Group, name: &str) -> bool {
    let heir = record.witness.as_ref().filter(|heir| heir.name != name);
    enough(staying, group)
        || (heir.is_some_and(|heir| group.has_current(&heir.name)) && survives(group, name))
}

/// Has the group its majority still, once `name` is out? A voter that is down may make that one needed.
fn survives(group: &Group, name: &str) -> bool {
    let rest = group.members.iter().filter(|member| member.name != name);
    let (current, all) =
        rest.fold((0, 0), |(current, all), member| (current + usize::from(member.current), all + 1));
    current * 2 > all
}

/// The witness of a node that leaves, where another has the duty by now: it goes on until that one's is in the group.
fn hand_over(inputs: &Inputs<'_>, record: &Record, duty: Duty, staying: &BTreeSet<String>) -> WitnessPlan {
    let Some(group) = inputs.group.filter(|_| inputs.fresh) else {
        let there = inputs.witness.runs || inputs.witness.stored;
        return if there { WitnessPlan::Run(duty) } else { WitnessPlan::Leave };
    };
    if spares(staying, record, group, &duty.name) {
        return retire(duty, group, inputs.witness);
    }
    if inputs.witness.runs || inputs.witness.stored { WitnessPlan::Run(duty) } else { WitnessPlan::Leave }
}

/// Do the real nodes make a quorum of their own, with none of them missing?
#[must_use]
pub fn enough(nodes: &BTreeSet<String>, group: &Group) -> bool {
    nodes.len() >= ENOUGH && nodes.iter().all(|node| group.has_current(node))
}

fn retire(duty: Duty, group: &Group, witness: WitnessState) -> WitnessPlan {
    if group.leader == duty.name {
        WitnessPlan::StepDown(duty)
    } else if group.has(&duty.name) {
        WitnessPlan::Remove(duty)
    } else if witness.runs {
        WitnessPlan::Stop(duty)
    } else {
        WitnessPlan::Discharge(duty)
    }
}

/// What is to be done about the shared secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretsDue {
    /// They stand.
    Nothing,
    /// The kept copy is put back.
    PutBack,
    /// The forest is founded.
    Found,
    /// They are lost, and other nodes live by them: new ones would split the forest.
    Refuse,
}

/// Decides it: `shared`, `kept`: is a founding recorded there? `others`: has the registry entries of other nodes?
#[must_use]
pub fn secrets_due(shared: bool, kept: bool, others: bool) -> SecretsDue {
    match (shared, kept, others) {
        (true, _, _) => SecretsDue::Nothing,
        (false, true, _) => SecretsDue::PutBack,
        (false, false, false) => SecretsDue::Found,
        (false, false, true) => SecretsDue::Refuse,
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
