//! What to do next so that the nodes of a forest have servers. Pure: from the wish and what is seen to steps that
//! may be done at once. No steps: all is there.

use std::collections::BTreeSet;

use forest_core::id::NodeId;
use forest_core::reason::Reason;

use super::labels::Mark;
use super::seen::Seen;
use crate::failure::Failure;
use crate::hetzner::wire::{Firewall, Rule, Server, ServerStatus, SshKey};
use crate::hetzner::{ApiError, Code};

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// Whose.
    pub mark: Mark,
    /// The nodes that need a server.
    pub nodes: Vec<NodeId>,
    /// Who may log in.
    pub key: Option<PublicKey>,
    /// What the firewall lets in.
    pub rules: Vec<Rule>,
}

/// A public key of the person's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// What it is called in the project, unless it is there under another name.
    pub name: String,
    /// As in its `.pub` file.
    pub text: String,
}

impl PublicKey {
    /// The one of these that is the same key; its name and comment may be others.
    #[must_use]
    pub fn among<'a>(&self, keys: &'a [SshKey]) -> Option<&'a SshKey> {
        let data = |text: &str| text.split_whitespace().nth(1).map(str::to_owned);
        let own = data(&self.text)?;
        keys.iter().find(|key| data(&key.public_key).as_ref() == Some(&own))
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Upload the key.
    Key,
    /// Make the firewall.
    Firewall,
    /// Give the firewall its rules.
    Rules(u64),
    /// Make the placement group of this name.
    Group(String),
    /// Make a node's server.
    Server {
        /// The node.
        node: NodeId,
        /// Which of the offers.
        offer: usize,
        /// The number of its firewall.
        firewall: u64,
        /// The number of its placement group.
        group: u64,
        /// The number of the key that may log in.
        key: Option<u64>,
    },
    /// Give a node's server power.
    PowerOn(u64),
    /// Delete a server whose making failed.
    Discard(u64),
    /// A server is just being deleted: look again a little later.
    Wait,
}

/// What this command has learnt, and no listing tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learnt {
    /// Offers that are sold out.
    pub sold_out: BTreeSet<usize>,
    /// Names that were refused as taken.
    pub taken: BTreeSet<String>,
    /// Servers whose making failed.
    pub failed: BTreeSet<u64>,
}

/// Why there is no next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// Things of a forest of this name that is not ours.
    #[error("the project has things of another forest {forest}: {}", .names.join(", "))]
    Strangers {
        /// The forest.
        forest: String,
        /// What they are called.
        names: Vec<String>,
    },
    /// The name is had by something without our labels.
    #[error("the project has something else named {0}")]
    Taken(String),
    /// Nothing is to be had.
    #[error("every machine that was asked for is sold out")]
    SoldOut,
}

impl From<Blocked> for Failure {
    fn from(blocked: Blocked) -> Self {
        let reason = match blocked {
            Blocked::Strangers { .. } | Blocked::Taken(_) => Reason::HetznerNameTaken,
            Blocked::SoldOut => Reason::HetznerUnavailable,
        };
        Self::new(reason, format!("Hetzner Cloud: {blocked}; {}", reason.remedy()))
    }
}

impl Learnt {
    /// Takes up how a step failed. `false`: nothing is learnt from it, and the command ends.
    #[must_use]
    pub fn note(&mut self, wish: &Wish, step: &Step, err: &ApiError) -> bool {
        match (step, err.code()) {
            (Step::Server { offer, .. }, Some(Code::Unavailable)) => {
                self.sold_out.insert(*offer);
            }
            (_, Some(Code::Uniqueness)) => {
                let Some(name) = step.makes(wish) else { return false };
                self.taken.insert(name);
            }
            // Somebody else has deleted it meanwhile: looking again tells.
            (Step::PowerOn(_) | Step::Discard(_) | Step::Rules(_), Some(Code::NotFound)) => {}
            _ => return false,
        }
        true
    }
}

impl Step {
    /// The name of what it makes.
    fn makes(&self, wish: &Wish) -> Option<String> {
        match self {
            Self::Key => wish.key.as_ref().map(|key| key.name.clone()),
            Self::Firewall => Some(wish.mark.firewall()),
            Self::Group(name) => Some(name.clone()),
            Self::Server { node, .. } => Some(node.to_string()),
            Self::Rules(_) | Self::PowerOn(_) | Self::Discard(_) | Self::Wait => None,
        }
    }
}

/// The steps to be done next, all at once; there are `offers` of them, the best first.
///
/// # Errors
/// [`Blocked`]
pub fn steps(wish: &Wish, offers: usize, seen: &Seen, learnt: &Learnt) -> Result<Vec<Step>, Blocked> {
    let names = seen.strangers(&wish.mark);
    if !names.is_empty() {
        return Err(Blocked::Strangers { forest: wish.mark.forest.to_string(), names });
    }
    // What servers need comes first: they are guarded from their first moment.
    let steps = match Ground::find(wish, seen) {
        Ok(ground) => servers(wish, offers, seen, learnt, &ground)?,
        Err(missing) => missing,
    };
    let made = steps.iter().filter_map(|step| step.makes(wish));
    match made.into_iter().find(|name| learnt.taken.contains(name)) {
        Some(name) => Err(Blocked::Taken(name)),
        None => Ok(steps),
    }
}

/// What servers stand on.
struct Ground<'a> {
    firewall: &'a Firewall,
    key: Option<u64>,
}

impl<'a> Ground<'a> {
    /// It, or the steps that make it.
    fn find(wish: &Wish, seen: &'a Seen) -> Result<Self, Vec<Step>> {
        let mut missing = Vec::new();
        let key = wish.key.as_ref().map(|key| key.among(&seen.keys));
        if matches!(key, Some(None)) {
            missing.push(Step::Key);
        }
        let groups: BTreeSet<String> = wish.nodes.iter().map(|node| wish.mark.group(node)).collect();
        let is_there = |name: &String| seen.groups.iter().any(|group| group.name == *name);
        missing.extend(groups.into_iter().filter(|name| !is_there(name)).map(Step::Group));
        match seen.firewalls.first() {
            None => missing.push(Step::Firewall),
            Some(firewall) if !same_rules(&firewall.rules, &wish.rules) => {
                missing.push(Step::Rules(firewall.id));
            }
            Some(firewall) if missing.is_empty() => {
                return Ok(Self { firewall, key: key.flatten().map(|key| key.id) });
            }
            Some(_) => {}
        }
        Err(missing)
    }
}

fn servers(
    wish: &Wish,
    offers: usize,
    seen: &Seen,
    learnt: &Learnt,
    ground: &Ground<'_>,
) -> Result<Vec<Step>, Blocked> {
    let mut steps = Vec::new();
    for node in &wish.nodes {
        if let Some(server) = seen.servers.iter().find(|server| server.name == node.as_str()) {
            steps.extend(tend(server, learnt));
            continue;
        }
        let offer = (0..offers).find(|offer| !learnt.sold_out.contains(offer)).ok_or(Blocked::SoldOut)?;
        let group = wish.mark.group(node);
        let group = seen.groups.iter().find(|found| found.name == group).map_or(0, |found| found.id);
        let (firewall, key) = (ground.firewall.id, ground.key);
        steps.push(Step::Server { node: node.clone(), offer, firewall, group, key });
    }
    Ok(steps)
}

/// What a server that is there needs.
fn tend(server: &Server, learnt: &Learnt) -> Option<Step> {
    match server.status {
        ServerStatus::Deleting => Some(Step::Wait),
        _ if learnt.failed.contains(&server.id) => Some(Step::Discard(server.id)),
        ServerStatus::Off => Some(Step::PowerOn(server.id)),
        _ => None,
    }
}

/// The order of rules and of their networks says nothing, nor does what they are called.
fn same_rules(one: &[Rule], other: &[Rule]) -> bool {
    let plain = |rules: &[Rule]| -> BTreeSet<Rule> {
        let plain = |rule: &Rule| {
            let mut rule = Rule { description: None, ..rule.clone() };
            rule.source_ips.sort();
            rule
        };
        rules.iter().map(plain).collect()
    };
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests;
