//! NimsForest: how it is started, and the view of the registry that it is given.
//!
//! It reads its registry once, takes anything unreadable for an empty one, and the first IPv6 address of the
//! machine for its own. So it never gets the shared file but a view: always whole, made from the last good
//! read, its own entry bearing the address by which it will know itself, and no entry that it would die of.

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use forest_core::address::Address;
use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use serde_json::{Value, json};

use crate::child::Command;
use crate::fault::{Fault, chain};
use crate::files;

/// Name of the view, in runtime_dir.
pub const FILE_NAME: &str = "registry.json";

/// The files and directories that NimsForest is told of.
#[derive(Debug, Clone, Copy)]
pub struct Paths<'a> {
    /// Its executable.
    pub binary: &'a Path,
    /// node-info.json.
    pub node_info: &'a Path,
    /// The view, as [`write_view`] returns it.
    pub view: &'a Path,
    /// Where its JetStream data goes, into `jetstream`; it must exist.
    pub data_dir: &'a Path,
}

/// How NimsForest is started.
#[must_use]
pub fn command(paths: Paths<'_>) -> Command {
    let env = [
        ("NATS_CLUSTER_NODE_INFO", paths.node_info),
        ("NATS_CLUSTER_REGISTRY", paths.view),
        ("JETSTREAM_DIR", paths.data_dir),
    ];
    Command {
        program: paths.binary.to_owned(),
        args: vec!["run".into()],
        env: env.map(|(name, path)| (name.into(), path.into())).into(),
        cwd: paths.data_dir.to_owned(),
    }
}

/// A node of the forest as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `id`.
    pub id: String,
    /// `ip`, as it stands there.
    pub ip: String,
}

/// What a lone node is to do about its cluster port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lone {
    /// Start alone, without the cluster port: right while nothing else makes up a quorum with it, because a lone
    /// server that expects a cluster never elects a meta leader.
    Standalone,
    /// Open the cluster port: `::1` is listed as a peer.
    Listen,
}

/// The view for one start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The file's content.
    pub content: Value,
    /// Ids of entries left out because their ip is no address: NimsForest would exit at once, or after 10 s.
    pub left_out: Vec<String>,
}

impl View {
    /// The file's whole text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:#}\n", self.content)
    }
}

/// The view of `entries` for `node`. `own` is its address in the registry, `first` the one NimsForest takes as its
/// own (see [`first_ipv6`]). Peers keep their order and get one spelling; an entry with an address of this node
/// under another id is stale and left away, or NimsForest would dial itself.
#[must_use]
pub fn view(
    forest: &ForestId,
    node: &NodeId,
    own: Address,
    first: Ipv6Addr,
    entries: &[Entry],
    lone: Lone,
) -> View {
    let mut left_out = Vec::new();
    let mut nodes = vec![entry(node.as_str(), forest, &first.to_string())];
    for Entry { id, ip } in entries.iter().filter(|entry| entry.id != node.as_str()) {
        match ip.parse::<Address>() {
            Ok(address) if address == own || address.ip() == IpAddr::V6(first) => {}
            Ok(address) => nodes.push(entry(id, forest, &address.to_string())),
            Err(_) => left_out.push(id.clone()),
        }
    }
    if nodes.len() == 1 && lone == Lone::Listen {
        nodes.push(entry("loopback", forest, &Ipv6Addr::LOCALHOST.to_string()));
    }
    let mut by_forest = serde_json::Map::new();
    by_forest.insert(forest.to_string(), Value::Array(nodes));
    View { content: json!({ "version": 1, "nodes": by_forest }), left_out }
}

fn entry(id: &str, forest: &ForestId, ip: &str) -> Value {
    json!({ "id": id, "ip": ip, "forest_id": forest.as_str() })
}

/// The address NimsForest takes as its own: of the machine's addresses, in the kernel's order, the first IPv6 one
/// that is not loopback. Link-local ones count.
#[must_use]
pub fn first_ipv6(addresses: impl IntoIterator<Item = IpAddr>) -> Option<Ipv6Addr> {
    addresses.into_iter().find_map(|ip| match ip {
        IpAddr::V6(ip) if !ip.is_loopback() => Some(ip),
        _ => None,
    })
}

/// [`first_ipv6`] of this machine.
///
/// # Errors
/// [`Reason::NimsforestNoAddress`] where there is none or the interfaces cannot be listed.
pub fn own_ipv6() -> Result<Ipv6Addr, Fault> {
    let no_address = |message: String| Fault::new(Reason::NimsforestNoAddress, message);
    let interfaces = if_addrs::get_if_addrs()
        .map_err(|err| no_address(format!("cannot list this machine's addresses: {err}")))?;
    first_ipv6(interfaces.iter().map(if_addrs::Interface::ip)).ok_or_else(|| {
        no_address("NimsForest needs an IPv6 address, and this machine has none but loopback".into())
    })
}

/// Writes the view into `dir`, 0600, and returns its path.
///
/// # Errors
/// [`Reason::StateDir`] where it cannot be written.
pub fn write_view(dir: &Path, view: &View) -> Result<PathBuf, Fault> {
    let path = dir.join(FILE_NAME);
    files::put(&path, view.text().as_bytes(), 0o600)
        .map_err(|err| Fault::new(Reason::StateDir, chain(&err)))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: &str = "fe80::1";

    fn view_of(entries: &[(&str, &str)], lone: Lone) -> View {
        let entries: Vec<_> =
            entries.iter().map(|(id, ip)| Entry { id: (*id).to_owned(), ip: (*ip).to_owned() }).collect();
        let (forest, node) = ("grove".parse().unwrap(), "grove-node-1".parse().unwrap());
        let own = "fd00::2".parse().unwrap();
        view(&forest, &node, own, FIRST.parse().unwrap(), &entries, lone)
    }

    fn listed(view: &View) -> Vec<(&str, &str)> {
        let nodes = view.content["nodes"]["grove"].as_array().unwrap();
        nodes.iter().map(|node| (node["id"].as_str().unwrap(), node["ip"].as_str().unwrap())).collect()
    }

    #[test]
    fn own_entry_bears_the_first_address_and_peers_one_spelling() {
        let view = view_of(
            &[("grove-node-2", "FD00::0003"), ("grove-node-1", "fd00::2"), ("grove-node-3", "10.0.0.7")],
            Lone::Listen,
        );
        let wanted = [("grove-node-1", FIRST), ("grove-node-2", "fd00::3"), ("grove-node-3", "10.0.0.7")];
        assert_eq!(listed(&view), wanted);
        assert_eq!(view.left_out, [""; 0]);
    }

    #[test]
    fn a_lone_node_lists_loopback_only_to_listen() {
        let own = [("grove-node-1", "fd00::2")];
        assert_eq!(listed(&view_of(&own, Lone::Standalone)), [("grove-node-1", FIRST)]);
        let wanted = [("grove-node-1", FIRST), ("loopback", "::1")];
        assert_eq!(listed(&view_of(&own, Lone::Listen)), wanted);
        assert_eq!(listed(&view_of(&[], Lone::Listen)), wanted);
    }

    #[test]
    fn entries_that_would_kill_it_are_left_out_and_named() {
        let view = view_of(
            &[
                ("empty", ""),
                ("net", "fd00::9/64"),
                ("garbage", "tree"),
                ("stale", "fd00::2"),
                ("stale-too", FIRST),
            ],
            Lone::Standalone,
        );
        assert_eq!(listed(&view), [("grove-node-1", FIRST)]);
        assert_eq!(view.left_out, ["empty", "net", "garbage"]);
    }

    #[test]
    fn takes_the_first_ipv6_that_is_not_loopback() {
        let list = |texts: &[&str]| first_ipv6(texts.iter().map(|text| text.parse().unwrap()));
        assert_eq!(list(&["127.0.0.1", "::1", "10.0.0.7"]), None);
        assert_eq!(list(&["::1", "fe80::5", "2001:db8::1"]), "fe80::5".parse().ok());
    }

    #[test]
    fn the_command_names_all_three_paths() {
        let command = command(Paths {
            binary: Path::new("/opt/forest"),
            node_info: Path::new("/etc/node-info.json"),
            view: Path::new("/run/registry.json"),
            data_dir: Path::new("/var/js"),
        });
        assert_eq!(command.args, ["run"]);
        let env = [
            ("NATS_CLUSTER_NODE_INFO", "/etc/node-info.json"),
            ("NATS_CLUSTER_REGISTRY", "/run/registry.json"),
            ("JETSTREAM_DIR", "/var/js"),
        ];
        assert_eq!(command.env, env.map(|(name, value)| (name.into(), value.into())));
    }

    proptest! {
        #[test]
        fn every_listed_ip_is_an_address_and_own_is_listed_once(
            entries in proptest::collection::vec(("[a-z0-9-]{1,12}", "\\PC{0,20}|[0-9a-f:]{2,20}|10\\.0\\.0\\.[0-9]"), 0..12),
        ) {
            let entries: Vec<_> = entries.iter().map(|(id, ip)| (id.as_str(), ip.as_str())).collect();
            let view = view_of(&entries, Lone::Listen);
            let listed = listed(&view);
            for (_, ip) in &listed {
                prop_assert_eq!(ip.parse::<Address>().unwrap().to_string(), *ip);
            }
            prop_assert_eq!(listed.iter().filter(|(_, ip)| *ip == FIRST).count(), 1);
            prop_assert!(listed.len() >= 2);
        }
    }
}
