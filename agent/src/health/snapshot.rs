//! What the driver publishes: everything that /health says, as it was when it was last looked at.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forest_core::address::Address;
use forest_core::health::{LastExit, Status};
use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use forest_core::secrets::Progress;

use crate::fault::Fault;
use crate::health::Events;

/// One published state of the node. Cheap to clone: what is large is shared.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The forest.
    pub forest: ForestId,
    /// The node.
    pub node: NodeId,
    /// Tells this agent from another with the same id.
    pub instance: Arc<str>,
    /// When this agent began.
    pub started: Instant,
    /// How often things are looked at; what is older than three of these is stale.
    pub interval: Duration,
    /// When the driver last made progress.
    pub beat: Instant,
    /// The node's address, once known.
    pub address: Option<Address>,
    /// The step the node is at, or `ready`.
    pub step: &'static str,
    /// The engine.
    pub engine: EngineView,
    /// The seven checks.
    pub findings: Findings,
    /// Addresses of the peers, who may see more than strangers.
    pub peer_ips: Arc<[IpAddr]>,
    /// How far this node has carried out a rotation of credentials; `None`: not so far as the secrets say.
    pub rotation: Option<Progress>,
    /// The last state changes.
    pub events: Events,
}

/// The engine as /health shows it.
#[derive(Debug, Clone, Default)]
pub struct EngineView {
    /// `nats-server` or `nimsforest`.
    pub kind: &'static str,
    /// Told by its monitoring port.
    pub version: Option<String>,
    /// While it runs.
    pub pid: Option<u32>,
    /// Starts after the first.
    pub restarts: u64,
    /// Its last end.
    pub last_exit: Option<LastExit>,
    /// Its last lines.
    pub log_tail: Arc<[String]>,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// How it went.
    pub status: Status,
    /// Why, unless it passed.
    pub reason: Option<Reason>,
    /// A sentence for a person.
    pub output: String,
    /// The same for strangers, where they may not have all of it.
    pub public: Option<String>,
    /// Not well, and the agent is about to put it right.
    pub under_way: bool,
    /// What was measured.
    pub observed: Observed,
    /// When; `None`: never looked at.
    pub at: Option<Instant>,
    /// Of `peers:reachable` alone.
    pub peers: Option<Vec<Peer>>,
}

/// A measured value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observed {
    /// Nothing to measure.
    Nothing,
    /// A count or an id.
    Count(u64),
    /// Milliseconds.
    Millis(f64),
    /// Seconds since then, counted when somebody asks.
    Since(Instant),
}

/// One peer, with nothing left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub node: String,
    /// Its address.
    pub address: String,
    /// TCP to its cluster port.
    pub tcp: bool,
    /// A route to it.
    pub route: bool,
    /// What failed; names no address.
    pub error: Option<String>,
}

/// The seven checks, by the keys of the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// `engine:process`
    pub engine_process: Finding,
    /// `nats:server`
    pub nats_server: Finding,
    /// `nats:jetstream`
    pub nats_jetstream: Finding,
    /// `peers:reachable`
    pub peers_reachable: Finding,
    /// `registry:entry`
    pub registry_entry: Finding,
    /// `share:mounted`
    pub share_mounted: Finding,
    /// `firewall:rules`
    pub firewall_rules: Finding,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub fn pass(observed: Observed, output: impl Into<String>, at: Instant) -> Self {
        Self {
            status: Status::Pass,
            reason: None,
            output: output.into(),
            public: None,
            under_way: false,
            observed,
            at: Some(at),
            peers: None,
        }
    }

    /// Not well: `status` and the fault that says why.
    #[must_use]
    pub fn of(status: Status, fault: &Fault, observed: Observed, at: Instant) -> Self {
        let say = |message: &str| format!("{message}; {}", fault.remedy());
        Self {
            status,
            reason: Some(fault.reason),
            output: say(&fault.message),
            public: fault.public.as_deref().map(say),
            under_way: false,
            observed,
            at: Some(at),
            peers: None,
        }
    }

    /// The same finding where the agent is about to put it right.
    #[must_use]
    pub fn under_way(self) -> Self {
        Self { under_way: true, ..self }
    }

    /// Not looked at yet: `fail`, reason `starting`.
    #[must_use]
    pub fn starting() -> Self {
        Self {
            status: Status::Fail,
            reason: Some(Reason::Starting),
            output: "not looked at yet".to_owned(),
            public: None,
            under_way: true,
            observed: Observed::Nothing,
            at: None,
            peers: None,
        }
    }

    /// The same finding where no more than a warning is due.
    #[must_use]
    pub fn at_most_warn(mut self) -> Self {
        self.status = self.status.min(Status::Warn);
        self
    }
}

impl Findings {
    /// Nothing looked at yet.
    #[must_use]
    pub fn starting() -> Self {
        let starting = Finding::starting;
        Self {
            engine_process: starting(),
            nats_server: starting(),
            nats_jetstream: starting(),
            peers_reachable: starting(),
            registry_entry: starting(),
            share_mounted: starting(),
            firewall_rules: starting(),
        }
    }

    /// Every finding with its key, in the order of the report.
    #[must_use]
    pub fn iter(&self) -> [(&'static str, &Finding); 7] {
        [
            ("engine:process", &self.engine_process),
            ("nats:server", &self.nats_server),
            ("nats:jetstream", &self.nats_jetstream),
            ("peers:reachable", &self.peers_reachable),
            ("registry:entry", &self.registry_entry),
            ("share:mounted", &self.share_mounted),
            ("firewall:rules", &self.firewall_rules),
        ]
    }
}
