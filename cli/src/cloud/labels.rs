//! Names and labels of everything that is made. `planting` tells two forests of one name apart that were planted
//! from different registries, or one after the other. Pure.

use forest_core::id::{ForestId, NodeId};

use crate::hetzner::wire::{Labels, Rule};

/// On everything that is ours.
pub const MANAGED: (&str, &str) = ("managed-by", "morpheus");
/// So many servers fit into one placement group.
const GROUP: u64 = 10;
/// What the firewall lets in: ssh, the routes of engine and witness, monitoring, health.
const PORTS: [(&str, &str); 5] = [
    ("22", "ssh"),
    ("6222", "routes between the nodes"),
    ("6223", "the witness's route"),
    ("8222", "monitoring"),
    ("8223", "the agent's health"),
];

/// The mark of one planting of a forest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The forest.
    pub forest: ForestId,
    /// Which planting: random, made when the forest was recorded.
    pub planting: String,
}

impl Mark {
    /// The labels of what belongs to the whole forest.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let pairs = [MANAGED, ("forest", self.forest.as_str()), ("planting", &self.planting)];
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    /// The labels of a node's server.
    #[must_use]
    pub fn node_labels(&self, node: &NodeId) -> Labels {
        let mut labels = self.labels();
        labels.insert("node".to_owned(), node.to_string());
        labels
    }

    /// Are these the labels of something of this planting?
    #[must_use]
    pub fn is_on(&self, labels: &Labels) -> bool {
        self.labels().iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Everything of the forest, of other plantings too.
    #[must_use]
    pub fn forest_selector(&self) -> String {
        crate::hetzner::calls::selector(&[MANAGED, ("forest", self.forest.as_str())])
    }

    /// The servers that the firewall stands before: those that are still to come too.
    #[must_use]
    pub fn firewall_selector(&self) -> String {
        crate::hetzner::calls::selector(&[("forest", self.forest.as_str()), ("planting", &self.planting)])
    }

    /// The name of the firewall.
    #[must_use]
    pub fn firewall(&self) -> String {
        format!("morpheus-{}", self.forest)
    }

    /// The name of a node's placement group. Numbers of nodes are never used again, so none is ever too full.
    #[must_use]
    pub fn group(&self, node: &NodeId) -> String {
        let number = node.as_str().rsplit('-').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(1);
        format!("morpheus-{}-{}", self.forest, number.saturating_sub(1) / GROUP + 1)
    }
}

/// The rules of a forest's firewall.
#[must_use]
pub fn rules() -> Vec<Rule> {
    let open = |protocol: &str, port: Option<&str>, what: &str| Rule {
        direction: "in".to_owned(),
        protocol: protocol.to_owned(),
        port: port.map(str::to_owned),
        source_ips: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
        description: Some(what.to_owned()),
    };
    let ports = PORTS.iter().map(|(port, what)| open("tcp", Some(port), what));
    ports.chain([open("icmp", None, "errors and ping")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_numbers_share_a_group() {
        let mark = Mark { forest: "grove".parse().unwrap(), planting: "p".to_owned() };
        let group = |n: u64| mark.group(&format!("grove-node-{n}").parse().unwrap());
        assert_eq!((group(1), group(10)), ("morpheus-grove-1".to_owned(), "morpheus-grove-1".to_owned()));
        assert_eq!(group(11), "morpheus-grove-2");
    }
}
