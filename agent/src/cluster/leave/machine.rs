//! What is next for a node that leaves, and for those that stay. Pure.
//!
//! Nothing is taken away before what takes its place is there: the witness of those who stay is in the group before
//! a vote goes, the streams are current elsewhere before the engine ends, and only an engine that has ended is taken
//! out of the group, by another node.

use std::collections::BTreeSet;

use forest_core::secrets::{Leaving, Record, Stage};

use crate::cluster::machine::{ENOUGH, staying};
use crate::cluster::sys::Group;

/// What the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// This node.
    pub me: &'a str,
    /// The nodes of the forest, the one that leaves among them.
    pub nodes: &'a BTreeSet<String>,
    /// The founding.
    pub record: &'a Record,
    /// Were record and nodes read just now?
    pub fresh: bool,
    /// Does this node want to leave? `Some(true)`: whatever is lost.
    pub wanted: Option<bool>,
    /// The meta group as its leader tells.
    pub group: Option<&'a Group>,
    /// Has the engine here a process?
    pub engine_runs: bool,
    /// Has the node that leaves an entry still, or no tombstone yet?
    pub listed: bool,
}

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: nobody leaves, or it is others' to act.
    Nothing,
    /// It cannot leave without a loss.
    Refuse(Refusal),
    /// It is recorded that this node leaves.
    Begin,
    /// Something else comes first.
    Wait(Wait),
    /// What lies here alone is moved; then, if it leads the group, it steps down; then it is recorded that it stops.
    Move,
    /// Its engine has ended: that is recorded.
    NoteStopped,
    /// This one goes out of the group.
    RemovePeer(String),
    /// Its tombstone is written, and its entry goes.
    Bury(String),
    /// It has left: the record is cleared.
    Clear(String),
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Registry and secrets are to be read.
    Registry,
    /// Another node joins or leaves.
    Turn(String),
    /// The group has no leader for now.
    Leader,
    /// Too few votes answer for now.
    Votes,
    /// A witness of those who stay is to be in the group.
    Witness,
    /// The witness that this node kept is to end.
    OwnWitness(String),
    /// Its engine is to end.
    Engine,
    /// A node that stays is to take it out.
    Removal,
}

/// Why a node cannot leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody would be left.
    LastNode,
    /// Those who stay would be too few for a leader: so many of so many; these are away.
    Quorum {
        /// Voters that answer.
        alive: usize,
        /// Voters there would be.
        of: usize,
        /// Who does not answer.
        away: Vec<String>,
    },
}

/// Says what is next.
#[must_use]
pub fn next(inputs: &Inputs<'_>) -> Next {
    match &inputs.record.leaving {
        None => begin(inputs),
        Some(leaving) if leaving.node == inputs.me => leave(inputs, leaving),
        Some(leaving) => match take_out(inputs, leaving) {
            Next::Nothing if inputs.wanted.is_some() => Next::Wait(Wait::Turn(leaving.node.clone())),
            next => next,
        },
    }
}

fn begin(inputs: &Inputs<'_>) -> Next {
    let Some(force) = inputs.wanted else {
        return Next::Nothing;
    };
    if !inputs.fresh {
        return Next::Wait(Wait::Registry);
    }
    if let Some(node) = &inputs.record.joining {
        return Next::Wait(Wait::Turn(node.clone()));
    }
    match refusal(inputs, &others(inputs)) {
        Some(refusal) if !force => Next::Refuse(refusal),
        _ => Next::Begin,
    }
}

fn others(inputs: &Inputs<'_>) -> BTreeSet<String> {
    inputs.nodes.iter().filter(|node| *node != inputs.me).cloned().collect()
}

/// Why those who stay could not go on, as far as the group tells.
#[must_use]
pub fn refusal(inputs: &Inputs<'_>, stay: &BTreeSet<String>) -> Option<Refusal> {
    if stay.is_empty() {
        return Some(Refusal::LastNode);
    }
    let (here, away): (Vec<&String>, Vec<&String>) =
        stay.iter().partition(|node| inputs.group.is_some_and(|group| group.has_current(node)));
    let witness = usize::from(stay.len() < ENOUGH);
    let (alive, of) = (here.len() + if here.is_empty() { 0 } else { witness }, stay.len() + witness);
    // The one that leaves is counted until it is taken out.
    let too_few = alive * 2 <= of + 1;
    too_few.then(|| Refusal::Quorum { alive, of, away: away.into_iter().cloned().collect() })
}

fn leave(inputs: &Inputs<'_>, leaving: &Leaving) -> Next {
    let stay = staying(inputs.nodes, inputs.record);
    match leaving.stage {
        Stage::Moving if inputs.fresh => moving(inputs, leaving, &stay),
        Stage::Moving => Next::Wait(Wait::Registry),
        Stage::Stopping if inputs.engine_runs => Next::Wait(Wait::Engine),
        Stage::Stopping => Next::NoteStopped,
        Stage::Stopped if inputs.engine_runs => Next::Wait(Wait::Engine),
        // Who goes whatever is lost may leave nobody behind who could take it out.
        Stage::Stopped if inputs.fresh && inputs.listed && alone(inputs, &stay) => {
            Next::Bury(leaving.node.clone())
        }
        Stage::Stopped if inputs.fresh && stay.is_empty() => Next::Clear(leaving.node.clone()),
        Stage::Stopped => Next::Wait(Wait::Removal),
    }
}

fn alone(inputs: &Inputs<'_>, stay: &BTreeSet<String>) -> bool {
    stay.is_empty() || inputs.wanted == Some(true)
}

fn moving(inputs: &Inputs<'_>, leaving: &Leaving, stay: &BTreeSet<String>) -> Next {
    let force = inputs.wanted == Some(true);
    let Some(group) = inputs.group else {
        return if force { Next::Move } else { Next::Wait(Wait::Leader) };
    };
    if force && refusal(inputs, stay).is_some() {
        return Next::Move;
    }
    if !witnessed(inputs.record, group, stay) {
        return Next::Wait(Wait::Witness);
    }
    if let Some(duty) = &leaving.witness {
        return Next::Wait(Wait::OwnWitness(duty.name.clone()));
    }
    if let Some(duty) = inputs.record.witness.as_ref().filter(|duty| duty.node == leaving.node) {
        return Next::Wait(Wait::OwnWitness(duty.name.clone()));
    }
    Next::Move
}

/// Have those who stay the votes that they need? Too few of them need a witness that one of them keeps, in the group.
fn witnessed(record: &Record, group: &Group, stay: &BTreeSet<String>) -> bool {
    let theirs = record.witness.as_ref().filter(|duty| stay.contains(&duty.node));
    stay.len() >= ENOUGH || theirs.is_some_and(|duty| group.has_current(&duty.name))
}

/// What one who stays does about the one whose engine has ended.
fn take_out(inputs: &Inputs<'_>, leaving: &Leaving) -> Next {
    let Inputs { me, record, .. } = inputs;
    let stay = staying(inputs.nodes, record);
    let Some(group) = inputs.group.filter(|_| inputs.fresh && leaving.stage == Stage::Stopped) else {
        return Next::Nothing;
    };
    if !acts(me, record, group, &stay) {
        return Next::Nothing;
    }
    if !witnessed(record, group, &stay) {
        return Next::Wait(Wait::Witness);
    }
    let own = record.witness.as_ref().filter(|duty| duty.node == leaving.node);
    let names = [&leaving.node].into_iter().chain(leaving.witness.iter().chain(own).map(|duty| &duty.name));
    // A server that stands in for it under its name is no server of its.
    let stands_in = |name: &str| {
        record.witness.as_ref().is_some_and(|duty| duty.name == name && duty.node != leaving.node)
    };
    let mut counted = names.filter(|name| group.has(name) && !stands_in(name));
    match counted.next() {
        Some(name) => Next::RemovePeer(name.clone()),
        None if inputs.listed => Next::Bury(leaving.node.clone()),
        None => Next::Clear(leaving.node.clone()),
    }
}

/// One node acts for all: the leader's; where none of them leads but a witness, that one's.
fn acts(me: &str, record: &Record, group: &Group, stay: &BTreeSet<String>) -> bool {
    if stay.contains(&group.leader) {
        return group.leader == me;
    }
    match record.witness.as_ref().filter(|duty| duty.name == group.leader && stay.contains(&duty.node)) {
        Some(duty) => duty.node == me,
        None => stay.iter().find(|node| group.has_current(node)).is_some_and(|first| first == me),
    }
}

#[cfg(test)]
mod tests;
