//! agent.yaml: read, checked whole before anything is done, and then a value that nobody questions again.
//!
//! Three types on the way: the text, the YAML's tree as it stands ([`forest_core::yaml::raw`]), and [`Settings`]. Nothing below main
//! reads the environment, so `${VAR}` in a value is just that text.

mod load;
mod share;
mod validate;
mod value;
mod vocabulary;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use forest_core::address::Address;
use forest_core::id::{ForestId, NodeId};
use ipnet::IpNet;
use url::Url;

pub use forest_core::yaml::{ConfigError, Place};

/// Everything that the agent was told, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The forest this node belongs to.
    pub forest: ForestId,
    /// This node's id, also its NATS server_name.
    pub node: NodeId,
    /// The node's address, or how to find it.
    pub address: AddressChoice,
    /// Path of registry.json; with a share it lies below the mountpoint.
    pub registry: PathBuf,
    /// How often everything is looked at.
    pub poll_interval: Duration,
    /// The share to mount; `None`: the registry lies in a plain directory.
    pub share: Option<Share>,
    /// The NATS-bearing child.
    pub engine: Engine,
    /// The second small nats-server that a forest below three nodes needs.
    pub witness: Witness,
    /// Addresses to listen on.
    pub listen: Listen,
    /// The node's own firewall.
    pub firewall: Firewall,
    /// Kept over reboots.
    pub state_dir: PathBuf,
    /// Kept until the next boot.
    pub runtime_dir: PathBuf,
    /// Path of node-info.json.
    pub node_info: PathBuf,
}

impl Settings {
    /// Where the witness listens: as given, or its standard ports on the hosts of `listen`.
    #[must_use]
    pub fn witness_listen(&self) -> WitnessListen {
        self.witness.listen.unwrap_or(WitnessListen {
            client: SocketAddr::new(self.listen.client.ip(), 4223),
            cluster: SocketAddr::new(self.listen.cluster.ip(), 6223),
        })
    }
}

/// `address:` of agent.yaml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressChoice {
    /// The best address of this machine's interfaces.
    Auto,
    /// This one.
    Given(Address),
}

/// `share:` of agent.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Host part of `//host/share/dir`: a name or an IP literal (IPv6 without brackets).
    pub host: String,
    /// The rest: `share` and, perhaps, directories below it, without a leading slash.
    pub path: String,
    /// Where it is to be mounted.
    pub mountpoint: PathBuf,
    /// SMB user.
    pub username: String,
    /// File with the password, 0600.
    pub password_file: PathBuf,
    /// Mount options, as given or by default; never `username`, `password`, `ip`, `unc` or `prefixpath`.
    pub options: Vec<String>,
}

/// `engine:` of agent.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Which program.
    pub kind: EngineKind,
    /// Path of its executable.
    pub binary: PathBuf,
    /// Where to get the executable from if it is missing.
    pub download: Option<Download>,
    /// JetStream's directory.
    pub data_dir: PathBuf,
}

/// What kind of engine this node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// nats-server itself, with a config the agent writes.
    NatsServer,
    /// NimsForest, which has a NATS server inside.
    Nimsforest,
}

impl EngineKind {
    /// The name as agent.yaml and /health have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NatsServer => "nats-server",
            Self::Nimsforest => "nimsforest",
        }
    }
}

/// A plain executable to fetch, checked before it is put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// http, https or file.
    pub url: Url,
    /// 32 bytes, decoded.
    pub sha256: [u8; 32],
}

/// `witness:` of agent.yaml, kept for the node that has to run one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// A nats-server; `None`: the engine's own for kind nats-server, else the one in PATH.
    pub binary: Option<PathBuf>,
    /// Where to get it from if it is missing.
    pub download: Option<Download>,
    /// Client and cluster address; `None`: ports 4223 and 6223 on the hosts of `listen`.
    pub listen: Option<WitnessListen>,
}

/// `witness.listen:` of agent.yaml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WitnessListen {
    /// Client connections.
    pub client: SocketAddr,
    /// Routes.
    pub cluster: SocketAddr,
}

/// `listen:` of agent.yaml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// NATS clients.
    pub client: SocketAddr,
    /// NATS routes.
    pub cluster: SocketAddr,
    /// NATS monitoring.
    pub monitor: SocketAddr,
    /// The agent's own HTTP.
    pub health: SocketAddr,
}

/// `firewall:` of agent.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// May the agent write rules?
    pub manage: bool,
    /// Who, beside the forest's own nodes, may reach the ports of monitoring and health.
    pub monitoring_from: Sources,
}

/// Where connections may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    /// From everywhere.
    Any,
    /// From these networks; an address is a network of one.
    Nets(Vec<IpNet>),
}
