//! The pure change by which a node puts its own entry as it should be.
//!
//! An agent owns its own entry and nothing else. It takes another's place only where that one is certainly not
//! a live node of another instance; what it cannot know without asking the network it hands back as
//! [`ClaimError::NeedsProbe`], so that the asking is done outside the lease.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::change::{Action, Change, finish};
use super::model::{CLUSTER_PORT, Entry, HEALTH_PORT, MONITOR_PORT, Registry, object_in};
use crate::address::Address;
use crate::id::{ForestId, NodeId};
use crate::reason::Reason;
use crate::time::rfc3339;

/// What a node wants its entry to say, and what it knows of others.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The node's forest.
    pub forest: ForestId,
    /// The node.
    pub node: NodeId,
    /// Its address.
    pub address: Address,
    /// Its installation: a digest of machine-id and state_dir.
    pub instance: String,
    /// Its ports; those that are not the default ones go into the entry.
    pub ports: Ports,
    /// The time of the change.
    pub now: Timestamp,
    /// Which other entries were asked whether they live.
    pub probes: Probes,
}

/// The ports of a node that others use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// NATS routes.
    pub cluster: u16,
    /// NATS monitoring.
    pub monitor: u16,
    /// The agent's HTTP.
    pub health: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { cluster: CLUSTER_PORT, monitor: MONITOR_PORT, health: HEALTH_PORT }
    }
}

/// Answers of entries that were asked at their address whether they live. An answer holds for the entry as it
/// was asked: the same id, address and instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes(BTreeMap<(String, String, Option<String>), bool>);

impl Probes {
    /// Notes whether `entry` answered.
    pub fn note(&mut self, entry: &Entry, answered: bool) {
        self.0.insert(Self::key(entry), answered);
    }

    /// Whether `entry` answered; `None`: it was not asked.
    #[must_use]
    pub fn answered(&self, entry: &Entry) -> Option<bool> {
        self.0.get(&Self::key(entry)).copied()
    }

    fn key(entry: &Entry) -> (String, String, Option<String>) {
        (entry.id.clone(), entry.ip.clone(), entry.instance().map(str::to_owned))
    }
}

/// Why an entry cannot be claimed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The node was taken out on purpose.
    #[error("node {node} was removed from forest {forest} on purpose, {since}")]
    Removed {
        /// The forest.
        forest: ForestId,
        /// The node.
        node: NodeId,
        /// RFC 3339.
        since: String,
    },
    /// A live node of another instance has the same id.
    #[error("another node answers under the id {id}: {other}", id = .0.id, other = Named(.0))]
    IdConflict(Box<Entry>),
    /// A live node of another instance has the same address.
    #[error("another node answers at the address {ip}: {other}", ip = .0.ip, other = Named(.0))]
    AddressConflict(Box<Entry>),
    /// These entries stand in the way; ask whether they live, then try again.
    #[error("{} other entries stand in the way and were not asked yet whether they live", .0.len())]
    NeedsProbe(Vec<Entry>),
}

impl ClaimError {
    /// The stable code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Removed { .. } => Reason::Removed,
            Self::IdConflict(_) => Reason::IdConflict,
            Self::AddressConflict(_) => Reason::AddressConflict,
            Self::NeedsProbe(_) => Reason::EntryDiffers,
        }
    }
}

struct Named<'a>(&'a Entry);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Entry { id, ip, .. } = self.0;
        write!(f, "{id} at {ip}, instance {}", self.0.instance().unwrap_or("unknown"))
    }
}

/// Puts the node's entry as it should be.
///
/// # Errors
/// [`ClaimError`] where the entry is not the node's to have, or where that must be asked first.
pub fn claim(registry: &Registry, claim: &Claim) -> Result<Change, ClaimError> {
    if let Some(since) = registry.tombstone(&claim.forest, &claim.node) {
        let (forest, node) = (claim.forest.clone(), claim.node.clone());
        return Err(ClaimError::Removed { forest, node, since });
    }
    let entries = registry.entries(&claim.forest);
    check_conflicts(&entries, claim)?;

    let mut next = registry.clone();
    let list = next.nodes_mut(&claim.forest);
    let mine = entries.iter().position(|entry| entry.id == claim.node.as_str());
    let entry = updated(mine.and_then(|at| list[at].as_object()), claim);
    match mine {
        Some(at) => list[at] = entry.clone(),
        None => list.push(entry.clone()),
    }
    // The indices of `entries` are those of `list`, which has at most one more at its end.
    let at = mine.unwrap_or(entries.len());
    let leaves =
        |index: usize| index != at && entries.get(index).is_some_and(|entry| stands_in_way(entry, claim));
    let gone =
        (0..entries.len()).filter(|index| leaves(*index)).map(|index| entries[index].id.clone()).collect();
    let mut index = 0..;
    list.retain(|_| !index.next().is_some_and(leaves));
    Ok(finish(registry, next, claim.now, action(mine.is_some(), gone), entry))
}

fn action(known: bool, gone: Vec<String>) -> Action {
    match (known, gone.is_empty()) {
        (_, false) => Action::Replace(gone),
        (true, true) => Action::Update,
        (false, true) => Action::Add,
    }
}

/// An entry that cannot stay beside the claimed one: the same id, or the same address.
fn stands_in_way(entry: &Entry, claim: &Claim) -> bool {
    entry.id == claim.node.as_str() || entry.ip.parse() == Ok(claim.address)
}

/// Entries without an instance were written by earlier tools, and those with ours by ourselves: they make way,
/// or are adopted. Any other must have been asked.
fn check_conflicts(entries: &[Entry], claim: &Claim) -> Result<(), ClaimError> {
    let foreign = entries.iter().filter(|entry| {
        stands_in_way(entry, claim) && entry.instance().is_some_and(|instance| instance != claim.instance)
    });
    let mut unasked = Vec::new();
    for entry in foreign {
        match claim.probes.answered(entry) {
            Some(true) if entry.id == claim.node.as_str() => {
                return Err(ClaimError::IdConflict(Box::new(entry.clone())));
            }
            Some(true) => return Err(ClaimError::AddressConflict(Box::new(entry.clone()))),
            Some(false) => {}
            None => unasked.push(entry.clone()),
        }
    }
    if unasked.is_empty() { Ok(()) } else { Err(ClaimError::NeedsProbe(unasked)) }
}

/// The node's entry: what it owns is set, all else is kept as found.
fn updated(found: Option<&Map<String, Value>>, claim: &Claim) -> Value {
    let mut entry = found.cloned().unwrap_or_default();
    let ip = claim.address.to_string();
    let (family, other) = if claim.address.ip().is_ipv6() { ("ipv6", "ipv4") } else { ("ipv4", "ipv6") };
    // The address of the other family is kept where others wrote it, not where it was the node's `ip` of before.
    if entry.get(other).is_some_and(|value| Some(value) == entry.get("ip")) {
        entry.shift_remove(other);
    }
    for (key, value) in [
        ("id", claim.node.as_str()),
        ("ip", &ip),
        ("forest_id", claim.forest.as_str()),
        (family, &ip),
        ("status", "active"),
    ] {
        entry.insert(key.to_owned(), value.into());
    }
    if entry.get("created_at").is_none_or(Value::is_null) {
        entry.insert("created_at".to_owned(), rfc3339(claim.now).into());
    }
    let metadata = object_in(&mut entry, "metadata");
    metadata.insert("instance".to_owned(), claim.instance.as_str().into());
    let Ports { cluster, monitor, health } = claim.ports;
    for (key, port, default) in [
        ("cluster_port", cluster, CLUSTER_PORT),
        ("monitor_port", monitor, MONITOR_PORT),
        ("health_port", health, HEALTH_PORT),
    ] {
        if port == default {
            metadata.shift_remove(key);
        } else {
            metadata.insert(key.to_owned(), port.to_string().into());
        }
    }
    Value::Object(entry)
}
