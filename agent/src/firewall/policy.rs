//! Who may connect to which of the forest's ports: from the settings and the registry, and nothing else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use forest_core::address::Address;
use forest_core::registry::Registry;
use ipnet::IpNet;

use crate::settings::{EngineKind, Settings, Sources};

/// Who may connect. This machine itself always may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Everybody.
    Anyone,
    /// The forest's other nodes, and these networks.
    PeersAnd(Vec<IpNet>),
    /// Nobody else.
    Nobody,
}

/// Ports with the same rule. No port is in two gates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// What they are for, as comments of rules have it.
    pub name: &'static str,
    /// The ports, TCP.
    pub ports: BTreeSet<u16>,
    /// Who may connect.
    pub who: Who,
}

/// Everything that the firewall is to enforce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The gates.
    pub gates: Vec<Gate>,
    /// Addresses of the forest's other nodes.
    pub peers: BTreeSet<IpAddr>,
}

impl Policy {
    /// For this node, its peers as `registry` has them; `engine_port`: where the engine says it takes clients.
    #[must_use]
    pub fn of(settings: &Settings, registry: Option<&Registry>, engine_port: Option<u16>) -> Self {
        let (listen, witness) = (settings.listen, settings.witness_listen());
        let monitors = match &settings.firewall.monitoring_from {
            Sources::Any => Who::Anyone,
            Sources::Nets(nets) => Who::PeersAnd(nets.clone()),
        };
        // NimsForest chooses its client port itself, listens on every address and asks nobody for a password: it
        // is as open as the settings want the client port to be.
        let engine = engine_port.filter(|_| settings.engine.kind == EngineKind::Nimsforest);
        let engine = engine.map(|port| SocketAddr::new(listen.client.ip(), port));
        let clients = [Some(listen.client), Some(witness.client), engine].into_iter().flatten();
        let (closed, open): (Vec<_>, Vec<_>) = clients.partition(|at| at.ip().is_loopback());
        let port = SocketAddr::port;
        let ports = |list: &[SocketAddr]| list.iter().map(port).collect();
        let gates = [
            (
                "routes",
                [listen.cluster, witness.cluster].iter().map(port).collect(),
                Who::PeersAnd(Vec::new()),
            ),
            ("monitoring", [listen.monitor, listen.health].iter().map(port).collect(), monitors),
            ("clients", ports(&closed), Who::Nobody),
            ("clients", ports(&open), Who::Anyone),
        ];
        Self { gates: apart(gates), peers: peers(settings, registry) }
    }

    /// Every port that a gate stands at.
    #[must_use]
    pub fn ports(&self) -> BTreeSet<u16> {
        self.gates.iter().flat_map(|gate| gate.ports.iter().copied()).collect()
    }
}

/// Servers on different addresses may share a port; then the first gate is the one that counts.
fn apart<const N: usize>(gates: [(&'static str, BTreeSet<u16>, Who); N]) -> Vec<Gate> {
    let mut taken = BTreeSet::new();
    let fresh = |(name, mut ports, who): (_, BTreeSet<u16>, _)| {
        ports.retain(|port| taken.insert(*port));
        (!ports.is_empty()).then_some(Gate { name, ports, who })
    };
    gates.into_iter().filter_map(fresh).collect()
}

fn peers(settings: &Settings, registry: Option<&Registry>) -> BTreeSet<IpAddr> {
    let entries = registry.map(|registry| registry.entries(&settings.forest)).unwrap_or_default();
    let others = entries.into_iter().filter(|entry| entry.id != settings.node.as_str());
    others.filter_map(|entry| Some(entry.ip.parse::<Address>().ok()?.ip())).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use forest_core::registry::Document;

    use super::*;

    /// Settings of grove-node-1 with more lines.
    pub(crate) fn settings(more: &str) -> Settings {
        let text = format!("forest_id: grove\nnode_id: grove-node-1\n{more}");
        Settings::parse(&text, Path::new("agent.yaml")).unwrap()
    }

    /// A registry with these nodes of grove.
    pub(crate) fn registry(nodes: &[(&str, &str)]) -> Registry {
        let entries: Vec<_> = nodes
            .iter()
            .map(|(id, ip)| serde_json::json!({"id": id, "ip": ip, "forest_id": "grove"}))
            .collect();
        let text = serde_json::json!({"version": 1, "nodes": {"grove": entries}}).to_string();
        Registry::parse(text.as_bytes()).unwrap()
    }

    fn gate(policy: &Policy, port: u16) -> Who {
        policy.gates.iter().find(|gate| gate.ports.contains(&port)).unwrap().who.clone()
    }

    #[test]
    fn the_defaults_let_peers_route_everybody_monitor_and_nobody_be_a_client() {
        let registry =
            registry(&[("grove-node-1", "fd00::1"), ("grove-node-2", "FD00::02"), ("x", "garbage")]);
        let policy = Policy::of(&settings(""), Some(&registry), Some(4222));
        assert_eq!(policy.peers, BTreeSet::from(["fd00::2".parse().unwrap()]));
        assert_eq!(policy.ports(), BTreeSet::from([4222, 4223, 6222, 6223, 8222, 8223]));
        for (ports, who) in [
            ([6222, 6223], Who::PeersAnd(Vec::new())),
            ([8222, 8223], Who::Anyone),
            ([4222, 4223], Who::Nobody),
        ] {
            assert_eq!(ports.map(|port| gate(&policy, port)), [who.clone(), who]);
        }
    }

    #[test]
    fn a_client_port_is_open_where_the_settings_open_it() {
        let policy = Policy::of(&settings("listen: { client: \"[::]:4222\" }\n"), None, Some(40001));
        assert_eq!([4222, 4223].map(|port| gate(&policy, port)), [Who::Anyone, Who::Anyone]);
        assert!(!policy.ports().contains(&40001));
    }

    #[test]
    fn the_port_that_nimsforest_chooses_is_a_client_port() {
        let policy = Policy::of(&settings("engine: { kind: nimsforest }\n"), None, Some(40001));
        assert_eq!(gate(&policy, 40001), Who::Nobody);
    }

    #[test]
    fn a_port_that_two_servers_share_has_one_gate() {
        let text = "listen: { client: \"127.0.0.1:6222\", cluster: \"10.0.0.1:6222\" }\n";
        let policy = Policy::of(&settings(text), None, None);
        assert_eq!(gate(&policy, 6222), Who::PeersAnd(Vec::new()));
        assert_eq!(policy.gates.iter().filter(|gate| gate.ports.contains(&6222)).count(), 1);
    }
}
