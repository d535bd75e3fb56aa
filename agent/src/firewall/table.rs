//! The policy as a table of nftables, in the JSON of `nft -j`; and a table that stands, read back for comparing.
//!
//! Everything is a JSON value from the beginning: no text is ever spliced into a rule. The two sides are brought
//! into one form (no handles, lists in order, addresses in one spelling), so that what was written compares equal
//! to what nft lists.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::policy::{Gate, Policy, Who};

/// The table's family: both IPv4 and IPv6.
pub const FAMILY: &str = "inet";
/// Where clouds tell a machine its user-data, secrets among them.
const METADATA: (&str, u16) = ("169.254.169.254", 80);

/// A whole table, in the one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    name: String,
    objects: Vec<Value>,
}

impl Table {
    /// The table `name` that enforces `policy`.
    #[must_use]
    pub fn of(name: &str, policy: &Policy) -> Self {
        let mut objects = vec![set(name, "peers4", policy, false), set(name, "peers6", policy, true)];
        for hook in ["input", "output"] {
            objects.push(json!({"chain": {"family": FAMILY, "table": name, "name": hook, "type": "filter",
                "hook": hook, "prio": 0, "policy": "accept"}}));
        }
        let here = matches("==", &json!({"meta": {"key": "iifname"}}), &json!("lo"));
        objects.push(rule(name, "input", "this machine", vec![here], "accept"));
        for gate in &policy.gates {
            objects.extend(gate_rules(name, gate));
        }
        let (address, port) = METADATA;
        let strangers = vec![
            matches("==", &payload("ip", "daddr"), &json!(address)),
            matches("==", &payload("tcp", "dport"), &json!(port)),
            matches("!=", &json!({"meta": {"key": "skuid"}}), &json!(0)),
        ];
        objects.push(rule(name, "output", "metadata, for root only", strangers, "drop"));
        Self { name: name.to_owned(), objects: canonical(objects) }
    }

    /// The table `name` out of what `nft -j list` printed; `None`: it is not there.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn parse(name: &str, listing: &str) -> Result<Option<Self>, serde_json::Error> {
        let listing: Value = serde_json::from_str(listing)?;
        let mut found = false;
        let mut objects = Vec::new();
        for object in listing["nftables"].as_array().into_iter().flatten() {
            let Some((kind, inner)) = object.as_object().and_then(|object| object.iter().next()) else {
                continue;
            };
            found |= kind == "table" && inner["name"] == name && inner["family"] == FAMILY;
            if inner["table"] == name && inner["family"] == FAMILY {
                objects.push(object.clone());
            }
        }
        Ok(found.then(|| Self { name: name.to_owned(), objects: canonical(objects) }))
    }

    /// How many rules it has.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.objects.iter().filter(|object| object.get("rule").is_some()).count()
    }

    /// The addresses that it takes for the forest's other nodes.
    #[must_use]
    pub fn peers(&self) -> BTreeSet<&str> {
        let sets = self.objects.iter().filter_map(|object| object["set"]["elem"].as_array());
        sets.flatten().filter_map(Value::as_str).collect()
    }

    /// What it is made of, as nft lists it.
    #[must_use]
    pub fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// One transaction that puts it in the place of whatever has its name.
    #[must_use]
    pub fn transaction(&self) -> String {
        let objects = self.objects.iter().map(|object| json!({"add": object}));
        let commands: Vec<_> =
            replaced(&self.name).into_iter().chain([add_table(&self.name)]).chain(objects).collect();
        json!({"nftables": commands}).to_string()
    }
}

/// One transaction after which no table `name` is there, whether there was one or not.
#[must_use]
pub fn removal(name: &str) -> String {
    json!({"nftables": replaced(name)}).to_string()
}

/// Only a table that is there can be deleted: so it is made first.
fn replaced(name: &str) -> [Value; 2] {
    [add_table(name), json!({"delete": {"table": {"family": FAMILY, "name": name}}})]
}

fn add_table(name: &str) -> Value {
    json!({"add": {"table": {"family": FAMILY, "name": name}}})
}

fn set(table: &str, name: &str, policy: &Policy, v6: bool) -> Value {
    let kind = if v6 { "ipv6_addr" } else { "ipv4_addr" };
    let peers: Vec<_> =
        policy.peers.iter().filter(|ip| ip.is_ipv6() == v6).map(ToString::to_string).collect();
    let mut set = json!({"family": FAMILY, "table": table, "name": name, "type": kind});
    if !peers.is_empty() {
        set["elem"] = json!(peers);
    }
    json!({"set": set})
}

/// The rules of one gate: whom it lets in, then everybody else. Where everybody may pass there is no rule.
fn gate_rules(table: &str, gate: &Gate) -> Vec<Value> {
    let ports = || matches("==", &payload("tcp", "dport"), &json!({"set": gate.ports}));
    let rule = |who: Option<Value>, verdict| {
        let expr = [Some(ports()), who].into_iter().flatten().collect();
        rule(table, "input", gate.name, expr, verdict)
    };
    let nets = match &gate.who {
        Who::Anyone => return Vec::new(),
        Who::Nobody => return vec![rule(None, "drop")],
        Who::PeersAnd(nets) => nets,
    };
    let peers = [("ip", "@peers4"), ("ip6", "@peers6")];
    let peers = peers.map(|(protocol, set)| matches("==", &payload(protocol, "saddr"), &json!(set)));
    let accepted = peers.into_iter().chain(nets.iter().map(from_net));
    let mut rules: Vec<_> = accepted.map(|who| rule(Some(who), "accept")).collect();
    rules.push(rule(None, "drop"));
    rules
}

fn from_net(net: &IpNet) -> Value {
    let protocol = if net.addr().is_ipv4() { "ip" } else { "ip6" };
    let address = net.network().to_string();
    let right = if net.prefix_len() == net.max_prefix_len() {
        json!(address)
    } else {
        json!({"prefix": {"addr": address, "len": net.prefix_len()}})
    };
    matches("==", &payload(protocol, "saddr"), &right)
}

fn rule(table: &str, chain: &str, comment: &str, mut expr: Vec<Value>, verdict: &str) -> Value {
    expr.push(json!({verdict: null}));
    json!({"rule": {"family": FAMILY, "table": table, "chain": chain, "comment": comment, "expr": expr}})
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn matches(op: &str, left: &Value, right: &Value) -> Value {
    json!({"match": {"op": op, "left": left, "right": right}})
}

/// Sets, then chains, then rules, each chain's in their order; what is foreign to us behind them.
fn canonical(objects: Vec<Value>) -> Vec<Value> {
    let mut objects: Vec<Value> = objects.into_iter().map(plain).collect();
    objects.sort_by_cached_key(|object| {
        let rank = ["set", "chain", "rule"].iter().position(|kind| object.get(kind).is_some()).unwrap_or(3);
        let inner = object.as_object().and_then(|object| object.values().next()).unwrap_or(&Value::Null);
        let name = if rank == 2 { &inner["chain"] } else { &inner["name"] };
        (rank, name.to_string())
    });
    objects
}

/// Without handles, with lists that have no order in one, and addresses in one spelling.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(key, _)| key != "handle");
            let mut map: serde_json::Map<_, _> = kept.map(|(key, value)| (key, plain(value))).collect();
            for key in ["elem", "set"] {
                if let Some(Value::Array(list)) = map.get_mut(key) {
                    list.sort_by_cached_key(Value::to_string);
                }
            }
            match map.get("set") {
                // nft lists a set of one as the one.
                Some(Value::Array(list)) if list.len() == 1 => list[0].clone(),
                _ => Value::Object(map),
            }
        }
        Value::Array(list) => list.into_iter().map(plain).collect(),
        Value::String(text) => {
            let ip = text.parse::<IpAddr>();
            Value::String(ip.map_or(text, |ip| ip.to_string()))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
