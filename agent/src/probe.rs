//! The prober: asks the engine and knocks at the peers, again and again, and tells the driver. It changes nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use forest_core::address::Address;
use forest_core::registry::Entry;
use futures::future::join_all;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use crate::cluster::sys::SysLink;
use crate::cluster::view::{self, SysAt, View};
use crate::driver::Seen;
use crate::engine::monitor::{Monitor, Routez};
use crate::engine::probe::{EngineObservation, Probe, Target};
use crate::health::Peer;
use crate::settings::{EngineKind, Settings};

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long one look may take: five questions after each other, each of which is answered just in time.
pub const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// The pause between two looks while the engine is not well yet: a start is seen soon.
const EAGER: Duration = Duration::from_millis(200);
/// After so many eager looks in a row the pause is `poll_interval` again: an engine that stays ill is no start.
const EAGER_LOOKS: u32 = 50;

/// What one look saw.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The engine, if it was running.
    pub engine: Option<EngineObservation>,
    /// The peers.
    pub peers: Vec<Peer>,
    /// The cluster.
    pub view: View,
    /// When the look ended.
    pub at: Instant,
}

impl Observation {
    /// The server's version, if it told it.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        let varz = self.engine.as_ref()?.varz.as_ref().ok()?;
        (varz.server_name == self.engine.as_ref()?.node.as_str()).then(|| varz.version.clone())
    }

    /// Where our server takes clients, as it says itself.
    #[must_use]
    pub fn client_port(&self) -> Option<u16> {
        let engine = self.engine.as_ref()?;
        let varz = engine.varz.as_ref().ok().filter(|varz| varz.server_name == engine.node.as_str())?;
        (varz.port != 0).then_some(varz.port)
    }

    /// Can JetStream be used?
    #[must_use]
    pub fn jetstream_is_well(&self) -> bool {
        let engine = self.engine.as_ref();
        engine.is_some_and(|engine| crate::engine::verdict::jetstream_check(engine).reason.is_none())
    }

    /// Does the server take clients and follow a meta leader elsewhere, whom none of its clients can ask anything?
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        let Some(engine) = &self.engine else { return false };
        let elsewhere = self.view.own_leader.as_ref().is_some_and(|leader| leader != engine.node.as_str());
        elsewhere && engine.round_trip.is_ok() && engine.api.is_err()
    }

    /// Is there a node whose cluster port answers, and no route to it?
    #[must_use]
    pub fn lacks_a_route(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.routez.is_ok())
            && self.peers.iter().any(|peer| peer.tcp && !peer.route)
    }

    /// Does the engine answer as it should?
    #[must_use]
    pub fn engine_is_well(&self) -> bool {
        let engine = self.engine.as_ref();
        engine.is_some_and(|engine| crate::engine::verdict::nats_check(engine).reason.is_none())
    }
}

/// Another node of the forest, as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTarget {
    /// Its id.
    pub node: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its cluster port.
    pub cluster: u16,
    /// Its monitoring port.
    pub monitor: u16,
}

/// The peers: the other entries of the forest in the last good registry whose address can be read.
#[must_use]
pub fn peers(settings: &Settings, seen: &Seen) -> Vec<PeerTarget> {
    let Some(read) = &seen.registry else {
        return Vec::new();
    };
    let others = |entry: &Entry| entry.id != settings.node.as_str();
    let target = |entry: Entry| {
        let ip = entry.ip.parse::<Address>().ok()?.ip();
        Some(PeerTarget { ip, cluster: entry.cluster_port(), monitor: entry.monitor_port(), node: entry.id })
    };
    read.registry.entries(&settings.forest).into_iter().filter(others).filter_map(target).collect()
}

/// Runs until nobody listens any more. `running` is the engine's pid, `seen` who the peers are.
pub async fn run(
    settings: Arc<Settings>,
    mut running: watch::Receiver<Option<u32>>,
    seen: watch::Receiver<Seen>,
    observations: mpsc::Sender<Observation>,
) {
    let (mut probe, monitor) = match (Probe::new(DEADLINE), Monitor::new(DEADLINE)) {
        (Ok(probe), Ok(monitor)) => (probe, monitor),
        (Err(err), _) | (_, Err(err)) => {
            tracing::error!("the engine cannot be asked anything: {err}");
            return;
        }
    };
    let target = target(&settings);
    let mut link = SysLink::default();
    let mut eager = 0;
    // Those to whom a route stood at the last look.
    let mut routed: BTreeSet<String> = BTreeSet::new();
    loop {
        let begun = Instant::now();
        let pid = *running.borrow_and_update();
        let known = seen.borrow().clone();
        let targets = peers(&settings, &known);
        let sys = SysAt::of(&settings, &known);
        let servers = async {
            let engine = if pid.is_some() { Some(probe.look(&target).await) } else { None };
            let view = view::look(&mut link, &monitor, engine.as_ref().zip(pid), sys, &targets).await;
            (engine, view)
        };
        let knocks = targets.iter().map(|peer| reach(peer, routed.contains(&peer.node)));
        let ((engine, view), knocks) = tokio::join!(servers, join_all(knocks));
        let routes = engine.as_ref().and_then(|engine| engine.routez.as_ref().ok());
        let peers = targets.into_iter().zip(knocks);
        let peers = join_all(peers.map(|(peer, knock)| judge(&monitor, peer, knock, routes))).await;
        routed = peers.iter().filter(|peer| peer.route).map(|peer| peer.node.clone()).collect();
        let observation = Observation { engine, peers, view, at: Instant::now() };
        let well = observation.engine_is_well() && observation.jetstream_is_well();
        let starting = observation.engine.is_some() && !well;
        if observations.send(observation).await.is_err() {
            return;
        }
        eager = if starting { eager + 1 } else { 0 };
        let soon = starting && eager <= EAGER_LOOKS;
        let eager_pause = EAGER.min(settings.poll_interval);
        // Looks begin at this interval: one that waited for somebody who is away must not put off the next.
        let rest = settings.poll_interval.saturating_sub(begun.elapsed());
        let pause = if soon { eager_pause } else { rest.max(eager_pause) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = running.changed() => if changed.is_err() { return },
        }
    }
}

fn target(settings: &Settings) -> Target {
    let client = match settings.engine.kind {
        EngineKind::NatsServer => Some(settings.listen.client),
        // Its client port is random; /varz tells it.
        EngineKind::Nimsforest => None,
    };
    Target { node: settings.node.clone(), monitor: settings.listen.monitor, client }
}

/// Does the peer's cluster port answer? `Err` says what came instead. Where a route stands it is enough that the
/// same server's monitoring port answers: every knock at the cluster port leaves two lines in the peer's log.
async fn reach(target: &PeerTarget, routed: bool) -> Result<(), String> {
    if routed && knock(target.ip, target.monitor, DEADLINE / 2).await.is_ok() {
        return Ok(());
    }
    knock(target.ip, target.cluster, DEADLINE).await
}

async fn knock(ip: IpAddr, port: u16, deadline: Duration) -> Result<(), String> {
    match tokio::time::timeout(deadline, TcpStream::connect((ip, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(err)) => Err(format!("TCP {port}: {err}")),
        Err(_) => Err(format!("TCP {port}: no answer within {} s", deadline.as_secs())),
    }
}

async fn judge(
    monitor: &Monitor,
    target: PeerTarget,
    knock: Result<(), String>,
    routes: Option<&Routez>,
) -> Peer {
    let (tcp, error) = (knock.is_ok(), knock.err());
    let route = tcp && stands(monitor, &target, routes).await;
    let error = error.or_else(|| (!route).then(|| "it answers, and no route to it stands".to_owned()));
    Peer { node: target.node, address: target.ip.to_string(), tcp, route, error }
}

/// Is there a route to this peer? By name where the server tells names (2.10 and later), else by the server id
/// that the peer's own monitoring port tells.
async fn stands(monitor: &Monitor, target: &PeerTarget, routes: Option<&Routez>) -> bool {
    let Some(Routez { routes }) = routes else {
        return false;
    };
    if routes.iter().any(|route| route.remote_name == target.node) {
        return true;
    }
    if routes.iter().all(|route| !route.remote_name.is_empty()) {
        return false;
    }
    let varz = monitor.varz(SocketAddr::new(target.ip, target.monitor)).await;
    varz.is_ok_and(|varz| routes.iter().any(|route| route.remote_id == varz.server_id))
}
