//! What is wanted of a forest in the cloud, as its record in the registry says, and the pure changes to it.
//!
//! ```text
//!   (none) ──plant──► planting ──settle──► active ──grow──► active, some pending ──settle──► active
//!                         └──────────────────┴── bury ──► removing ──clear, remove──► (none)
//! ```
//!
//! Members are added before their servers are made, and are pending until they were seen healthy once. A pending one
//! bears who is at work on it: of two laptops that grow a forest at the same moment each adds its own, and what one
//! has left behind is taken up by the next.

use std::collections::BTreeSet;

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use forest_core::registry::{Owner, Registry, bury as tombstone, edit_forest, remove_entry};
use forest_core::time::rfc3339;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::labels::Mark;
use crate::args::node_name;
use crate::config::EngineKind;
use crate::failure::Failure;
use crate::local::record::{Status, size};

/// The provider of these forests.
pub const PROVIDER: &str = "hetzner";
/// No command works on a node for longer; whoever says so is gone.
const LONGEST: SignedDuration = SignedDuration::from_hours(2);

/// What is wanted of a forest in the cloud: the part of its record that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How far it is.
    pub status: Status,
    /// Which planting: see [`Mark`].
    pub planting: String,
    /// The number of the next node; never lowered.
    pub next_node: u64,
    /// Its nodes.
    pub members: Vec<NodeId>,
    /// Those that were not yet seen healthy.
    #[serde(default)]
    pub pending: Vec<Pending>,
    /// What its nodes run.
    #[serde(default)]
    pub programs: Option<Programs>,
    /// The node that is being given these programs; `None`: all have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrading: Option<NodeId>,
    /// Programs that some of its nodes may run still, while others are given newer ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older: Vec<Shelved>,
    /// When nodes were added last, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown_at: Option<String>,
}

/// What the nodes of a forest run, as it lies on the share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// For which machines, in the words of compilers.
    pub architecture: String,
    /// forest-agent.
    pub agent: Shelved,
    /// What the engine is.
    pub engine_kind: EngineKind,
    /// The engine.
    pub engine: Shelved,
    /// The nats-server of the witness, where the engine is none itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<Shelved>,
}

/// A program on the share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelved {
    /// Its name in `bin/`.
    pub file: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

impl Programs {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Shelved> {
        [&self.agent, &self.engine].into_iter().chain(&self.witness)
    }
}

/// A node that is being made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The node.
    pub id: NodeId,
    /// Since when, RFC 3339.
    pub since: String,
    /// Who is at work on it.
    pub by: Owner,
}

impl Pending {
    /// Is nobody at work on it any more, as far as `worker` can tell?
    fn is_left(&self, worker: &Worker) -> bool {
        let since: Option<Timestamp> = self.since.parse().ok();
        let old = since.is_none_or(|since| worker.now.duration_since(since) > LONGEST);
        old || self.by.is_gone(&worker.owner)
    }
}

/// Who changes the record, and when.
#[derive(Debug, Clone)]
pub struct Worker {
    /// This process.
    pub owner: Owner,
    /// The time of the change.
    pub now: Timestamp,
}

/// What a new forest is to be.
#[derive(Debug, Clone)]
pub struct Request {
    /// How many nodes, at least 1.
    pub count: u8,
    /// The wished location.
    pub location: String,
    /// The mark of a new planting.
    pub planting: String,
    /// What the nodes are to run; what is recorded already goes before it.
    pub programs: Option<Programs>,
}

impl Plan {
    /// The plan of the forest, if it is one in the cloud. Who has left, perhaps by a command on the node itself, is no
    /// member, whatever the record says still.
    #[must_use]
    pub fn find(registry: &Registry, forest: &ForestId) -> Option<Self> {
        let mut plan = Self::recorded(registry, forest)?;
        // Of a forest that is torn down nobody is in any more, and its members are those to be told of.
        if plan.status != Status::Removing {
            let is_in = |node: &NodeId| registry.tombstone(forest, node).is_none();
            plan.members.retain(is_in);
            plan.pending.retain(|pending| is_in(&pending.id));
        }
        Some(plan)
    }

    /// Those who have left, and may have a machine still.
    #[must_use]
    pub fn left(registry: &Registry, forest: &ForestId) -> Vec<NodeId> {
        let removed = registry.forest(forest).and_then(|record| record.get("removed")?.as_object());
        let ids = removed.into_iter().flatten().filter_map(|(id, _)| id.parse().ok());
        ids.filter(|id| registry.tombstone(forest, id).is_some()).collect()
    }

    /// The same, with members who have left.
    #[must_use]
    fn recorded(registry: &Registry, forest: &ForestId) -> Option<Self> {
        let record = registry.forest(forest)?;
        let ours = record.get("provider").and_then(Value::as_str) == Some(PROVIDER);
        ours.then(|| Self::deserialize(Value::Object(record.clone())).ok()).flatten()
    }

    /// Its programs on the share, each once.
    #[must_use]
    pub fn files(&self) -> Vec<Shelved> {
        let mut files: Vec<Shelved> = self.older.clone();
        files.extend(self.programs.iter().flat_map(Programs::all).cloned());
        files.sort_by(|one, other| one.file.cmp(&other.file));
        files.dedup();
        files
    }

    /// The mark on everything of it.
    #[must_use]
    pub fn mark(&self, forest: &ForestId) -> Mark {
        Mark { forest: forest.clone(), planting: self.planting.clone() }
    }

    /// Is somebody at work on this node?
    #[must_use]
    pub fn in_work(&self, node: &NodeId, worker: &Worker) -> bool {
        self.pending.iter().any(|pending| pending.id == *node && !pending.is_left(worker))
    }

    /// Adds `count` members that `worker` makes; their ids.
    fn add(&mut self, forest: &ForestId, count: usize, worker: &Worker) -> Result<Vec<NodeId>, Failure> {
        let mut added = Vec::new();
        for _ in 0..count {
            let id = node_name(forest, self.next_node).ok_or_else(|| {
                let message = format!("forest {forest} has had as many nodes as its name leaves room for");
                Failure::new(Reason::NotSupported, message)
            })?;
            self.next_node += 1;
            self.members.push(id.clone());
            self.pending.push(worker.takes(id.clone()));
            added.push(id);
        }
        Ok(added)
    }

    fn write(&self, record: &mut Map<String, Value>) {
        if let Ok(Value::Object(own)) = serde_json::to_value(self) {
            record.extend(own);
        }
    }
}

impl Worker {
    /// This process, now.
    #[must_use]
    pub fn current() -> Self {
        Self { owner: Owner::current("morpheus"), now: Timestamp::now() }
    }

    fn takes(&self, id: NodeId) -> Pending {
        Pending { id, since: rfc3339(self.now), by: self.owner.clone() }
    }
}

/// A change: the registry afterwards, `None` where nothing changes; the plan; the nodes to be worked on.
pub type Change = (Option<Registry>, Plan, Vec<NodeId>);

/// The registry with a new forest, or with the same one whose planting was cut short.
///
/// # Errors
/// [`Failure`] where the name is taken.
pub fn plant(
    registry: &Registry,
    forest: &ForestId,
    request: &Request,
    worker: &Worker,
) -> Result<Change, Failure> {
    let mut plan = match (registry.forest(forest), Plan::find(registry, forest)) {
        (None, _) => {
            let (status, planting) = (Status::Planting, request.planting.clone());
            let mut plan = Plan {
                status,
                planting,
                next_node: 1,
                members: Vec::new(),
                pending: Vec::new(),
                programs: None,
                upgrading: None,
                older: Vec::new(),
                grown_at: None,
            };
            plan.add(forest, usize::from(request.count), worker)?;
            plan
        }
        (Some(_), Some(plan)) if plan.status == Status::Planting => {
            if plan.members.len() != usize::from(request.count) {
                return Err(taken(forest, Some(&plan)));
            }
            plan
        }
        (Some(_), plan) => return Err(taken(forest, plan.as_ref())),
    };
    plan.programs = plan.programs.or_else(|| request.programs.clone());
    let next = edit_forest(registry, forest, worker.now, |record| {
        let texts = [("provider", PROVIDER), ("location", &request.location), ("size", size(request.count))];
        for (key, text) in texts {
            record.entry(key).or_insert_with(|| text.into());
        }
        record.entry("created_at").or_insert_with(|| rfc3339(worker.now).into());
        plan.write(record);
    });
    let nodes = plan.members.clone();
    Ok((next, plan, nodes))
}

/// The registry with `count` more nodes; those that somebody has left behind are among them.
///
/// # Errors
/// [`Failure`] where the forest is gone, half torn down, or full.
pub fn grow(registry: &Registry, forest: &ForestId, count: u8, worker: &Worker) -> Result<Change, Failure> {
    let mut plan = live(registry, forest)?;
    let mut nodes = Vec::new();
    for pending in plan.pending.iter_mut().filter(|pending| pending.is_left(worker)) {
        *pending = worker.takes(pending.id.clone());
        nodes.push(pending.id.clone());
    }
    let more = usize::from(count).saturating_sub(nodes.len());
    nodes.extend(plan.add(forest, more, worker)?);
    if !nodes.is_empty() {
        plan.grown_at = Some(rfc3339(worker.now));
    }
    Ok((edit_forest(registry, forest, worker.now, |record| plan.write(record)), plan, nodes))
}

/// The plan of a forest that is not being torn down.
///
/// # Errors
/// [`Failure`] where the forest is gone or half torn down.
pub fn live(registry: &Registry, forest: &ForestId) -> Result<Plan, Failure> {
    match Plan::find(registry, forest) {
        Some(plan) if plan.status != Status::Removing => Ok(plan),
        Some(plan) => Err(taken(forest, Some(&plan))),
        None => Err(Failure::new(Reason::ForestUnknown, format!("forest {forest} is gone"))),
    }
}

/// What the record says of nodes that are just being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// All of them are wanted.
    Wanted,
    /// These are no members any more.
    Without(Vec<NodeId>),
    /// The planting is gone, or is being removed.
    Gone,
}

/// Are these nodes of a planting still wanted?
#[must_use]
pub fn standing(registry: &Registry, mark: &Mark, nodes: &[NodeId]) -> Standing {
    let Ok(plan) = live(registry, &mark.forest) else { return Standing::Gone };
    if plan.planting != mark.planting {
        return Standing::Gone;
    }
    let out: Vec<NodeId> = nodes.iter().filter(|node| !plan.members.contains(node)).cloned().collect();
    if out.is_empty() { Standing::Wanted } else { Standing::Without(out) }
}

/// The registry in which the nodes `healthy` are pending no more; with none left the forest is active.
#[must_use]
pub fn settle(
    registry: &Registry,
    forest: &ForestId,
    healthy: &[NodeId],
    now: Timestamp,
) -> Option<Registry> {
    let mut plan = live(registry, forest).ok()?;
    plan.pending.retain(|pending| !healthy.contains(&pending.id));
    if plan.pending.is_empty() {
        plan.status = Status::Active;
    }
    edit_forest(registry, forest, now, |record| plan.write(record))
}

/// The registry in which the forest's nodes run these programs, and `node` is being given them; `None`: all have them.
#[must_use]
pub fn equip(
    registry: &Registry,
    forest: &ForestId,
    programs: &Programs,
    node: Option<&NodeId>,
    now: Timestamp,
) -> Option<Registry> {
    let before = live(registry, forest).ok()?;
    let mut older = if node.is_some() { before.files() } else { Vec::new() };
    older.retain(|file| programs.all().all(|newer| newer.file != file.file));
    let plan = Plan { programs: Some(programs.clone()), upgrading: node.cloned(), older, ..before };
    edit_forest(registry, forest, now, |record| {
        // Written only where there are some.
        for key in ["upgrading", "older"] {
            record.shift_remove(key);
        }
        plan.write(record);
    })
}

/// The registry in which `node` is no member any more; `None` where it was none.
#[must_use]
pub fn shrink(registry: &Registry, forest: &ForestId, node: &NodeId, now: Timestamp) -> Option<Registry> {
    let mut plan = live(registry, forest).ok()?;
    plan.members.retain(|member| member != node);
    plan.pending.retain(|pending| pending.id != *node);
    if plan.pending.is_empty() {
        plan.status = Status::Active;
    }
    edit_forest(registry, forest, now, |record| plan.write(record))
}

/// The registry in which `nodes` are worked on once more, as if they were new: their machines are gone.
///
/// # Errors
/// [`Failure`] where the forest is gone or half torn down.
pub fn renew(
    registry: &Registry,
    forest: &ForestId,
    nodes: &[NodeId],
    worker: &Worker,
) -> Result<Change, Failure> {
    let mut plan = live(registry, forest)?;
    let lost: Vec<NodeId> = plan.members.iter().filter(|node| nodes.contains(node)).cloned().collect();
    plan.pending.retain(|pending| !lost.contains(&pending.id));
    plan.pending.extend(lost.iter().map(|node| worker.takes(node.clone())));
    Ok((edit_forest(registry, forest, worker.now, |record| plan.write(record)), plan, lost))
}

/// The registry without the entries of `nodes`, none of which registers again.
#[must_use]
pub fn drop_entries(
    registry: &Registry,
    forest: &ForestId,
    nodes: &[NodeId],
    now: Timestamp,
) -> Option<Registry> {
    let buried =
        fold(registry, None, nodes.iter().cloned(), |registry, node| tombstone(registry, forest, node, now));
    fold(registry, buried, nodes.iter().cloned(), |registry, node| remove_entry(registry, forest, node, now))
}

/// Those of `files` that no forest of the registry runs.
#[must_use]
pub fn unused(registry: &Registry, files: &[Shelved]) -> Vec<Shelved> {
    let forests = registry.forest_names().into_iter().filter_map(|name| name.parse::<ForestId>().ok());
    let plans: Vec<Plan> = forests.filter_map(|forest| Plan::find(registry, &forest)).collect();
    let used: Vec<Shelved> = plans.iter().flat_map(Plan::files).collect();
    files.iter().filter(|file| !used.iter().any(|used| used.file == file.file)).cloned().collect()
}

/// How many nodes all forests in the cloud have: each holds a connection to the share.
#[must_use]
pub fn connections(registry: &Registry) -> usize {
    let forests = registry.forest_names().into_iter().filter_map(|name| name.parse::<ForestId>().ok());
    forests.filter_map(|forest| Plan::find(registry, &forest)).map(|plan| plan.members.len()).sum()
}

/// The registry in which the forest is being torn down: no node of it registers any more.
#[must_use]
pub fn bury(registry: &Registry, forest: &ForestId, now: Timestamp) -> Option<Registry> {
    let mut plan = Plan::find(registry, forest)?;
    plan.status = Status::Removing;
    let entries = registry.entries(forest).into_iter().filter_map(|entry| entry.id.parse().ok());
    let buried: BTreeSet<NodeId> = plan.members.iter().cloned().chain(entries).collect();
    let removing = edit_forest(registry, forest, now, |record| plan.write(record));
    fold(registry, removing, buried, |registry, node| tombstone(registry, forest, node, now))
}

/// The registry without the entries of the forest; its record stays.
#[must_use]
pub fn clear(registry: &Registry, forest: &ForestId, now: Timestamp) -> Option<Registry> {
    let entries: Vec<NodeId> =
        registry.entries(forest).into_iter().filter_map(|entry| entry.id.parse().ok()).collect();
    fold(registry, None, entries, |registry, node| remove_entry(registry, forest, node, now))
}

/// One change after the other, each of which may change nothing.
fn fold(
    registry: &Registry,
    begun: Option<Registry>,
    nodes: impl IntoIterator<Item = NodeId>,
    change: impl Fn(&Registry, &NodeId) -> Option<Registry>,
) -> Option<Registry> {
    nodes.into_iter().fold(begun, |changed, node| {
        let next = change(changed.as_ref().unwrap_or(registry), &node);
        next.or(changed)
    })
}

fn taken(forest: &ForestId, found: Option<&Plan>) -> Failure {
    let how = match found {
        Some(plan) if plan.status == Status::Planting => format!(
            "is being planted with {} nodes: run that again to finish it, or tear it down",
            plan.members.len()
        ),
        Some(plan) if plan.status == Status::Removing => {
            format!("is half torn down: finish that with `morpheus teardown {forest}`")
        }
        _ => "is there already: choose another --name, or leave it out".to_owned(),
    };
    Failure::new(Reason::NameTaken, format!("forest {forest} {how}"))
}

#[cfg(test)]
mod tests;
