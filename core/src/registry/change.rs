//! The pure changes to a registry: what one does and says, and the two smallest, taking an entry out and burying
//! a node.

use jiff::Timestamp;
use serde_json::Value;

use super::model::{Registry, object_in};
use crate::id::{ForestId, NodeId};
use crate::time::rfc3339;

/// What a claim does to the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The entry is new.
    Add,
    /// The node's entry is changed.
    Update,
    /// Entries with these ids make way.
    Replace(Vec<String>),
    /// The entry stands as it should.
    None,
}

impl Action {
    /// The word for `register --json`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Update => "update",
            Self::Replace(_) => "replace",
            Self::None => "none",
        }
    }
}

/// A claim, worked out.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The registry afterwards; `None` where nothing changes.
    pub registry: Option<Registry>,
    /// What is done.
    pub action: Action,
    /// The node's entry as it stands afterwards.
    pub entry: Value,
}

/// The claim's outcome; the time is noted only together with something else.
pub(super) fn finish(
    before: &Registry,
    mut after: Registry,
    now: Timestamp,
    action: Action,
    entry: Value,
) -> Change {
    if after == *before {
        return Change { registry: None, action: Action::None, entry };
    }
    after.touch(now);
    Change { registry: Some(after), action, entry }
}

/// The registry without the node's entry; `None` where there is none.
#[must_use]
pub fn remove_entry(
    registry: &Registry,
    forest: &ForestId,
    node: &NodeId,
    now: Timestamp,
) -> Option<Registry> {
    if !registry.entries(forest).iter().any(|entry| entry.id == node.as_str()) {
        return None;
    }
    let mut next = registry.clone();
    next.nodes_mut(forest).retain(|entry| entry.get("id").and_then(Value::as_str) != Some(node.as_str()));
    next.touch(now);
    Some(next)
}

/// The registry with a tombstone for the node; `None` where one stands already, whose time is kept.
#[must_use]
pub fn bury(registry: &Registry, forest: &ForestId, node: &NodeId, now: Timestamp) -> Option<Registry> {
    if registry.tombstone(forest, node).is_some() {
        return None;
    }
    let mut next = registry.clone();
    object_in(next.forest_mut(forest), "removed").insert(node.as_str().to_owned(), rfc3339(now).into());
    next.touch(now);
    Some(next)
}

/// The registry without the node: a tombstone for it, and no entry. `None` where it stands so.
#[must_use]
pub fn take_out(registry: &Registry, forest: &ForestId, node: &NodeId, now: Timestamp) -> Option<Registry> {
    let buried = bury(registry, forest, node, now);
    let gone = remove_entry(buried.as_ref().unwrap_or(registry), forest, node, now);
    gone.or(buried)
}
