//! registry.json as a value. It stays the JSON it was: keys of others, their order and the digits of numbers
//! survive; typed views are taken from it where somebody asks. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::document::{Corrupt, Document};
use crate::id::{ForestId, NodeId};
use crate::node_info::kind;
use crate::time::rfc3339;

/// The port of NATS routes, where an entry names no other.
pub const CLUSTER_PORT: u16 = 6222;
/// The port of NATS monitoring, where an entry names no other.
pub const MONITOR_PORT: u16 = 8222;
/// The agent's port, where an entry names no other.
pub const HEALTH_PORT: u16 = 8223;

/// The whole registry, of a shape that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Registry(Map<String, Value>);

/// One node as its forest's list has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// The node's id.
    pub id: String,
    /// The node's address as written; may be anything, also empty.
    pub ip: String,
    /// The forest it says it belongs to; where it says nothing, the forest whose list it stands in.
    pub forest_id: String,
    /// `active`, or what others wrote.
    pub status: Option<String>,
    /// RFC 3339.
    pub created_at: Option<String>,
    /// Ports and instance, and what others wrote.
    pub metadata: BTreeMap<String, String>,
}

impl Entry {
    /// The port of its NATS routes.
    #[must_use]
    pub fn cluster_port(&self) -> u16 {
        self.port("cluster_port", CLUSTER_PORT)
    }

    /// The port of its NATS monitoring.
    #[must_use]
    pub fn monitor_port(&self) -> u16 {
        self.port("monitor_port", MONITOR_PORT)
    }

    /// The port of its agent.
    #[must_use]
    pub fn health_port(&self) -> u16 {
        self.port("health_port", HEALTH_PORT)
    }

    /// Which installation wrote it: a digest of machine-id and state_dir. Earlier tools wrote none.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.metadata.get("instance").map(String::as_str)
    }

    fn port(&self, key: &str, default: u16) -> u16 {
        self.metadata.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    fn of(forest: &str, value: &Value) -> Self {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let metadata = value.get("metadata").and_then(Value::as_object);
        Self {
            id: text("id").unwrap_or_default(),
            ip: text("ip").unwrap_or_default(),
            forest_id: text("forest_id").unwrap_or_else(|| forest.to_owned()),
            status: text("status"),
            created_at: text("created_at"),
            metadata: metadata
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
        }
    }
}

impl Registry {
    /// The nodes of a forest, in the file's order; empty for an unknown forest.
    #[must_use]
    pub fn entries(&self, forest: &ForestId) -> Vec<Entry> {
        let list = self.0.get("nodes").and_then(|nodes| nodes.get(forest.as_str()));
        let list = list.and_then(Value::as_array);
        list.into_iter().flatten().map(|value| Entry::of(forest.as_str(), value)).collect()
    }

    /// The ids of all nodes of all forests, those taken out on purpose too.
    #[must_use]
    pub fn every_node(&self) -> BTreeSet<String> {
        let object = |key| self.0.get(key).and_then(Value::as_object).into_iter().flatten();
        let lists = object("nodes").filter_map(|(_, list)| list.as_array()).flatten();
        let there = lists.filter_map(|entry| Some(entry.get("id")?.as_str()?.to_owned()));
        let removed = object("forests").filter_map(|(_, forest)| forest.get("removed")?.as_object());
        there.chain(removed.flat_map(|removed| removed.keys().cloned())).collect()
    }

    /// The record that the laptop made of a forest; `None`: this registry does not know it.
    #[must_use]
    pub fn forest(&self, forest: &ForestId) -> Option<&Map<String, Value>> {
        self.0.get("forests")?.get(forest.as_str())?.as_object()
    }

    /// When a node was taken out on purpose, as written (RFC 3339); `None`: it was not.
    #[must_use]
    pub fn tombstone(&self, forest: &ForestId, node: &NodeId) -> Option<String> {
        match self.forest(forest)?.get("removed")?.get(node.as_str())? {
            Value::Null => None,
            Value::String(since) => Some(since.clone()),
            other => Some(other.to_string()),
        }
    }

    /// The list of a forest, made if need be.
    pub(super) fn nodes_mut(&mut self, forest: &ForestId) -> &mut Vec<Value> {
        let list = object_in(&mut self.0, "nodes").entry(forest.as_str()).or_insert(Value::Null);
        if !list.is_array() {
            *list = Value::Array(Vec::new());
        }
        list.as_array_mut().expect("a list since the line above")
    }

    /// The record of a forest, made if need be.
    pub(super) fn forest_mut(&mut self, forest: &ForestId) -> &mut Map<String, Value> {
        let forests = object_in(&mut self.0, "forests");
        let known = forests.contains_key(forest.as_str());
        let record = object_in(forests, forest.as_str());
        if !known {
            record.insert("id".to_owned(), forest.as_str().into());
        }
        record
    }

    /// The whole file.
    pub(super) fn root(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The whole file.
    pub(super) fn root_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.0
    }

    /// Notes the time of a change.
    pub(super) fn touch(&mut self, now: Timestamp) {
        self.0.insert("updated_at".to_owned(), rfc3339(now).into());
    }
}

impl Document for Registry {
    fn parse(bytes: &[u8]) -> Result<Self, Corrupt> {
        let value = serde_json::from_slice(bytes).map_err(|err| Corrupt(format!("not JSON: {err}")))?;
        let Value::Object(root) = value else {
            return Err(wrong("the file", "an object", &value));
        };
        check(&root)?;
        Ok(Self(root))
    }

    fn render(&self) -> String {
        format!("{:#}\n", Value::Object(self.0.clone()))
    }

    fn empty() -> Self {
        let Value::Object(root) = json!({"version": 1, "updated_at": null, "forests": {}, "nodes": {}})
        else {
            unreachable!("the literal is an object")
        };
        Self(root)
    }
}

/// The object at `key`, put there where nothing or null stands.
pub(super) fn object_in<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let slot = map.entry(key).or_insert(Value::Null);
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("an object since the line above")
}

fn wrong(place: &str, due: &str, found: &Value) -> Corrupt {
    Corrupt(format!("{place} holds {} where {due} is due", kind(found)))
}

fn check(root: &Map<String, Value>) -> Result<(), Corrupt> {
    for (id, record) in objects(root, "forests", "forests")? {
        let place = format!("forests.{id}");
        let record = record.as_object().ok_or_else(|| wrong(&place, "an object", record))?;
        drop(objects(record, "removed", &format!("{place}.removed"))?);
    }
    for (forest, list) in objects(root, "nodes", "nodes")? {
        let place = format!("nodes.{forest}");
        match list {
            Value::Null => {}
            Value::Array(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    check_entry(&format!("{place}[{index}]"), entry)?;
                }
            }
            other => return Err(wrong(&place, "a list", other)),
        }
    }
    Ok(())
}

fn check_entry(place: &str, entry: &Value) -> Result<(), Corrupt> {
    let entry = entry.as_object().ok_or_else(|| wrong(place, "an object", entry))?;
    match entry.get("id") {
        Some(Value::String(_)) => {}
        Some(other) => return Err(wrong(&format!("{place}.id"), "a string", other)),
        None => return Err(Corrupt(format!("{place} has no id"))),
    }
    for key in ["ip", "forest_id", "ipv6", "ipv4", "status", "created_at"] {
        check_text(&format!("{place}.{key}"), entry.get(key))?;
    }
    let metadata = format!("{place}.metadata");
    for (key, value) in objects(entry, "metadata", &metadata)? {
        check_text(&format!("{metadata}.{key}"), Some(value))?;
    }
    Ok(())
}

fn check_text(place: &str, value: Option<&Value>) -> Result<(), Corrupt> {
    match value {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(other) => Err(wrong(place, "a string", other)),
    }
}

/// The pairs of the object at `key`; none where it is missing or null.
fn objects<'a>(
    map: &'a Map<String, Value>,
    key: &str,
    place: &str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)>, Corrupt> {
    let pairs = match map.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::Object(pairs)) => Some(pairs),
        Some(other) => return Err(wrong(place, "an object", other)),
    };
    Ok(pairs.into_iter().flatten())
}

#[cfg(test)]
mod tests;
