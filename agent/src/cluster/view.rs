//! What the servers tell of the cluster: whether a member reports a meta leader, and the meta group itself. Asks,
//! and changes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use forest_core::secrets::Credentials;
use futures::future::join_all;
use jiff::Timestamp;

use crate::cluster::sys::{self, Group, SysLink};
use crate::driver::Seen;
use crate::engine::monitor::{Jsz, Monitor};
use crate::engine::probe::EngineObservation;
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
    /// The meta leader that our own server reports.
    pub own_leader: Option<String>,
    /// How many voters our own server knows of.
    pub size: u64,
    /// Another node, and the leader that it reports. Asked only while our own server reports none.
    pub member: Option<(String, String)>,
    /// The group, by its leader's word.
    pub group: Option<Group>,
}

/// Where the system account can be asked, and as whom.
#[derive(Debug, Clone)]
pub struct SysAt {
    /// A client port.
    pub at: SocketAddr,
    /// Who asks.
    pub sys: Credentials,
}

impl SysAt {
    /// At the engine; where that has no such user, as NimsForest, at the witness, if it runs here.
    #[must_use]
    pub fn of(settings: &Settings, seen: &Seen) -> Option<Self> {
        let sys = seen.secrets.as_ref()?.secrets.record()?.sys.clone();
        let at = match settings.engine.kind {
            EngineKind::NatsServer => settings.listen.client,
            EngineKind::Nimsforest => seen.witness.pid.map(|_| settings.witness_listen().client)?,
        };
        Some(Self { at, sys })
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
    let (member, group) = if own_leader.is_none() {
        (ask_members(monitor, peers).await, None)
    } else {
        (None, ask_leader(link, sys, monitor.deadline()).await)
    };
    View {
        answers: ours.map(|(_, pid)| pid),
        loaded,
        cluster: cluster.unwrap_or_default(),
        own_leader,
        size,
        member,
        group,
    }
}

fn leader(jsz: &Jsz) -> Option<String> {
    let leader = &jsz.meta_cluster.as_ref()?.leader;
    (!leader.is_empty()).then(|| leader.clone())
}

async fn ask_members(monitor: &Monitor, peers: &[PeerTarget]) -> Option<(String, String)> {
    let asked = peers.iter().map(|peer| async move {
        let jsz = monitor.jsz(SocketAddr::new(peer.ip, peer.monitor)).await.ok()?;
        Some((peer.node.clone(), leader(&jsz)?))
    });
    join_all(asked).await.into_iter().flatten().next()
}

async fn ask_leader(link: &mut SysLink, sys: Option<SysAt>, deadline: Duration) -> Option<Group> {
    let SysAt { at, sys } = sys?;
    let asked = match link.client(at, &sys, deadline).await {
        Ok(client) => sys::group(&client, deadline).await,
        Err(err) => Err(err),
    };
    asked.unwrap_or_else(|err| {
        tracing::debug!(%err, "the meta group cannot be asked");
        None
    })
}
