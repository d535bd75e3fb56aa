//! What a listed rule set does to the first packet of a connection: for finding out whether the rules of others
//! drop what ours let in, and for testing our own.
//!
//! nft can say everything about a rule set but this. Of a rule that cannot be read (an extension of iptables, an
//! unknown expression) it is not known whether it matches; what is said here is said only where it is certain.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

/// The kernel follows no more jumps than this.
const MOST_JUMPS: usize = 16;

/// The first packet of a TCP connection from another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Where it goes.
    pub port: u16,
    /// IPv6?
    pub v6: bool,
    /// Where it comes from; `None`: from somewhere.
    pub from: Option<IpAddr>,
}

/// What may become of a packet: each that is possible is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    /// It may be let through.
    pub accepted: bool,
    /// It may be dropped or rejected.
    pub dropped: bool,
    /// It may come to the next rule.
    passed: bool,
    /// It may leave the chain for the one that jumped here.
    returned: bool,
}

impl Fate {
    const NONE: Self = Self { accepted: false, dropped: false, passed: false, returned: false };
    /// It is certain to be dropped.
    pub const DROPPED: Self = Self { dropped: true, ..Self::NONE };
    /// It is certain to be let through.
    pub const ACCEPTED: Self = Self { accepted: true, ..Self::NONE };
    const PASSED: Self = Self { passed: true, ..Self::NONE };
    const RETURNED: Self = Self { returned: true, ..Self::NONE };
    const UNKNOWN: Self = Self { accepted: true, dropped: true, passed: true, returned: true };

    fn or(self, other: Self) -> Self {
        Self {
            accepted: self.accepted || other.accepted,
            dropped: self.dropped || other.dropped,
            passed: self.passed || other.passed,
            returned: self.returned || other.returned,
        }
    }

    /// This, and where it comes to the next rule, what that one does.
    fn then(self, next: Self) -> Self {
        if self.passed { Self { passed: false, ..self }.or(next) } else { self }
    }

    /// The fate in a whole chain, as the rule sees it that jumped there.
    fn at_the_end(self) -> Self {
        Self { passed: self.passed || self.returned, returned: false, ..self }
    }
}

/// Does it match? `None`: it cannot be said.
type Match = Option<bool>;

/// A chain that the kernel itself enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain<'a> {
    /// `inet`, `ip` or `ip6`.
    pub family: &'a str,
    /// Its table.
    pub table: &'a str,
    /// Its name.
    pub name: &'a str,
    policy: &'a str,
}

type Place<'a> = (&'a str, &'a str, &'a str);

/// A rule set as `nft -j list ruleset` prints it, made ready for questions.
#[derive(Debug, Default)]
pub struct Ruleset<'a> {
    rules: HashMap<Place<'a>, Vec<&'a Value>>,
    sets: HashMap<Place<'a>, &'a Value>,
    inputs: Vec<BaseChain<'a>>,
}

impl<'a> Ruleset<'a> {
    /// Out of its objects.
    pub fn of(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut ruleset = Self::default();
        for object in objects {
            let Some((kind, inner)) = object.as_object().and_then(|object| object.iter().next()) else {
                continue;
            };
            let text = |key: &str| inner[key].as_str().unwrap_or_default();
            let (family, table, name) = (text("family"), text("table"), text("name"));
            match kind.as_str() {
                "rule" => {
                    ruleset.rules.entry((family, table, text("chain"))).or_default().push(&inner["expr"]);
                }
                "set" => {
                    ruleset.sets.insert((family, table, name), &inner["elem"]);
                }
                "chain" if text("hook") == "input" && text("type") == "filter" => {
                    ruleset.inputs.push(BaseChain { family, table, name, policy: text("policy") });
                }
                _ => {}
            }
        }
        ruleset
    }

    /// The chains that see what comes in for this machine.
    #[must_use]
    pub fn inputs(&self) -> &[BaseChain<'a>] {
        &self.inputs
    }

    /// What `chain` does with `packet`.
    #[must_use]
    pub fn fate(&self, chain: &BaseChain<'a>, packet: &Packet) -> Fate {
        let seen = match chain.family {
            "inet" => true,
            "ip" => !packet.v6,
            "ip6" => packet.v6,
            _ => false,
        };
        if !seen {
            return Fate::ACCEPTED;
        }
        let end = if chain.policy == "drop" { Fate::DROPPED } else { Fate::ACCEPTED };
        self.chain((chain.family, chain.table, chain.name), packet, 0).then(end)
    }

    fn chain(&self, place: Place<'a>, packet: &Packet, depth: usize) -> Fate {
        if depth > MOST_JUMPS {
            return Fate::UNKNOWN;
        }
        let rules = self.rules.get(&place).into_iter().flatten();
        let fate = rules.fold(Fate::PASSED, |fate, expr| {
            if fate.passed { fate.then(self.rule(place, expr, packet, depth)) } else { fate }
        });
        fate.at_the_end()
    }

    /// What one rule does: its statements from left to right, up to one that does not match or a verdict.
    fn rule(&self, place: Place<'a>, expr: &'a Value, packet: &Packet, depth: usize) -> Fate {
        let statements = expr.as_array().map_or(&[][..], Vec::as_slice);
        let alone = statements.iter().filter(|statement| is_condition(statement)).count() == 1;
        let mut matched = Some(true);
        for statement in statements {
            let Some((kind, inner)) = statement.as_object().and_then(|object| object.iter().next()) else {
                return Fate::UNKNOWN;
            };
            let jump = || {
                let target = inner["target"].as_str().unwrap_or_default();
                self.chain((place.0, place.1, target), packet, depth + 1)
            };
            let one = match kind.as_str() {
                "counter" | "log" | "comment" => Some(true),
                "match" => self.matches(place, inner, packet),
                // The states of iptables, of which nft shows no more than that. Alone, that is the rule for what is
                // established, or for what is invalid.
                "xt" if alone && matches!(inner["name"].as_str(), Some("conntrack" | "state")) => Some(false),
                "accept" => return given(matched, Fate::ACCEPTED),
                "drop" | "reject" => return given(matched, Fate::DROPPED),
                "return" => return given(matched, Fate::RETURNED),
                "jump" => return given(matched, jump()),
                "goto" => {
                    let fate = jump();
                    return given(matched, Fate { passed: false, returned: fate.passed, ..fate });
                }
                "vmap" => return given(matched, self.map(place, inner, packet, depth)),
                _ => None,
            };
            match one {
                Some(false) => return Fate::PASSED,
                Some(true) => {}
                None => matched = None,
            }
        }
        Fate::PASSED
    }

    /// A map from values to verdicts.
    fn map(&self, place: Place<'a>, map: &'a Value, packet: &Packet, depth: usize) -> Fate {
        let Some(pairs) = map["data"]["set"].as_array() else { return Fate::UNKNOWN };
        let mut fate = Fate::PASSED;
        for pair in pairs {
            let (value, verdict) = (&pair[0], &pair[1]);
            let outcome = match verdict.as_object().and_then(|object| object.iter().next()) {
                Some((kind, _)) if kind == "accept" => Fate::ACCEPTED,
                Some((kind, _)) if kind == "drop" => Fate::DROPPED,
                Some((kind, inner)) if kind == "jump" => {
                    let target = (place.0, place.1, inner["target"].as_str().unwrap_or_default());
                    self.chain(target, packet, depth + 1)
                }
                _ => Fate::UNKNOWN,
            };
            let matched = self.equals(place, &map["key"], value, packet);
            fate = fate.then(given(matched, outcome));
        }
        fate
    }

    fn matches(&self, place: Place<'a>, inner: &'a Value, packet: &Packet) -> Match {
        let equal = self.equals(place, &inner["left"], &inner["right"], packet);
        match inner["op"].as_str() {
            Some("==" | "in") => equal,
            Some("!=") => equal.map(|equal| !equal),
            _ => None,
        }
    }

    fn equals(&self, place: Place<'a>, left: &Value, right: &'a Value, packet: &Packet) -> Match {
        let is = |test: &dyn Fn(&Value) -> Match| self.any(place, right, test);
        let text = |wanted: &'static str| is(&|value| Some(value == wanted));
        if let Some(key) = left["meta"]["key"].as_str() {
            return match key {
                // It comes from another machine; by which interface is not known.
                "iif" | "iifname" => is(&|value| if value == "lo" { Some(false) } else { None }),
                "l4proto" => is(&|value| Some(value == "tcp" || *value == 6)),
                "nfproto" => text(if packet.v6 { "ipv6" } else { "ipv4" }),
                _ => None,
            };
        }
        if left["ct"]["key"] == "state" {
            return text("new");
        }
        let field = left["payload"]["field"].as_str().unwrap_or_default();
        match left["payload"]["protocol"].as_str()? {
            "tcp" | "th" if field == "dport" => is(&|value| number(value, packet.port)),
            "tcp" | "th" => None,
            "ip" if packet.v6 => Some(false),
            "ip6" if !packet.v6 => Some(false),
            "ip" | "ip6" => match field {
                "saddr" => is(&|value| source(value, packet.from)),
                "protocol" | "nexthdr" => is(&|value| Some(value == "tcp" || *value == 6)),
                _ => None,
            },
            "udp" | "udplite" | "sctp" | "dccp" | "icmp" | "icmpv6" | "igmp" | "esp" | "ah" => Some(false),
            _ => None,
        }
    }

    /// Does any value of `right` pass the test?
    fn any(&self, place: Place<'a>, right: &'a Value, test: &dyn Fn(&Value) -> Match) -> Match {
        let list = match right {
            Value::Array(list) => list.as_slice(),
            Value::String(name) if name.starts_with('@') => {
                match self.sets.get(&(place.0, place.1, &name[1..])).copied() {
                    Some(Value::Array(list)) => list.as_slice(),
                    Some(Value::Null) => &[],
                    _ => return None,
                }
            }
            _ => match right["set"].as_array() {
                Some(list) => list.as_slice(),
                None => return test(right),
            },
        };
        let mut found = Some(false);
        for value in list {
            // An element with a comment or a timeout is one level deeper.
            match test(value["elem"].get("val").unwrap_or(value)) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => found = None,
            }
        }
        found
    }
}

fn given(matched: Match, fate: Fate) -> Fate {
    match matched {
        Some(true) => fate,
        Some(false) => Fate::PASSED,
        None => fate.or(Fate::PASSED),
    }
}

fn is_condition(statement: &Value) -> bool {
    ["match", "xt", "limit", "vmap"].iter().any(|kind| statement.get(kind).is_some())
}

fn number(value: &Value, wanted: u16) -> Match {
    if let [low, high] = value["range"].as_array().map_or(&[][..], Vec::as_slice) {
        return Some((low.as_u64()?..=high.as_u64()?).contains(&wanted.into()));
    }
    Some(value.as_u64()? == u64::from(wanted))
}

fn source(value: &Value, from: Option<IpAddr>) -> Match {
    let from = from?;
    if let Some(prefix) = value.get("prefix") {
        let net =
            IpNet::new(prefix["addr"].as_str()?.parse().ok()?, prefix["len"].as_u64()?.try_into().ok()?);
        return Some(net.ok()?.contains(&from));
    }
    if let [low, high] = value["range"].as_array().map_or(&[][..], Vec::as_slice) {
        let (low, high): (IpAddr, IpAddr) = (low.as_str()?.parse().ok()?, high.as_str()?.parse().ok()?);
        return Some((low..=high).contains(&from));
    }
    Some(value.as_str()?.parse::<IpAddr>().ok()? == from)
}
