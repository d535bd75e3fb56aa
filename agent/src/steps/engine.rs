//! Step `engine`: the engine's supervisor wants what should run, from a configuration that was tested.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forest_core::address::Address;
use forest_core::reason::Reason;
use forest_core::registry::Registry;
use forest_core::secrets::{Secrets, Stage};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::SignedDuration;

use super::disk::off_thread;
use super::secrets::SecretsKeeper;
use crate::child::{Command, Want};
use crate::cluster::machine::EnginePlan;
use crate::cluster::marker::{MarkerFile, Phase};
use crate::cluster::reload::{Loaded, reload};
use crate::cluster::situation::Situation;
use crate::driver::{ChildName, Look, Looked, Seen, Step, Wants};
use crate::engine::limits::Limits;
use crate::engine::nats_config::{Cluster, NatsConfig, Role};
use crate::engine::planned::{Draft, Planned};
use crate::engine::restart::{Restart, RestartFile};
use crate::engine::started::Started;
use crate::engine::{lame_duck, nats_server, nimsforest};
use crate::fault::Fault;
use crate::settings::{EngineKind, Settings};

/// The times of files lag behind the clock by some milliseconds.
const FILE_CLOCK: SignedDuration = SignedDuration::from_millis(50);

/// So many looks in a row show a server that is deaf, rather than a leader that is just being replaced.
const DEAF_LOOKS: u32 = 2;
/// After a reload the next looks show whether it helped.
const RELOAD_PAUSE: Duration = Duration::from_secs(10);

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
    want: Option<Asked>,
    loaded: Loaded,
    reloaded: Option<Instant>,
    /// The routes that stood when this process was reloaded last, if it is one that is deaf to later ones.
    heard: Option<(u32, BTreeSet<u64>)>,
}

/// What was asked of the supervisor.
#[derive(Clone, PartialEq, Eq)]
enum Asked {
    /// A run by this command and this configuration, which was tested.
    Run(Command, String),
    Stop,
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

    fn run(&self, planned: &Planned) {
        let command = planned.command.clone();
        self.last().want = Some(Asked::Run(command.clone(), planned.text.clone()));
        self.want(Want::Run(command));
    }

    fn stop(&self, reason: String) {
        self.last().want = Some(Asked::Stop);
        self.want(Want::Stop { reason });
    }

    fn want(&self, want: Want) {
        // Nobody listens only while the agent ends.
        let _ = self.wants.send((ChildName::Engine, want));
    }

    fn compare(&self, seen: &Seen) -> Result<Look, Fault> {
        let last = self.last().want.clone();
        let differs = |reason, message: &str| Ok(Look::Differs(Fault::new(reason, message)));
        match wanted(&self.settings, self.has_witness, seen)? {
            Wanted::Stop(reason) | Wanted::Retire(reason) => match last {
                Some(Asked::Stop) => Ok(Look::Stands(format!("stopped: {reason}"))),
                _ => Ok(Look::Differs(Fault::new(Reason::EngineStopped, reason))),
            },
            // A supervisor would start it again by itself.
            Wanted::Hold(fault) if matches!(last, Some(Asked::Run(..))) && seen.engine.pid.is_none() => {
                Ok(Look::Differs(fault))
            }
            Wanted::Hold(fault) => Err(fault),
            Wanted::Turn(_) => differs(Reason::WaitsForFounder, "the engine joins as soon as it is its turn"),
            Wanted::Run(run) if run.ends_turn => {
                differs(Reason::EngineStarting, "the engine has joined, and its turn is not ended yet")
            }
            Wanted::Run(run) => {
                let planned = &run.planned;
                let asked = Some(Asked::Run(planned.command.clone(), planned.text.clone()));
                // Stopped: by the driver, while the node was taken out.
                if last != asked || !planned.is_written() || seen.engine.stopped {
                    return differs(
                        Reason::EngineStarting,
                        "the engine does not run by its present configuration yet",
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
                if let Some(fault) = self.restart_due(seen)? {
                    return Ok(Look::Differs(fault));
                }
                if let Some(pid) = seen.engine.pid
                    && !self.started(planned).fits(pid)?
                {
                    return Err(restart_needed(pid));
                }
                if self.unread(seen, planned).is_some() {
                    return differs(
                        Reason::EngineReloadSilent,
                        "the engine has not read its new configuration yet",
                    );
                }
                if self.deaf(seen).is_some() {
                    return differs(
                        Reason::JetstreamNoAnswer,
                        "the engine does not hear all servers of its cluster; it is to be reloaded",
                    );
                }
                let (program, file) = (planned.command.program.display(), planned.file.display());
                Ok(Look::Stands(format!("{program} is wanted, by {file}")))
            }
        }
    }

    /// What the engine's process was started by.
    fn started(&self, planned: &Planned) -> Started {
        Started::new(&self.settings, &planned.command)
    }

    /// The running server, where it answers and it is not certain that it has read the configuration as it
    /// stands. One that does not answer yet would die of the signal.
    fn unread(&self, seen: &Seen, planned: &Planned) -> Option<u32> {
        let pid = seen.engine.pid.filter(|pid| seen.view.answers == Some(*pid))?;
        let reloads = self.settings.engine.kind == EngineKind::NatsServer;
        let mut last = self.last();
        if last.loaded.knows(pid) {
            return (reloads && !last.loaded.is(pid, &planned.text)).then_some(pid);
        }
        // Only until it is known once: clocks are set, and then they tell nothing.
        let since = seen.view.loaded.zip(planned.written_at());
        let later = since.is_some_and(|(loaded, written)| loaded >= written + FILE_CLOCK);
        if later {
            last.loaded.note(pid, planned.text.clone());
        }
        (reloads && !later).then_some(pid)
    }

    /// The running server, where it is deaf. nats-server 2.9, once reloaded, takes no note of what the system
    /// account of servers that connect later can be asked, until it is reloaded again: JetStream's API goes silent
    /// (measured with 2.9.10; not with 2.15.1). So it is reloaded for routes that came since; and whatever its
    /// version, where it follows a meta leader that its clients cannot ask.
    fn deaf(&self, seen: &Seen) -> Option<u32> {
        let pid = seen.engine.pid.filter(|pid| seen.view.answers == Some(*pid))?;
        if self.settings.engine.kind != EngineKind::NatsServer {
            return None;
        }
        let last = self.last();
        let heard = last.heard.as_ref().filter(|(process, _)| *process == pid).map(|(_, routes)| routes);
        let unheard = match heard {
            Some(routes) => !seen.view.unheard.is_subset(routes),
            // By an earlier life of this agent it may have been reloaded.
            None => !seen.view.unheard.is_empty(),
        };
        let lately = last.reloaded.is_some_and(|at| at.elapsed() < RELOAD_PAUSE);
        (unheard || (seen.deaf_looks >= DEAF_LOOKS && !lately)).then_some(pid)
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
        let (step, known) = (self.clone(), seen.clone());
        let run = match off_thread(move || wanted(&step.settings, step.has_witness, &known)).await? {
            Wanted::Stop(reason) => {
                let done = format!("the engine is to stop: {reason}");
                self.stop(reason);
                return Ok(done);
            }
            Wanted::Retire(reason) => {
                if let Some(pid) = seen.engine.pid
                    && self.settings.engine.kind == EngineKind::NatsServer
                {
                    lame_duck::retire(pid).await;
                }
                let done = format!("the engine has let its clients go, and stops: {reason}");
                self.stop(reason);
                return Ok(done);
            }
            Wanted::Hold(fault) => {
                self.stop(fault.message.clone());
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
        let ends_turn = run.ends_turn;
        let done = self.run_by(run, &seen).await;
        if ends_turn {
            // Last: a share that cannot be written must not keep the engine from its peers.
            let node = self.settings.node.clone();
            self.turn(&seen, move |secrets| secrets.end_turn(&node)).await?;
        }
        done
    }

    /// Brings the engine to run by this plan, tested, written and read.
    async fn run_by(&self, run: Run, seen: &Seen) -> Result<String, Fault> {
        let step = self.clone();
        let (run, draft) = off_thread(move || step.prepare(run)).await?;
        let planned = run.planned;
        if self.settings.engine.kind == EngineKind::NatsServer {
            nats_server::check_config(&planned.command.program, draft.path()).await?;
        }
        let written = planned.clone();
        off_thread(move || {
            drop(draft);
            written.write()
        })
        .await?;
        if seen.engine.pid.is_none() {
            // So that its start is certainly later than the file, and it need not be told to read that again.
            tokio::time::sleep(FILE_CLOCK.unsigned_abs()).await;
        }
        if let Some(pid) = self.restarts(seen) {
            // What is started in its place is what is wanted now.
            self.run(&planned);
            return self.restart(seen, pid).await;
        }
        let (step, known, plan) = (self.clone(), seen.clone(), planned.clone());
        let unread = off_thread(move || {
            let pid = step.unread(&known, &plan).or_else(|| step.deaf(&known));
            Ok(match pid {
                Some(pid) if step.started(&plan).fits(pid)? => Some(pid),
                _ => None,
            })
        });
        let unread = unread.await?;
        let done = format!("the engine is to run by {}", planned.file.display());
        self.run(&planned);
        let Some(pid) = unread else { return Ok(done) };
        self.last().reloaded = Some(Instant::now());
        reload(pid, &self.settings.state_dir.join("log/engine.log")).await?;
        // Those that were seen before: of one that came meanwhile nobody knows.
        self.last().heard = Some((pid, seen.view.unheard.clone()));
        self.last().loaded.note(pid, planned.text);
        Ok(format!("the engine (pid {pid}) has read its configuration"))
    }
}

impl EngineStep {
    /// Notes what is to be noted before a run, and writes a draft of the configuration.
    fn prepare(&self, run: Run) -> Result<(Run, Draft), Fault> {
        if let Some((founding, phase)) = &run.note {
            MarkerFile::new(&self.settings.state_dir).write(founding, *phase)?;
        }
        if let Some(limits) = run.limits {
            limits.freeze(&self.settings.state_dir)?;
        }
        let draft = run.planned.write_draft()?;
        Ok((run, draft))
    }
}

impl EngineStep {
    /// The engine's process, where a person wants it restarted.
    fn restarts(&self, seen: &Seen) -> Option<u32> {
        let restart = RestartFile::new(&self.settings).read()?;
        seen.engine.pid.filter(|pid| *pid == restart.engine)
    }

    /// What is missing of a restart; a restart that is done is forgotten.
    fn restart_due(&self, seen: &Seen) -> Result<Option<Fault>, Fault> {
        let file = RestartFile::new(&self.settings);
        let Some(restart) = file.read() else { return Ok(None) };
        if self.restarts(seen).is_some() {
            return Ok(Some(Fault::new(Reason::EngineStarting, "the engine is to be restarted")));
        }
        let witness_is_new = restart.witness.is_none() || restart.witness != seen.witness.pid;
        if seen.engine.pid.is_some() && witness_is_new {
            file.remove()?;
        }
        Ok(None)
    }

    async fn restart(&self, seen: &Seen, pid: u32) -> Result<String, Fault> {
        RestartFile::new(&self.settings).write(&Restart { engine: pid, witness: seen.witness.pid })?;
        let gone = self.settings.engine.kind == EngineKind::NatsServer && lame_duck::retire(pid).await;
        if !gone {
            lame_duck::end(pid);
        }
        Ok(format!("the engine (pid {pid}) makes way for the next"))
    }
}

fn restart_needed(pid: u32) -> Fault {
    let message = format!(
        "the engine (pid {pid}) was started with other values of node_id, listen or engine than agent.yaml has now"
    );
    Fault::new(Reason::EngineRestartNeeded, message)
}

impl Step for EngineStep {
    fn look(&self, seen: Seen) -> BoxFuture<'static, Looked> {
        let step = self.clone();
        off_thread(move || step.compare(&seen)).map(Looked::from).boxed()
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
    /// The same, but it lets its clients go first.
    Retire(String),
}

/// A start, or a run, of the engine.
struct Run {
    planned: Planned,
    /// Those that the configuration bears: worked out anew, they would follow the free space of the moment, and
    /// no server takes other ones while it runs.
    limits: Option<Limits>,
    /// What is to be noted first: the founding, and how far this node has come.
    note: Option<(String, Phase)>,
    /// It has joined, and others may.
    ends_turn: bool,
}

/// What should be with the engine, by the settings and what was seen. Writes nothing.
///
/// # Errors
/// `engine_waits_for_registry` while neither a fresh registry nor a kept one is there; why a plan cannot be made.
fn wanted(settings: &Settings, has_witness: bool, seen: &Seen) -> Result<Wanted, Fault> {
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
        (EnginePlan::Run, None) => Ok(Wanted::Hold(crate::cluster::machine::Wait::Secrets.fault())),
        (EnginePlan::Run, Some(record)) => {
            let note = situation.plan.phase.map(|phase| (record.founding.clone(), phase));
            let (planned, limits) = match settings.engine.kind {
                EngineKind::NatsServer => {
                    let limits = Limits::kept_or_derived(&settings.state_dir, &settings.engine.data_dir)?;
                    (nats_server_plan(settings, &situation, record, address, limits), Some(limits))
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
    record: &forest_core::secrets::Record,
    address: Address,
    limits: Limits,
) -> Planned {
    let (engine, listen) = (&settings.engine, settings.listen);
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
            route: Some(&record.route),
            sys: &record.sys,
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
