//! What a stream needs before a node may go, from what its leader tells of it. Pure.
//!
//! A copy is never taken away before there is another that is current. With more replicas than nodes that stay, the
//! one here is given up and then their number lowered: 2.9 gives it up although it refuses to, and so the right one
//! goes; 2.15 refuses, so that the number is lowered first, and then it is given up if it is still here. A lone copy is moved by a placement that names another node, which is taken off again afterwards;
//! one of several is given up by its peer's removal, which chooses a free node where there is one.

use serde_json::Value;

/// A stream as its leader tells of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Its whole configuration, for an update of it.
    pub config: Value,
    /// Replicas wanted.
    pub replicas: usize,
    /// Who leads it.
    pub leader: Option<String>,
    /// The other replicas, and whether each is current.
    pub others: Vec<(String, bool)>,
    /// Is a change of it under way?
    pub settling: bool,
    /// Number of its last message, which never goes back.
    pub last_seq: u64,
}

impl Stream {
    /// From an item of `$JS.API.STREAM.LIST`.
    #[must_use]
    pub fn of(item: &Value) -> Option<Self> {
        let config = item.get("config")?;
        let cluster = item.get("cluster");
        let text = |value: Option<&Value>| {
            value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let others = cluster.and_then(|cluster| cluster.get("replicas")).and_then(Value::as_array);
        let leader = text(cluster.and_then(|cluster| cluster.get("leader")));
        let other = |replica: &Value| {
            let flag = |key: &str| replica.get(key).and_then(Value::as_bool).unwrap_or_default();
            Some((text(replica.get("name"))?, flag("current") && !flag("offline")))
        };
        let others = others.into_iter().flatten().filter_map(other);
        Some(Self {
            name: text(config.get("name"))?,
            replicas: config
                .get("num_replicas")
                .and_then(Value::as_u64)
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(1),
            others: others.filter(|(name, _)| leader.as_ref() != Some(name)).collect(),
            leader,
            settling: cluster
                .and_then(|cluster| cluster.get("desired"))
                .is_some_and(|desired| !desired.is_null()),
            last_seq: item
                .get("state")
                .and_then(|state| state.get("last_seq"))
                .and_then(Value::as_u64)
                .unwrap_or_default(),
            config: config.clone(),
        })
    }

    /// Has `node` a replica?
    #[must_use]
    pub fn is_on(&self, node: &str) -> bool {
        self.leader.as_deref() == Some(node) || self.others.iter().any(|(other, _)| other == node)
    }

    /// The placement as configured; null where there is none.
    #[must_use]
    pub fn placement(&self) -> Value {
        self.config.get("placement").cloned().unwrap_or_default()
    }

    /// Its configuration with another value of `key`; null takes it out.
    #[must_use]
    pub fn with(&self, key: &str, value: Value) -> Value {
        let mut config = self.config.clone();
        if let Some(config) = config.as_object_mut() {
            if value.is_null() {
                config.remove(key);
            } else {
                config.insert(key.to_owned(), value);
            }
        }
        config
    }
}

/// What a stream needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Nothing: it is whole without the node.
    Settled,
    /// Time: a change is under way, or a replica catches up.
    Wait,
    /// Another replica leads it.
    StepDown,
    /// So many replicas, for no more nodes stay.
    Lower(usize),
    /// Its replica here goes, to a free node where there is one.
    GiveUp,
    /// Its only copy moves to this node.
    Pin(String),
    /// It is pinned no more.
    Unpin,
}

/// The situation that all streams share.
#[derive(Debug, Clone, Copy)]
pub struct Stay<'a> {
    /// The node that goes.
    pub goes: &'a str,
    /// How many stay.
    pub count: usize,
    /// Those of them that are current in the meta group.
    pub current: &'a [String],
    /// Was this stream pinned by us?
    pub pinned: bool,
    /// Was the last thing refused that was asked for it?
    pub refused: bool,
    /// A number that differs from stream to stream and from try to try: spreads them.
    pub turn: usize,
}

/// Says what `stream` needs.
#[must_use]
pub fn order(stream: &Stream, stay: Stay<'_>) -> Order {
    let Some(leader) = stream.leader.as_deref() else {
        return Order::Wait;
    };
    let leads = leader == stay.goes;
    let elsewhere = |(name, current): &(String, bool)| name != stay.goes && *current;
    if stream.replicas > stay.count && stay.count > 0 {
        return match leads {
            // Replicas of a change under way may be called current before they have caught up.
            _ if stream.settling => Order::Wait,
            true if stream.others.iter().any(elsewhere) => Order::StepDown,
            // Who leads is kept: lowered now it would be the one that goes.
            true if !stream.others.is_empty() => Order::Wait,
            // Lowered with several left, the server chooses who goes.
            _ if stay.count > 1 && stream.is_on(stay.goes) && !stay.refused => Order::GiveUp,
            _ => Order::Lower(stay.count),
        };
    }
    if !stream.is_on(stay.goes) {
        // A replica on a node that is dead is not waited for.
        let behind = |(name, current): &(String, bool)| !current && stay.current.contains(name);
        return match stay.pinned {
            _ if stream.settling || stream.others.iter().any(behind) => Order::Wait,
            true => Order::Unpin,
            false => Order::Settled,
        };
    }
    if stream.replicas <= 1 {
        // While it moves, both ends are its replicas.
        if stream.settling || !stream.others.is_empty() || stay.current.is_empty() {
            return Order::Wait;
        }
        return Order::Pin(stay.current[stay.turn % stay.current.len()].clone());
    }
    if stream.settling || (leads && !stream.others.iter().any(elsewhere)) {
        return Order::Wait;
    }
    let all_current =
        stream.others.iter().all(|other| other.1 || other.0 == stay.goes || !stay.current.contains(&other.0));
    match leads {
        _ if !all_current => Order::Wait,
        true => Order::StepDown,
        false => Order::GiveUp,
    }
}

#[cfg(test)]
mod tests;
