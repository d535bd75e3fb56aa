//! What should be with the engine, by the settings and what was seen. Writes nothing.

use std::net::SocketAddr;

use forest_core::address::Address;
use forest_core::reason::Reason;
use forest_core::registry::Registry;
use forest_core::secrets::{Record, Stage};

use crate::cluster::machine::{EnginePlan, Wait};
use crate::cluster::marker::Phase;
use crate::cluster::routes;
use crate::cluster::situation::Situation;
use crate::driver::Seen;
use crate::engine::limits::Limits;
use crate::engine::nats_config::{Cluster, NatsConfig, Role};
use crate::engine::planned::Planned;
use crate::engine::{nats_server, nimsforest};
use crate::fault::Fault;
use crate::settings::{EngineKind, Settings};

/// What should be with the engine.
pub(super) enum Wanted {
    /// It runs.
    Run(Run),
    /// It joins once it is its turn, which it takes from whoever is named.
    Turn(Option<String>),
    /// It is not started, for this reason; one that runs is left alone.
    Hold(Fault),
    /// It does not run, for this reason.
    Stop(String),
    /// The same, but it lets its clients go first.
    Retire(String),
}

/// A start, or a run, of the engine.
pub(super) struct Run {
    pub(super) planned: Planned,
    /// Those that the configuration bears: worked out anew, they would follow the free space of the moment, and
    /// no server takes other ones while it runs.
    pub(super) limits: Option<Limits>,
    /// What is to be noted first: the founding, and how far this node has come.
    pub(super) note: Option<(String, Phase)>,
    /// It has joined, and others may.
    pub(super) ends_turn: bool,
}

/// What should be with the engine, by the settings and what was seen. Writes nothing.
///
/// # Errors
/// `engine_waits_for_registry` while neither a fresh registry nor a kept one is there; why a plan cannot be made.
pub(super) fn wanted(
    settings: &Settings,
    has_witness: bool,
    seen: &Seen,
    renewed: bool,
) -> Result<Wanted, Fault> {
    if let Some(since) = &seen.removed {
        return Ok(Wanted::Stop(format!("the node was taken out on purpose at {since}")));
    }
    if let Some(since) = retired(settings, seen) {
        return Ok(Wanted::Retire(format!("the node leaves for good, since {since}")));
    }
    let Some(read) = &seen.registry else {
        let message =
            "the registry was never read, and no copy of it is kept; a start now could make a lone node";
        return Err(Fault::new(Reason::EngineWaitsForRegistry, message));
    };
    let Some(address) = seen.address else {
        return Err(Fault::new(Reason::AddressNone, "the node's address is not known"));
    };
    let situation = Situation::of(settings, seen)?;
    let plan = |lone| nimsforest_plan(settings, &read.registry, address, lone);
    if settings.engine.kind == EngineKind::Nimsforest && !(has_witness && situation.may_be_clustered()) {
        // With nobody to make up a quorum with, a lone node that expects a cluster would never elect a leader.
        let planned = plan(nimsforest::Lone::Standalone)?;
        return Ok(Wanted::Run(Run { planned, limits: None, note: None, ends_turn: false }));
    }
    match (&situation.plan.engine, &situation.record) {
        (EnginePlan::Wait(wait), _) => Ok(Wanted::Hold(wait.fault())),
        (EnginePlan::TakeTurn(before), _) => Ok(Wanted::Turn(before.clone())),
        (EnginePlan::Yield(node), _) => Ok(Wanted::Stop(format!(
            "it is {node}'s turn to join the group, and this one has not joined yet"
        ))),
        (EnginePlan::Run, None) => Ok(Wanted::Hold(Wait::Secrets.fault())),
        (EnginePlan::Run, Some(record)) => {
            let note = situation.plan.phase.map(|phase| (record.founding.clone(), phase));
            let (planned, limits) = match settings.engine.kind {
                EngineKind::NatsServer => {
                    let limits = Limits::kept_or_derived(&settings.state_dir, &settings.engine.data_dir)?;
                    (nats_server_plan(settings, &situation, record, address, limits, renewed), Some(limits))
                }
                EngineKind::Nimsforest => (plan(nimsforest::Lone::Listen)?, None),
            };
            Ok(Wanted::Run(Run { planned, limits, note, ends_turn: situation.plan.ends_turn }))
        }
    }
}

/// Since when this node leaves, where nothing is left on it that has to be kept.
fn retired(settings: &Settings, seen: &Seen) -> Option<String> {
    let leaving = seen.secrets.as_ref()?.secrets.record()?.leaving.as_ref()?;
    let due = leaving.node == settings.node.as_str() && leaving.stage >= Stage::Stopping;
    due.then(|| leaving.since.clone())
}

fn nats_server_plan(
    settings: &Settings,
    situation: &Situation,
    record: &Record,
    address: Address,
    limits: Limits,
    renewed: bool,
) -> Planned {
    let (engine, listen) = (&settings.engine, settings.listen);
    let (force, dial) = (record.in_force(), routes::dials(record, renewed));
    let takes_streams = record.leaving.as_ref().is_none_or(|leaving| leaving.node != settings.node.as_str());
    let config = NatsConfig {
        name: settings.node.as_str(),
        role: Role::Engine { monitor: listen.monitor, takes_streams },
        client: listen.client,
        store_dir: &engine.data_dir,
        limits,
        cluster: Some(Cluster {
            name: settings.forest.as_str(),
            listen: listen.cluster,
            advertise: SocketAddr::new(address.ip(), listen.cluster.port()),
            routes: &situation.routes,
            route: Some(force.accept),
            dial: &dial,
            sys: force.sys,
        }),
    };
    let file = settings.runtime_dir.join(nats_server::FILE_NAME);
    let command = nats_server::command(&engine.binary, &file, &engine.data_dir);
    Planned { command, file, text: config.render() }
}

fn nimsforest_plan(
    settings: &Settings,
    registry: &Registry,
    address: Address,
    lone: nimsforest::Lone,
) -> Result<Planned, Fault> {
    let entries: Vec<_> = registry
        .entries(&settings.forest)
        .into_iter()
        .map(|entry| nimsforest::Entry { id: entry.id, ip: entry.ip })
        .collect();
    let first = nimsforest::own_ipv6()?;
    let view = nimsforest::view(&settings.forest, &settings.node, address, first, &entries, lone);
    for id in &view.left_out {
        tracing::warn!("{id} is left out of NimsForest's view: its ip in the registry is no address");
    }
    let file = settings.runtime_dir.join(nimsforest::FILE_NAME);
    let command = nimsforest::command(nimsforest::Paths {
        binary: &settings.engine.binary,
        node_info: &settings.node_info,
        view: &file,
        data_dir: &settings.engine.data_dir,
    });
    Ok(Planned { command, text: view.text(), file })
}
