//! What the servers tell of the cluster: whether a member reports a meta leader, and the meta group itself. Asks,
//! and changes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use forest_core::secrets::Credentials;
use futures::future::join_all;

use crate::cluster::sys::{self, Group, SysLink};
use crate::engine::monitor::{Jsz, Monitor};
use crate::engine::probe::EngineObservation;
use crate::probe::PeerTarget;

/// The cluster as one look saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The engine that answered as ours, by its pid.
    pub answers: Option<u32>,
    /// The meta leader that our own server reports.
    pub own_leader: Option<String>,
    /// How many voters our own server knows of.
    pub size: u64,
    /// Another node, and the leader that it reports. Asked only while our own server reports none.
    pub member: Option<(String, String)>,
    /// The group, by its leader's word.
    pub group: Option<Group>,
}

/// Where the own server's system account is.
#[derive(Debug, Clone, Copy)]
pub struct SysAt<'a> {
    /// The client port.
    pub at: SocketAddr,
    /// Who asks.
    pub sys: &'a Credentials,
}

/// Looks. `engine` is what was just seen of the own one, `pid` its process then.
pub async fn look(
    link: &mut SysLink,
    monitor: &Monitor,
    engine: Option<(&EngineObservation, u32)>,
    sys: Option<SysAt<'_>>,
    peers: &[PeerTarget],
) -> View {
    let ours = engine
        .filter(|(seen, _)| seen.varz.as_ref().is_ok_and(|varz| varz.server_name == seen.node.as_str()));
    let jsz = ours.and_then(|(seen, _)| seen.jsz.as_ref().ok());
    let own_leader = jsz.and_then(leader);
    let size = jsz.and_then(|jsz| jsz.meta_cluster.as_ref()).map_or(0, |meta| meta.cluster_size);
    let (member, group) = if own_leader.is_none() {
        (ask_members(monitor, peers).await, None)
    } else {
        (None, ask_leader(link, sys, monitor.deadline()).await)
    };
    View { answers: ours.map(|(_, pid)| pid), own_leader, size, member, group }
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

async fn ask_leader(link: &mut SysLink, sys: Option<SysAt<'_>>, deadline: Duration) -> Option<Group> {
    let SysAt { at, sys } = sys?;
    let asked = match link.client(at, sys, deadline).await {
        Ok(client) => sys::group(&client, deadline).await,
        Err(err) => Err(err),
    };
    asked.unwrap_or_else(|err| {
        tracing::debug!(%err, "the meta group cannot be asked");
        None
    })
}
