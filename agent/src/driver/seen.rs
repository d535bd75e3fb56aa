//! What is known of the world: learned by looks, kept by the driver alone, handed to every step by value.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forest_core::address::Address;
use forest_core::registry::Registry;
use forest_core::secrets::{Progress, Secrets};

use crate::child::{ChildPhase, ChildStatus};
use crate::cluster::turn::Turn;
use crate::cluster::view::View;
use crate::driver::task::ChildName;
use crate::probe::Observation;
use crate::share::ShareDir;

/// What the steps know of each other. A clone is cheap.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The node's address.
    pub address: Option<Address>,
    /// The directory of the share, verified.
    pub dir: Option<Arc<ShareDir>>,
    /// How long the share took to answer; `None` where no share is configured.
    pub share_latency: Option<Duration>,
    /// The last good registry, read now or kept from an earlier life.
    pub registry: Option<Arc<LastRead>>,
    /// The forest's secrets, read now or kept from an earlier life.
    pub secrets: Option<Arc<SecretsRead>>,
    /// The engine's process.
    pub engine: ChildView,
    /// The witness's process.
    pub witness: ChildView,
    /// What the servers last told of the cluster.
    pub view: Arc<View>,
    /// Whose turn it is to join, as it was watched.
    pub turn: Option<Turn>,
    /// In how many looks in a row the engine was deaf to the meta leader.
    pub deaf_looks: u32,
    /// In how many looks in a row the engine had no route to a node whose cluster port answers.
    pub routeless_looks: u32,
    /// How far the engine has carried out a rotation of credentials.
    pub engine_carried: Option<Progress>,
    /// And the witness, or that there is none.
    pub witness_carried: Option<Progress>,
    /// Corrupt copies of the registry that lie beside it.
    pub corrupt_copies: Arc<[String]>,
    /// Which file the engine's executable is.
    pub binary: Option<FileIdentity>,
    /// How many firewall rules of ours stand; `None` where none are wanted, or nobody could look.
    pub firewall_rules: Option<u64>,
    /// Where the engine takes clients, as it says itself: NimsForest chooses that port.
    pub client_port: Option<u16>,
    /// Since when this node is taken out on purpose.
    pub removed: Option<Arc<str>>,
}

/// A registry that could be parsed.
#[derive(Debug, Clone)]
pub struct LastRead {
    /// Its content.
    pub registry: Registry,
    /// When it was read from the share; `None`: it is the copy kept in state_dir.
    pub at: Option<Instant>,
}

/// Secrets that could be read; a founding is recorded in them.
#[derive(Debug, Clone)]
pub struct SecretsRead {
    /// Their content.
    pub secrets: Secrets,
    /// When they were read from the share; `None`: they are the copy kept in state_dir.
    pub at: Option<Instant>,
    /// Does the copy in state_dir say the same?
    pub kept: bool,
}

/// A child's process, as far as steps need to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildView {
    /// While it lives and nobody asked it to end.
    pub pid: Option<u32>,
    /// It lives, or will by itself.
    pub active: bool,
    /// It was asked to end, and has.
    pub stopped: bool,
}

impl From<&ChildStatus> for ChildView {
    fn from(status: &ChildStatus) -> Self {
        let stopped = matches!(status.phase, ChildPhase::Stopped { .. });
        let active = !stopped && status.phase != ChildPhase::Idle;
        Self { pid: status.pid(), active, stopped }
    }
}

/// What changes whenever a file is replaced or written to: device, inode, time of change in ns.
pub type FileIdentity = (u64, u64, i128);

/// One thing learned.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The node's address.
    Address(Address),
    /// The share's directory, and its latency where there is a share.
    Dir(Arc<ShareDir>, Option<Duration>),
    /// The share's directory is not to be used.
    NoDir,
    /// A good registry.
    Registry(Arc<LastRead>),
    /// Good secrets.
    Secrets(Arc<SecretsRead>),
    /// The corrupt copies that lie there now.
    CorruptCopies(Vec<String>),
    /// Which file the engine's executable is now.
    Binary(FileIdentity),
    /// How many firewall rules of ours stand.
    FirewallRules(Option<u64>),
    /// How far a child has carried out a rotation of credentials.
    Carried(ChildName, Option<Progress>),
    /// Taken out on purpose, or no more.
    Removed(Option<String>),
}

impl Seen {
    /// Takes in what an observation told; `true`: it is news to the steps.
    pub(super) fn observed(&mut self, observation: &Observation) -> bool {
        let joining = self.secrets.as_ref().and_then(|read| read.secrets.record()?.joining.as_deref());
        let reached = |node: &str| observation.peers.iter().any(|peer| peer.node == node && peer.tcp);
        self.turn = Turn::seen(self.turn.take(), joining, joining.is_some_and(reached), observation.at);
        self.deaf_looks = if observation.is_deaf() { self.deaf_looks.saturating_add(1) } else { 0 };
        self.routeless_looks =
            if observation.lacks_a_route() { self.routeless_looks.saturating_add(1) } else { 0 };
        let port = observation.client_port();
        let mut view = observation.view.clone();
        view.group = view.group.map(|group| group.named(&self.servers()));
        let news = *self.view != view || self.client_port != port;
        self.view = Arc::new(view);
        self.client_port = port;
        news
    }

    /// The names of all servers that this forest may have had.
    fn servers(&self) -> BTreeSet<String> {
        let Some(secrets) = self.secrets.as_ref().map(|read| &read.secrets) else { return BTreeSet::new() };
        let record = secrets.record();
        let nodes = self.registry.iter().flat_map(|read| read.registry.every_node());
        let keepers = record.iter().flat_map(|record| {
            let duty = record.witness.as_ref().map(|duty| duty.node.clone());
            duty.into_iter().chain([record.founder.clone()])
        });
        let mut names: BTreeSet<String> = nodes.chain(keepers).collect();
        names.extend(secrets.witnesses(names.iter().map(String::as_str)).collect::<Vec<_>>());
        names
    }

    /// How far the rotation of credentials is, by the secrets as they were read last.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        Some(self.secrets.as_ref()?.secrets.record()?.progress())
    }

    /// How far this node has carried it out: its engine, its witness and the copy that it keeps.
    #[must_use]
    pub fn carried(&self) -> Option<Progress> {
        let progress = self.progress().filter(|_| self.secrets.as_ref().is_some_and(|read| read.kept));
        let both = progress == self.engine_carried && progress == self.witness_carried;
        progress.filter(|_| both)
    }

    /// Takes a fact in.
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Address(address) => self.address = Some(address),
            Fact::Dir(dir, latency) => {
                self.dir = Some(dir);
                self.share_latency = latency;
            }
            Fact::NoDir => self.dir = None,
            Fact::Registry(read) => self.registry = Some(read),
            Fact::Secrets(read) => self.secrets = Some(read),
            Fact::CorruptCopies(names) => self.corrupt_copies = names.into(),
            Fact::Binary(identity) => self.binary = Some(identity),
            Fact::FirewallRules(count) => self.firewall_rules = count,
            Fact::Carried(ChildName::Engine, progress) => self.engine_carried = progress,
            Fact::Carried(_, progress) => self.witness_carried = progress,
            Fact::Removed(since) => self.removed = since.map(Into::into),
        }
    }
}
