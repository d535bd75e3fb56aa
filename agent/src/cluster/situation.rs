//! The inputs of the decision, gathered: what was seen, and what lies on this machine's own disk.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use forest_core::address::Address;
use forest_core::registry::{Entry, Registry};
use forest_core::secrets::Record;

use crate::cluster::machine::{Inputs, Plan, WitnessState, decide, kept_duty};
use crate::cluster::marker::MarkerFile;
use crate::cluster::store::{self, Store};
use crate::cluster::witness;
use crate::driver::Seen;
use crate::fault::Fault;
use crate::settings::Settings;

/// What was read longer ago than so many intervals, and this, is no fresh knowledge.
const FRESH_INTERVALS: u32 = 3;
const FRESH_SLACK: Duration = Duration::from_secs(5);

/// The decision, and what it was made of.
#[derive(Debug, Clone)]
pub struct Situation {
    /// What is to be done.
    pub plan: Plan,
    /// The founding, if it is known.
    pub record: Option<Record>,
    /// The nodes of the forest, but those taken out on purpose.
    pub nodes: BTreeSet<String>,
    /// Where the servers that are to be listed take routes, this one's too.
    pub routes: Vec<SocketAddr>,
    store: Store,
    has_peers: bool,
}

impl Situation {
    /// As it is now. Reads the markers and the stores of this node.
    ///
    /// # Errors
    /// A store or a marker cannot be read: then nothing must be decided on it.
    pub fn of(settings: &Settings, seen: &Seen) -> Result<Self, Fault> {
        let turn_is_stale = seen.turn.as_ref().is_some_and(|turn| turn.is_stale(Instant::now()));
        let record = seen.secrets.as_ref().and_then(|read| read.secrets.record().cloned());
        let marker = MarkerFile::new(&settings.state_dir).read()?;
        let registry = seen.registry.as_ref().map(|read| &read.registry);
        let entries = registry.map_or(Vec::new(), |registry| members(registry, settings));
        let nodes: BTreeSet<String> = entries.iter().map(|entry| entry.id.clone()).collect();
        let duty = record.as_ref().and_then(|record| kept_duty(record, settings.node.as_str()));
        let stored = match duty {
            Some(duty) => store::look(&witness::store_dir(settings, &duty.name))? != Store::Empty,
            None => false,
        };
        let store = store::look(&settings.engine.data_dir)?;
        let view = &seen.view;
        let plan = decide(&Inputs {
            me: settings.node.as_str(),
            nodes: &nodes,
            record: record.as_ref(),
            fresh: is_fresh(settings, seen),
            marker: marker.as_ref(),
            store,
            engine_runs: seen.engine.pid.is_some(),
            witness: WitnessState { runs: seen.witness.active, stored },
            member_reports_leader: view.member.is_some(),
            turn_is_stale,
            own_reports_leader: view.own_leader.is_some() && view.answers == seen.engine.pid,
            group: view.group.as_ref(),
        });
        let has_peers = nodes.iter().any(|node| node != settings.node.as_str());
        let listed = if plan.alone { &[] } else { &entries[..] };
        Ok(Self { routes: routes(settings, seen.address, listed), plan, record, nodes, store, has_peers })
    }

    /// May NimsForest, which began without an agent, expect a cluster? One that runs alone on a standalone store
    /// goes on as it is.
    #[must_use]
    pub fn may_be_clustered(&self) -> bool {
        self.store != Store::Standalone || self.has_peers
    }
}

/// The entries of nodes that are part of the forest: those taken out on purpose are not.
pub(crate) fn members(registry: &Registry, settings: &Settings) -> Vec<Entry> {
    let buried = |entry: &Entry| match entry.id.parse() {
        Ok(id) => registry.tombstone(&settings.forest, &id).is_some(),
        // No agent writes such an id.
        Err(_) => true,
    };
    registry.entries(&settings.forest).into_iter().filter(|entry| !buried(entry)).collect()
}

fn routes(settings: &Settings, own: Option<Address>, entries: &[Entry]) -> Vec<SocketAddr> {
    let others = entries.iter().filter(|entry| entry.id != settings.node.as_str());
    let others =
        others.filter_map(|entry| Some((entry.ip.parse::<Address>().ok()?.ip(), entry.cluster_port())));
    let own = own.map(|own| (own.ip(), settings.listen.cluster.port()));
    let routes: BTreeSet<SocketAddr> = own.into_iter().chain(others).map(SocketAddr::from).collect();
    routes.into_iter().collect()
}

/// Were registry and secrets read just now?
pub(crate) fn is_fresh(settings: &Settings, seen: &Seen) -> bool {
    let limit = settings.poll_interval * FRESH_INTERVALS + FRESH_SLACK;
    let recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() <= limit);
    recent(seen.registry.as_ref().and_then(|read| read.at))
        && recent(seen.secrets.as_ref().and_then(|read| read.at))
}
