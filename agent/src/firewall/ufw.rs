//! ufw's own rules, where it is active: its chains drop what they do not know, whatever our table lets in.
//!
//! What stands is read from ufw's file of rules, in which every rule has a line of its own (`### tuple ###`); what
//! is to change goes through the program `ufw`. Only rules with our comment are taken out, and none is added where
//! a person has made the same one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::policy::{Policy, Who};

/// One `allow` for TCP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// To these ports.
    pub ports: BTreeSet<u16>,
    /// From there; `None`: from everywhere.
    pub from: Option<IpNet>,
}

/// What is to be done with ufw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Rules to be added.
    pub add: BTreeSet<Rule>,
    /// Rules of ours to be taken out.
    pub delete: BTreeSet<Rule>,
}

/// The rules of ufw as they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// With our comment.
    pub ours: BTreeSet<Rule>,
    /// Of anybody else.
    pub others: BTreeSet<Rule>,
}

impl Standing {
    /// Out of the text of user.rules and user6.rules; ours are those with the comment `tag`.
    #[must_use]
    pub fn parse(text: &str, tag: &str) -> Self {
        let comment: String = tag.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut standing = Self::default();
        for line in text.lines() {
            let Some((rule, said)) = line.strip_prefix("### tuple ### ").and_then(parse) else { continue };
            let list = if said == Some(comment.as_str()) { &mut standing.ours } else { &mut standing.others };
            list.insert(rule);
        }
        standing
    }

    /// What has to change so that `wanted` stands, and nothing else of ours.
    #[must_use]
    pub fn plan(&self, wanted: &BTreeSet<Rule>) -> Plan {
        let add = wanted.iter().filter(|rule| !self.ours.contains(rule) && !self.others.contains(rule));
        Plan { add: add.cloned().collect(), delete: self.ours.difference(wanted).cloned().collect() }
    }
}

impl Plan {
    /// Nothing to do?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.delete.is_empty()
    }

    /// The command lines, after `ufw`: what is let in first.
    #[must_use]
    pub fn commands(&self, tag: &str) -> Vec<Vec<String>> {
        let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let add = self.add.iter().map(|rule| words(format!("{} comment {tag}", rule.words())));
        let delete = self.delete.iter().map(|rule| words(format!("delete {}", rule.words())));
        add.chain(delete).collect()
    }
}

impl Rule {
    /// In ufw's language; numbers and addresses alone come from outside.
    fn words(&self) -> String {
        let ports: Vec<_> = self.ports.iter().map(ToString::to_string).collect();
        let from = self.from.map_or_else(|| "any".to_owned(), |net| net.to_string());
        format!("allow proto tcp from {from} to any port {}", ports.join(","))
    }
}

/// The rules that let in whom `policy` lets in.
#[must_use]
pub fn wanted(policy: &Policy) -> BTreeSet<Rule> {
    let mut rules = BTreeSet::new();
    for gate in &policy.gates {
        let from: Vec<_> = match &gate.who {
            Who::Anyone => vec![None],
            Who::Nobody => Vec::new(),
            Who::PeersAnd(nets) => {
                policy.peers.iter().map(|ip| IpNet::from(*ip)).chain(nets.iter().copied()).map(Some).collect()
            }
        };
        rules.extend(from.into_iter().map(|from| Rule { ports: gate.ports.clone(), from }));
    }
    rules
}

/// `allow tcp 8222,8223 0.0.0.0/0 any 10.0.0.0/8 in comment=…`: to ports, to, from port, from. What is not a rule
/// as we make them is none. A rule for everybody stands twice, once a family, and is one as long as either is there.
fn parse(tuple: &str) -> Option<(Rule, Option<&str>)> {
    let words: Vec<_> = tuple.split_whitespace().collect();
    let ["allow", "tcp", ports, "0.0.0.0/0" | "::/0", "any", from, "in", rest @ ..] = words.as_slice() else {
        return None;
    };
    let ports = ports.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    let from = match *from {
        "0.0.0.0/0" | "::/0" => None,
        net => Some(net.parse().ok().or_else(|| Some(net.parse::<IpAddr>().ok()?.into()))?),
    };
    let comment = rest.first().and_then(|word| word.strip_prefix("comment="));
    Some((Rule { ports, from }, comment))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::policy::tests::{registry, settings};
    use super::*;

    const TAG: &str = "forest_agent_ab";
    /// As ufw 0.36.2 wrote it.
    const RULES: &str = "*filter
### RULES ###

### tuple ### deny any 77 0.0.0.0/0 any 0.0.0.0/0 in
### tuple ### allow tcp 8222,8223 0.0.0.0/0 any 10.0.0.0/8 in comment=666f726573745f6167656e745f6162
-A ufw-user-input -p tcp -m multiport --dports 8222,8223 -s 10.0.0.0/8 -j ACCEPT
### tuple ### allow tcp 6222 0.0.0.0/0 any 0.0.0.0/0 in comment=78
### tuple ### allow tcp 5 0.0.0.0/0 any 0.0.0.0/0 in_eth0
### tuple ### allow tcp 5:9 0.0.0.0/0 any 0.0.0.0/0 in
### tuple ### limit tcp 22 0.0.0.0/0 any 0.0.0.0/0 in
### tuple ### allow tcp 6222,6223 ::/0 any fd00::7 in comment=666f726573745f6167656e745f6162
### tuple ### allow tcp 6222 ::/0 any ::/0 in comment=78
";

    fn rule(ports: &[u16], from: &str) -> Rule {
        Rule { ports: ports.iter().copied().collect(), from: from.parse().ok() }
    }

    #[test]
    fn rules_are_read_and_ours_told_from_those_of_others() {
        let standing = Standing::parse(RULES, TAG);
        let ours = [rule(&[8222, 8223], "10.0.0.0/8"), rule(&[6222, 6223], "fd00::7/128")];
        assert_eq!(standing.ours, BTreeSet::from(ours));
        assert_eq!(standing.others, BTreeSet::from([rule(&[6222], "any")]));
        assert_eq!(Standing::parse(RULES, "forest_agent_a").ours, BTreeSet::new());
    }

    #[test]
    fn what_a_person_allowed_already_is_neither_added_nor_taken_out() {
        let standing = Standing::parse(RULES, TAG);
        let wanted = BTreeSet::from([rule(&[6222], "any"), rule(&[6222, 6223], "fd00::8/128")]);
        let plan = standing.plan(&wanted);
        let commands = plan.commands(TAG);
        let lines: Vec<_> = commands.iter().map(|words| words.join(" ")).collect();
        assert_eq!(
            lines,
            [
                "allow proto tcp from fd00::8/128 to any port 6222,6223 comment forest_agent_ab",
                "delete allow proto tcp from fd00::7/128 to any port 6222,6223",
                "delete allow proto tcp from 10.0.0.0/8 to any port 8222,8223",
            ]
        );
        assert_eq!(standing.plan(&BTreeSet::new()).add, BTreeSet::new());
    }

    proptest! {
        /// Only TCP to ports of ours is ever allowed, and every peer may come to the routes.
        #[test]
        fn only_our_ports_and_every_peer(peers in proptest::collection::btree_set(any::<IpAddr>(), 0..6)) {
            let nodes: Vec<_> =
                peers.iter().enumerate().map(|(n, ip)| (format!("n-{n}"), ip.to_string())).collect();
            let nodes: Vec<_> = nodes.iter().map(|(id, ip)| (id.as_str(), ip.as_str())).collect();
            let policy = Policy::of(&settings(""), Some(&registry(&nodes)), None);
            let wanted = wanted(&policy);
            prop_assert!(wanted.iter().all(|rule| rule.ports.is_subset(&policy.ports())));
            for peer in &policy.peers {
                let reaches = |rule: &Rule| {
                    rule.ports.contains(&6222) && rule.from.is_none_or(|net| net.contains(peer))
                };
                prop_assert!(wanted.iter().any(reaches), "{peer}");
            }
            let standing = Standing { ours: wanted.clone(), ..Standing::default() };
            prop_assert!(standing.plan(&wanted).is_empty());
        }
    }
}
