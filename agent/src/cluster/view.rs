//! What the servers tell of the cluster: whether a member reports a meta leader, and the meta group itself. Asks,
//! and changes nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use forest_core::secrets::Credentials;
use futures::future::join_all;
use jiff::Timestamp;

use crate::cluster::strays::{self, Stray};
use crate::cluster::sys::{self, Group, SysLink};
use crate::driver::Seen;
use crate::engine::monitor::{Jsz, Monitor};
use crate::engine::probe::EngineObservation;
use crate::engine::version::is_before_2_10;
use crate::probe::PeerTarget;
use crate::settings::{EngineKind, Settings};

/// The cluster as one look saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The engine that answered as ours, by its pid.
    pub answers: Option<u32>,
    /// When it last read its configuration.
    pub loaded: Option<Timestamp>,
    /// The name of its cluster; empty where it is in none.
    pub cluster: String,
    /// The routes that stand, by the server's own numbers, where it is one that is deaf to what connects after a
    /// reload: nats-server before 2.10 (measured with 2.9.10). Else empty.
    pub unheard: BTreeSet<u64>,
    /// The meta leader that our own server reports.
    pub own_leader: Option<String>,
    /// How many voters our own server knows of.
    pub size: u64,
    /// Another node, and the leader that it reports. Asked only while our own server reports none.
    pub member: Option<(String, String)>,
    /// The group, by its leader's word.
    pub group: Option<Group>,
    /// Streams with a replica on the witness here; asked only beside NimsForest, which may place them there.
    pub strays: Vec<Stray>,
}

/// Where the system account can be asked, and as whom.
#[derive(Debug, Clone)]
pub struct SysAt {
    /// A client port.
    pub at: SocketAddr,
    /// Who asks.
    pub sys: Credentials,
    /// The witness, where it is what is asked.
    pub witness: Option<String>,
}

impl SysAt {
    /// At the engine; where that has no such user, as NimsForest, at the witness, if it runs here.
    #[must_use]
    pub fn of(settings: &Settings, seen: &Seen) -> Option<Self> {
        let record = seen.secrets.as_ref()?.secrets.record()?;
        let (at, witness) = match settings.engine.kind {
            EngineKind::NatsServer => (settings.listen.client, None),
            EngineKind::Nimsforest => {
                let duty = record.witness.as_ref().filter(|duty| duty.node == settings.node.as_str());
                let at = seen.witness.pid.map(|_| settings.witness_listen().client)?;
                (at, duty.map(|duty| duty.name.clone()))
            }
        };
        Some(Self { at, sys: record.in_force().sys.clone(), witness })
    }
}

/// Looks. `engine` is what was just seen of the own one, `pid` its process then.
pub async fn look(
    link: &mut SysLink,
    monitor: &Monitor,
    engine: Option<(&EngineObservation, u32)>,
    sys: Option<SysAt>,
    peers: &[PeerTarget],
) -> View {
    let ours = engine
        .filter(|(seen, _)| seen.varz.as_ref().is_ok_and(|varz| varz.server_name == seen.node.as_str()));
    let varz = ours.and_then(|(seen, _)| seen.varz.as_ref().ok());
    let cluster = varz.map(|varz| varz.cluster.name.clone());
    let loaded = varz.and_then(|varz| varz.config_load_time.parse().ok());
    let jsz = ours.and_then(|(seen, _)| seen.jsz.as_ref().ok());
    let own_leader = jsz.and_then(leader);
    let size = jsz.and_then(|jsz| jsz.meta_cluster.as_ref()).map_or(0, |meta| meta.cluster_size);
    let (mut member, mut group, mut strays) = (None, None, Vec::new());
    match (&own_leader, sys) {
        (None, _) => member = ask_members(monitor, peers).await,
        (Some(_), Some(sys)) => (group, strays) = ask_as_sys(link, sys, monitor.deadline()).await,
        (Some(leader), None) => {
            let own = ours.filter(|(seen, _)| seen.node.as_str() == leader).and(jsz);
            group = match own {
                Some(jsz) => Group::of(jsz),
                None => ask_leader(monitor, peers, leader).await,
            };
        }
    }
    View {
        answers: ours.map(|(_, pid)| pid),
        loaded,
        cluster: cluster.unwrap_or_default(),
        unheard: ours.map_or_else(BTreeSet::new, |(seen, _)| unheard(seen)),
        own_leader,
        size,
        member,
        group,
        strays,
    }
}

fn unheard(seen: &EngineObservation) -> BTreeSet<u64> {
    let (Ok(varz), Ok(routez)) = (&seen.varz, &seen.routez) else { return BTreeSet::new() };
    if !is_before_2_10(&varz.version) {
        return BTreeSet::new();
    }
    routez.routes.iter().map(|route| route.rid).collect()
}

fn leader(jsz: &Jsz) -> Option<String> {
    let leader = &jsz.meta_cluster.as_ref()?.leader;
    (!leader.is_empty()).then(|| leader.clone())
}

async fn ask_members(monitor: &Monitor, peers: &[PeerTarget]) -> Option<(String, String)> {
    let asked = peers.iter().map(|peer| async move {
        let at = SocketAddr::new(peer.ip, peer.monitor);
        let leader = leader(&monitor.jsz(at).await.ok()?)?;
        // An address may have come to somebody else's server.
        let varz = monitor.varz(at).await.ok()?;
        (varz.server_name == peer.node).then(|| (peer.node.clone(), leader))
    });
    join_all(asked).await.into_iter().flatten().next()
}

/// The leader at its own monitoring port, where nobody here has a user of the system account. A witness that leads
/// has no such port.
async fn ask_leader(monitor: &Monitor, peers: &[PeerTarget], leader: &str) -> Option<Group> {
    let peer = peers.iter().find(|peer| peer.node == leader)?;
    let jsz = monitor.jsz(SocketAddr::new(peer.ip, peer.monitor)).await.ok()?;
    Group::of(&jsz).filter(|group| group.leader == leader)
}

async fn ask_as_sys(link: &mut SysLink, at: SysAt, deadline: Duration) -> (Option<Group>, Vec<Stray>) {
    let SysAt { at, sys, witness } = at;
    let unknown = |err| tracing::debug!(%err, "the system account cannot be asked");
    let client = match link.client(at, &sys, deadline).await {
        Ok(client) => client,
        Err(err) => {
            unknown(err);
            return (None, Vec::new());
        }
    };
    let on_witness = async {
        match &witness {
            Some(name) => strays::on(&client, name, deadline).await,
            None => Ok(Vec::new()),
        }
    };
    let (group, strays) = futures::join!(sys::group(&client, deadline), on_witness);
    (group.map_err(unknown).unwrap_or_default(), strays.map_err(unknown).unwrap_or_default())
}
