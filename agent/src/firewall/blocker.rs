//! Do rules of others drop what ours let in? An accept of ours does not overrule a later drop: every chain at the
//! same hook has its say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::packet::{BaseChain, Fate, Packet, Ruleset};
use super::policy::{Policy, Who};
use super::table;

/// A chain of somebody else that drops what should come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Its table's family.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// The ports that cannot be reached.
    pub ports: BTreeSet<u16>,
}

/// The first chain in `listing` (what `nft -j list ruleset` printed) that is certain to drop something which
/// `policy` lets in; our own table `ours` is passed over. `own`: the node's address, whose family others use.
///
/// # Errors
/// The listing is not JSON.
pub fn find(
    listing: &str,
    ours: &str,
    policy: &Policy,
    own: Option<IpAddr>,
) -> Result<Option<Blocker>, serde_json::Error> {
    let listing: Value = serde_json::from_str(listing)?;
    let ruleset = Ruleset::of(listing["nftables"].as_array().into_iter().flatten());
    let packets = wanted(policy, own);
    let foreign =
        ruleset.inputs().iter().filter(|chain| chain.table != ours || chain.family != table::FAMILY);
    let blockers = foreign.map(|chain| blocker(&ruleset, chain, &packets));
    Ok(blockers.into_iter().find(|blocker| !blocker.ports.is_empty()))
}

fn blocker(ruleset: &Ruleset<'_>, chain: &BaseChain<'_>, packets: &[Packet]) -> Blocker {
    let dropped = packets.iter().filter(|packet| ruleset.fate(chain, packet) == Fate::DROPPED);
    Blocker {
        family: chain.family.to_owned(),
        table: chain.table.to_owned(),
        chain: chain.name.to_owned(),
        ports: dropped.map(|packet| packet.port).collect(),
    }
}

/// What should come in: from each peer, and from somewhere.
fn wanted(policy: &Policy, own: Option<IpAddr>) -> Vec<Packet> {
    let from_peers = policy.peers.iter().map(|ip| (ip.is_ipv6(), Some(*ip)));
    let somewhere = own.map(|own| (own.is_ipv6(), None));
    let mut packets = Vec::new();
    for gate in &policy.gates {
        let sources: Vec<_> = match &gate.who {
            Who::Nobody => continue,
            Who::Anyone => somewhere.into_iter().collect(),
            // A node without peers is told as well: they will come.
            Who::PeersAnd(_) if policy.peers.is_empty() => somewhere.into_iter().collect(),
            Who::PeersAnd(_) => from_peers.clone().collect(),
        };
        for (v6, from) in sources {
            packets.extend(gate.ports.iter().map(|port| Packet { port: *port, v6, from }));
        }
    }
    packets
}

#[cfg(test)]
mod tests;
