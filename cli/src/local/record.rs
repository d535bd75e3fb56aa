//! What is wanted of a local forest, as its record in the registry says, and the pure changes to it.
//!
//! ```text
//!   (none) ──plant──► planting ──settle──► active ──grow──► active, some pending ──settle──► active
//!                         └──────────────────┴── bury ──► removing ──remove──► (none)
//! ```
//!
//! Members are added before they are started and are pending until they were seen healthy once, so that a plant
//! or grow that was cut short is taken up again and nothing is doubled.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use forest_core::registry::{Registry, bury as tombstone, edit_forest};
use forest_core::time::rfc3339;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::network::Network;
use crate::args::node_name;
use crate::config::{Download, EngineKind};
use crate::failure::Failure;

/// Why there is one NimsForest a machine.
pub const ONE_NIMSFOREST: &str = "NimsForest runs as one local node only, for its monitoring port 8222 is the \
                                  machine's: plant `small`, or take nats-server with --engine-binary";

/// The provider of local forests.
pub const PROVIDER: &str = "local";

/// A forest of the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// Its name.
    pub id: ForestId,
    /// Its record, as it stands.
    pub record: Map<String, Value>,
    /// What is wanted of it.
    pub plan: Plan,
}

/// What is wanted of a local forest: the part of its record that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How far it is.
    pub status: Status,
    /// The number of the next node; never lowered.
    pub next_node: u64,
    /// Its addresses.
    pub network: Network,
    /// Its nodes.
    pub members: Vec<Member>,
    /// Those that were not yet seen healthy.
    #[serde(default)]
    pub pending: Vec<NodeId>,
    /// When a node was last added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown_at: Option<Timestamp>,
    /// What its nodes run.
    pub programs: Programs,
    /// The node whose upgrade was begun and not seen to end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrading: Option<NodeId>,
}

/// How far a forest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not yet seen healthy.
    Planting,
    /// Planted.
    Active,
    /// Being torn down.
    Removing,
}

/// A node of a forest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its address.
    pub ip: Ipv4Addr,
}

/// What the nodes of a forest run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// forest-agent.
    pub agent: PathBuf,
    /// The kind of the engine.
    pub engine: EngineKind,
    /// The engine's executable; `None`: each node fetches its own.
    pub binary: Option<PathBuf>,
    /// Where that is fetched from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<Download>,
}

/// What a new forest is to be.
#[derive(Debug, Clone)]
pub struct Request {
    /// How many nodes, at least 1.
    pub count: u8,
    /// What they run.
    pub programs: Programs,
    /// Networks that others listen in.
    pub busy: BTreeSet<Network>,
    /// Where the search for a network begins.
    pub seed: u64,
    /// The time of the change.
    pub now: Timestamp,
}

impl Forest {
    /// The local forest `id`, if the registry has one.
    #[must_use]
    pub fn find(registry: &Registry, id: &ForestId) -> Option<Self> {
        let record = registry.forest(id)?.clone();
        let plan = Plan::deserialize(Value::Object(record.clone())).ok()?;
        Some(Self { id: id.clone(), record, plan })
    }

    /// A text of the record.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.record.get(key).and_then(Value::as_str)
    }
}

impl Plan {
    /// Adds `count` pending members.
    fn add(&mut self, forest: &ForestId, count: u8) -> Result<(), Failure> {
        for _ in 0..count {
            let n = self.next_node;
            let (Some(id), Some(ip)) = (node_name(forest, n), self.network.address(n)) else {
                let message = format!(
                    "forest {forest} has had as many nodes as its network {} has addresses: plant another",
                    self.network
                );
                return Err(Failure::new(Reason::NotSupported, message));
            };
            self.members.push(Member { id: id.clone(), ip });
            self.pending.push(id);
            self.next_node += 1;
        }
        Ok(())
    }

    fn write(&self, record: &mut Map<String, Value>) {
        if let Ok(Value::Object(own)) = serde_json::to_value(self) {
            record.extend(own);
        }
    }
}

/// The registry with a new forest, or with the same one whose planting was cut short; and its plan.
///
/// # Errors
/// [`Failure`] where the name is taken.
pub fn plant(
    registry: &Registry,
    forest: &ForestId,
    request: &Request,
) -> Result<(Option<Registry>, Plan), Failure> {
    let plan = match registry.forest(forest) {
        None => fresh(registry, forest, request)?,
        Some(_) => match Forest::find(registry, forest).map(|found| found.plan) {
            Some(plan)
                if plan.status == Status::Planting && plan.members.len() == usize::from(request.count) =>
            {
                Plan { programs: request.programs.clone(), ..plan }
            }
            found => return Err(taken(forest, found.as_ref())),
        },
    };
    let size = size(request.count);
    let next = edit_forest(registry, forest, request.now, |record| {
        for (key, text) in [("provider", PROVIDER), ("location", "localhost"), ("size", size)] {
            record.insert(key.to_owned(), text.into());
        }
        record.entry("created_at").or_insert_with(|| rfc3339(request.now).into());
        plan.write(record);
    });
    Ok((next, plan))
}

fn fresh(registry: &Registry, forest: &ForestId, request: &Request) -> Result<Plan, Failure> {
    let taken: BTreeSet<Network> = networks(registry).chain(request.busy.iter().copied()).collect();
    let network = Network::choose(request.seed, &taken).ok_or_else(|| {
        Failure::new(Reason::NotSupported, "every network of the loopback is taken: tear a forest down")
    })?;
    let mut plan = Plan {
        status: Status::Planting,
        next_node: 1,
        network,
        members: Vec::new(),
        pending: Vec::new(),
        grown_at: None,
        programs: request.programs.clone(),
        upgrading: None,
    };
    plan.add(forest, request.count)?;
    Ok(plan)
}

/// The networks of all forests.
fn networks(registry: &Registry) -> impl Iterator<Item = Network> {
    let ids = registry.forest_names().into_iter().filter_map(|name| name.parse().ok());
    let plans = ids.filter_map(|id| Forest::find(registry, &id));
    plans.map(|found| found.plan.network).collect::<Vec<_>>().into_iter()
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

/// The word for a number of nodes.
#[must_use]
pub fn size(count: u8) -> &'static str {
    match count {
        1 => "small",
        3 => "medium",
        5 => "large",
        _ => "custom",
    }
}

/// The registry with `count` more nodes; those that an earlier growth left pending are among them.
///
/// # Errors
/// [`Failure`] where the forest is gone, half torn down, or full.
pub fn grow(
    registry: &Registry,
    forest: &ForestId,
    count: u8,
    now: Timestamp,
) -> Result<(Option<Registry>, Plan), Failure> {
    let mut plan = live(registry, forest)?;
    if count > 0 && plan.programs.engine == EngineKind::Nimsforest {
        return Err(Failure::new(Reason::NotSupported, ONE_NIMSFOREST));
    }
    let pending = u8::try_from(plan.pending.len()).unwrap_or(u8::MAX);
    let more = count.saturating_sub(pending);
    plan.add(forest, more)?;
    if more > 0 {
        plan.grown_at = Some(now);
    }
    Ok((edit_forest(registry, forest, now, |record| plan.write(record)), plan))
}

/// The plan of a forest that is not being torn down.
///
/// # Errors
/// [`Failure`] where the forest is gone or half torn down.
pub fn live(registry: &Registry, forest: &ForestId) -> Result<Plan, Failure> {
    let plan = Forest::find(registry, forest).map(|found| found.plan);
    match plan {
        Some(plan) if plan.status != Status::Removing => Ok(plan),
        Some(plan) => Err(taken(forest, Some(&plan))),
        None => Err(Failure::new(Reason::ForestUnknown, format!("forest {forest} is gone"))),
    }
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
    plan.pending.retain(|id| !healthy.contains(id));
    if plan.pending.is_empty() {
        plan.status = Status::Active;
    }
    edit_forest(registry, forest, now, |record| plan.write(record))
}

/// The registry in which the forest's nodes run these programs, and `node` is being given them; `None` once all have
/// them.
#[must_use]
pub fn equip(
    registry: &Registry,
    forest: &ForestId,
    programs: &Programs,
    node: Option<&NodeId>,
    now: Timestamp,
) -> Option<Registry> {
    let before = live(registry, forest).ok()?;
    let plan = Plan { programs: programs.clone(), upgrading: node.cloned(), ..before };
    edit_forest(registry, forest, now, |record| {
        if node.is_none() {
            // Written only where there is one.
            record.shift_remove("upgrading");
        }
        plan.write(record);
    })
}

/// The registry in which `node` is no member any more; `None` where it was none.
#[must_use]
pub fn shrink(registry: &Registry, forest: &ForestId, node: &NodeId, now: Timestamp) -> Option<Registry> {
    let mut plan = live(registry, forest).ok()?;
    plan.members.retain(|member| member.id != *node);
    plan.pending.retain(|id| id != node);
    let left_alone = plan.upgrading.take_if(|id| id == node);
    edit_forest(registry, forest, now, |record| {
        if left_alone.is_some() {
            record.shift_remove("upgrading");
        }
        plan.write(record);
    })
}

/// The registry in which the forest is being torn down: no node of it registers any more.
#[must_use]
pub fn bury(registry: &Registry, forest: &ForestId, now: Timestamp) -> Option<Registry> {
    let mut plan = Forest::find(registry, forest)?.plan;
    let members = plan.members.iter().map(|member| member.id.clone());
    let entries = registry.entries(forest).into_iter().filter_map(|entry| entry.id.parse().ok());
    let buried: BTreeSet<NodeId> = members.chain(entries).collect();
    plan.status = Status::Removing;
    let removing = edit_forest(registry, forest, now, |record| plan.write(record));
    let begun = removing.is_some();
    let start = removing.unwrap_or_else(|| registry.clone());
    let next = buried.iter().fold((start, begun), |(registry, changed), node| {
        match tombstone(&registry, forest, node, now) {
            Some(next) => (next, true),
            None => (registry, changed),
        }
    });
    next.1.then_some(next.0)
}

#[cfg(test)]
mod tests;
