//! Step `engine`: the engine's supervisor wants what should run, from a configuration that was tested.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use forest_core::address::Address;
use forest_core::reason::Reason;
use forest_core::registry::Registry;
use forest_core::secrets::Secrets;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::SignedDuration;

use super::secrets::SecretsKeeper;
use crate::child::Want;
use crate::cluster::machine::EnginePlan;
use crate::cluster::marker::{MarkerFile, Phase};
use crate::cluster::reload::reload;
use crate::cluster::situation::Situation;
use crate::driver::{ChildName, Look, Looked, Seen, Step, Wants};
use crate::engine::limits::Limits;
use crate::engine::nats_config::{Cluster, NatsConfig, Role};
use crate::engine::planned::Planned;
use crate::engine::{nats_server, nimsforest};
use crate::fault::Fault;
use crate::settings::{EngineKind, Settings};

/// The times of files lag behind the clock by some milliseconds.
const FILE_CLOCK: SignedDuration = SignedDuration::from_millis(50);

/// The step. What it wants goes to the driver, which tells the supervisor.
#[derive(Clone)]
pub struct EngineStep {
    settings: Arc<Settings>,
    /// Is there a nats-server to be the witness?
    has_witness: bool,
    keeper: SecretsKeeper,
    wants: Wants,
    last: Arc<Mutex<Last>>,
}

/// What was done last.
#[derive(Default)]
struct Last {
    want: Option<Want>,
    /// The process that said that it has read this configuration.
    loaded: Option<(u32, String)>,
}

impl EngineStep {
    /// The step for this node.
    #[must_use]
    pub fn new(settings: Arc<Settings>, has_witness: bool, keeper: SecretsKeeper, wants: Wants) -> Self {
        Self { settings, has_witness, keeper, wants, last: Arc::default() }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want(&self, want: Want) {
        self.last().want = Some(want.clone());
        // Nobody listens only while the agent ends.
        let _ = self.wants.send((ChildName::Engine, want));
    }

    fn compare(&self, seen: &Seen) -> Result<Look, Fault> {
        let last = self.last().want.clone();
        let differs = |reason, message: &str| Ok(Look::Differs(Fault::new(reason, message)));
        match wanted(&self.settings, self.has_witness, seen)? {
            Wanted::Stop(reason) => match last {
                Some(Want::Stop { .. }) => Ok(Look::Stands(format!("stopped: {reason}"))),
                _ => Ok(Look::Differs(Fault::new(Reason::EngineStopped, reason))),
            },
            // A supervisor would start it again by itself.
            Wanted::Hold(fault) if matches!(last, Some(Want::Run(_))) && seen.engine.pid.is_none() => {
                Ok(Look::Differs(fault))
            }
            Wanted::Hold(fault) => Err(fault),
            Wanted::Turn(_) => differs(Reason::WaitsForFounder, "the engine joins as soon as it is its turn"),
            Wanted::Run(run) if run.ends_turn => {
                differs(Reason::EngineStarting, "the engine has joined, and its turn is not ended yet")
            }
            Wanted::Run(run) => {
                let planned = &run.planned;
                if last != Some(Want::Run(planned.command.clone())) || !planned.is_written() {
                    return differs(
                        Reason::EngineStarting,
                        "the engine is not started yet, or has new peers",
                    );
                }
                match &run.note {
                    // Of no account to anybody but this node's later lives.
                    Some((founding, phase @ Phase::Member)) => {
                        MarkerFile::new(&self.settings.state_dir).write(founding, *phase)?;
                    }
                    Some(_) => return differs(Reason::EngineStarting, "the engine is to join anew"),
                    None => {}
                }
                if self.unread(seen, planned).is_some() {
                    return differs(
                        Reason::EngineReloadSilent,
                        "the engine has not read its new configuration yet",
                    );
                }
                let (program, file) = (planned.command.program.display(), planned.file.display());
                Ok(Look::Stands(format!("{program} is wanted, by {file}")))
            }
        }
    }

    /// The running server, where it answers and has not read the configuration as it stands. One that does not
    /// answer yet would die of the signal.
    fn unread(&self, seen: &Seen, planned: &Planned) -> Option<u32> {
        let pid = seen.engine.pid.filter(|pid| seen.view.answers == Some(*pid))?;
        let reloads = self.settings.engine.kind == EngineKind::NatsServer;
        let said =
            self.last().loaded.as_ref().is_some_and(|(read, text)| *read == pid && *text == planned.text);
        let since = seen.view.loaded.zip(planned.written_at());
        let later = since.is_some_and(|(loaded, written)| loaded >= written + FILE_CLOCK);
        (reloads && !said && !later).then_some(pid)
    }

    async fn turn(
        &self,
        seen: &Seen,
        change: impl Fn(&Secrets) -> Option<Secrets> + Send + 'static,
    ) -> Result<bool, Fault> {
        let Some(dir) = &seen.dir else {
            return Err(Fault::new(Reason::WaitsForFounder, "the share's directory went away"));
        };
        self.keeper.update(dir, move |secrets| Ok(change(secrets))).await
    }

    async fn make_so(self, seen: Seen) -> Result<String, Fault> {
        let run = match wanted(&self.settings, self.has_witness, &seen)? {
            Wanted::Stop(reason) => {
                let done = format!("the engine is to stop: {reason}");
                self.want(Want::Stop { reason });
                return Ok(done);
            }
            Wanted::Hold(fault) => {
                self.want(Want::Stop { reason: fault.message.clone() });
                return Err(fault);
            }
            Wanted::Turn(before) => {
                let node = self.settings.node.clone();
                let took =
                    self.turn(&seen, move |secrets| secrets.take_turn(&node, before.as_deref())).await?;
                let who = if took { "this node's" } else { "another's" };
                return Ok(format!("it is {who} turn to join the group"));
            }
            Wanted::Run(run) => run,
        };
        if run.ends_turn {
            let node = self.settings.node.clone();
            self.turn(&seen, move |secrets| secrets.end_turn(&node)).await?;
        }
        let planned = run.planned;
        if let Some((founding, phase)) = &run.note {
            MarkerFile::new(&self.settings.state_dir).write(founding, *phase)?;
        }
        planned.write()?;
        if self.settings.engine.kind == EngineKind::NatsServer {
            nats_server::check_config(&planned.command.program, &planned.file).await?;
        }
        let unread = self.unread(&seen, &planned);
        let done = format!("the engine is to run by {}", planned.file.display());
        self.want(Want::Run(planned.command.clone()));
        let Some(pid) = unread else { return Ok(done) };
        reload(pid, &self.settings.state_dir.join("log/engine.log")).await?;
        self.last().loaded = Some((pid, planned.text));
        Ok(format!("the engine (pid {pid}) has read its configuration"))
    }
}

impl Step for EngineStep {
    fn look(&self, seen: Seen) -> BoxFuture<'static, Looked> {
        std::future::ready(self.compare(&seen).into()).boxed()
    }

    fn act(&self, seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        self.clone().make_so(seen).boxed()
    }
}

/// What should be with the engine.
enum Wanted {
    /// It runs.
    Run(Run),
    /// It joins once it is its turn, which it takes from whoever is named.
    Turn(Option<String>),
    /// It is not started, for this reason; one that runs is left alone.
    Hold(Fault),
    /// It does not run, for this reason.
    Stop(String),
}

/// A start, or a run, of the engine.
struct Run {
    planned: Planned,
    /// What is to be noted first: the founding, and how far this node has come.
    note: Option<(String, Phase)>,
    /// It has joined, and others may.
    ends_turn: bool,
}

/// What should be with the engine, by the settings and what was seen. Writes nothing but the limits of JetStream,
/// which are worked out once and kept.
///
/// # Errors
/// `engine_waits_for_registry` while neither a fresh registry nor a kept one is there; why a plan cannot be made.
fn wanted(settings: &Settings, has_witness: bool, seen: &Seen) -> Result<Wanted, Fault> {
    if let Some(since) = &seen.removed {
        return Ok(Wanted::Stop(format!("the node was taken out on purpose at {since}")));
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
        return Ok(Wanted::Run(Run { planned, note: None, ends_turn: false }));
    }
    match (&situation.plan.engine, &situation.record) {
        (EnginePlan::Wait(wait), _) => Ok(Wanted::Hold(wait.fault())),
        (EnginePlan::TakeTurn(before), _) => Ok(Wanted::Turn(before.clone())),
        (EnginePlan::Run, None) => Ok(Wanted::Hold(crate::cluster::machine::Wait::Secrets.fault())),
        (EnginePlan::Run, Some(record)) => {
            let note = situation.plan.phase.map(|phase| (record.founding.clone(), phase));
            let planned = match settings.engine.kind {
                EngineKind::NatsServer => nats_server_plan(settings, &situation, record, address)?,
                EngineKind::Nimsforest => plan(nimsforest::Lone::Listen)?,
            };
            Ok(Wanted::Run(Run { planned, note, ends_turn: situation.plan.ends_turn }))
        }
    }
}

fn nats_server_plan(
    settings: &Settings,
    situation: &Situation,
    record: &forest_core::secrets::Record,
    address: Address,
) -> Result<Planned, Fault> {
    let (engine, listen) = (&settings.engine, settings.listen);
    let config = NatsConfig {
        name: settings.node.as_str(),
        role: Role::Engine { monitor: listen.monitor },
        client: listen.client,
        store_dir: &engine.data_dir,
        limits: Limits::kept_or_derived(&settings.state_dir, &engine.data_dir)?,
        cluster: Some(Cluster {
            name: settings.forest.as_str(),
            listen: listen.cluster,
            advertise: SocketAddr::new(address.ip(), listen.cluster.port()),
            routes: &situation.routes,
            route: Some(&record.route),
            sys: &record.sys,
        }),
    };
    let file = settings.runtime_dir.join(nats_server::FILE_NAME);
    let command = nats_server::command(&engine.binary, &file, &engine.data_dir);
    Ok(Planned { command, file, text: config.render() })
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
