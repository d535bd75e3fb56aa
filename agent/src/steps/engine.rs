//! Step `engine`: the engine's supervisor wants what should run, from a configuration that was tested.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use forest_core::address::Address;
use forest_core::reason::Reason;
use forest_core::registry::Registry;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::child::{Command, Want};
use crate::driver::{Look, Looked, Seen, Step};
use crate::engine::limits::Limits;
use crate::engine::nats_config::{NatsConfig, Role};
use crate::engine::{nats_server, nimsforest};
use crate::fault::{Fault, chain};
use crate::files::private_dir;
use crate::settings::{EngineKind, Settings};

/// The step. What it wants goes to the driver, which tells the supervisor.
pub struct EngineStep {
    settings: Arc<Settings>,
    wants: mpsc::UnboundedSender<Want>,
    last: Arc<Mutex<Option<Want>>>,
}

impl EngineStep {
    /// The step for this node.
    #[must_use]
    pub fn new(settings: Arc<Settings>, wants: mpsc::UnboundedSender<Want>) -> Self {
        Self {
            settings,
            wants,
            last: Arc::default(),
        }
    }
}

impl Step for EngineStep {
    fn look(&self, seen: Seen) -> BoxFuture<'static, Looked> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let looked = match wanted(&self.settings, &seen) {
            Ok(Wanted::Stop(reason)) => Ok(match last {
                Some(Want::Stop { .. }) => Look::Stands(format!("stopped: {reason}")),
                _ => Look::Differs(Fault::new(Reason::EngineStopped, reason)),
            }),
            Ok(Wanted::Run(plan)) => Ok(
                if last == Some(Want::Run(plan.command.clone())) && plan.is_written() {
                    Look::Stands(format!(
                        "{} is wanted, by {}",
                        plan.command.program.display(),
                        plan.file.display()
                    ))
                } else {
                    Look::Differs(Fault::new(
                        Reason::EngineStarting,
                        "the engine is not started yet",
                    ))
                },
            ),
            Err(fault) => Err(fault),
        };
        std::future::ready(looked.into()).boxed()
    }

    fn act(&self, seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        let (settings, wants, last) = (
            Arc::clone(&self.settings),
            self.wants.clone(),
            Arc::clone(&self.last),
        );
        async move {
            let (want, done) = match wanted(&settings, &seen)? {
                Wanted::Stop(reason) => {
                    let done = format!("the engine is to stop: {reason}");
                    (Want::Stop { reason }, done)
                }
                Wanted::Run(plan) => {
                    plan.write()?;
                    if settings.engine.kind == EngineKind::NatsServer {
                        nats_server::check_config(&settings.engine.binary, &plan.file).await?;
                    }
                    let done = format!("the engine is to run by {}", plan.file.display());
                    (Want::Run(plan.command), done)
                }
            };
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(want.clone());
            // Nobody listens only while the agent ends.
            let _ = wants.send(want);
            Ok(done)
        }
        .boxed()
    }
}

/// What should be with the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It runs.
    Run(Plan),
    /// It does not, for this reason.
    Stop(String),
}

/// How the engine is started: its command, and the file that it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The command.
    pub command: Command,
    /// nats-server's configuration, or NimsForest's view of the registry.
    pub file: PathBuf,
    /// What the file is to hold.
    pub text: String,
}

impl Plan {
    /// Does the file hold what it should?
    #[must_use]
    pub fn is_written(&self) -> bool {
        std::fs::read(&self.file).is_ok_and(|found| found == self.text.as_bytes())
    }

    fn write(&self) -> Result<(), Fault> {
        let dir = self.file.parent().unwrap_or(Path::new("/"));
        let fault = |err: &dyn std::error::Error| Fault::new(Reason::StateDir, chain(err));
        private_dir(dir).map_err(|err| fault(&err))?;
        crate::files::put(&self.file, self.text.as_bytes(), 0o600).map_err(|err| fault(&err))
    }
}

/// What should be with the engine, by the settings and what was seen. Writes nothing but the limits of JetStream,
/// which are worked out once and kept.
///
/// # Errors
/// `engine_waits_for_registry` while neither a fresh registry nor a kept one is there; why a plan cannot be made.
pub fn wanted(settings: &Settings, seen: &Seen) -> Result<Wanted, Fault> {
    if let Some(since) = &seen.removed {
        return Ok(Wanted::Stop(format!(
            "the node was taken out on purpose at {since}"
        )));
    }
    let Some(read) = &seen.registry else {
        let message =
            "the registry was never read, and no copy of it is kept; a start now could make a lone node";
        return Err(Fault::new(Reason::EngineWaitsForRegistry, message));
    };
    let Some(address) = seen.address else {
        return Err(Fault::new(Reason::AddressNone, "the node's address is not known"));
    };
    match settings.engine.kind {
        EngineKind::NatsServer => nats_server_plan(settings),
        EngineKind::Nimsforest => nimsforest_plan(settings, &read.registry, address),
    }
    .map(Wanted::Run)
}

fn nats_server_plan(settings: &Settings) -> Result<Plan, Fault> {
    let engine = &settings.engine;
    let config = NatsConfig {
        name: settings.node.as_str(),
        role: Role::Engine {
            monitor: settings.listen.monitor,
        },
        client: settings.listen.client,
        store_dir: &engine.data_dir,
        limits: Limits::kept_or_derived(&settings.state_dir, &engine.data_dir)?,
        cluster: None,
    };
    let file = settings.runtime_dir.join(nats_server::FILE_NAME);
    let command = nats_server::command(&engine.binary, &file, &engine.data_dir);
    Ok(Plan {
        command,
        file,
        text: config.render(),
    })
}

fn nimsforest_plan(settings: &Settings, registry: &Registry, address: Address) -> Result<Plan, Fault> {
    let entries: Vec<_> = registry
        .entries(&settings.forest)
        .into_iter()
        .map(|entry| nimsforest::Entry {
            id: entry.id,
            ip: entry.ip,
        })
        .collect();
    let first = nimsforest::own_ipv6()?;
    // Without a second server to make up a quorum with, a lone node that expects a cluster would never elect a
    // leader: it starts standalone.
    let lone = nimsforest::Lone::Standalone;
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
    Ok(Plan {
        command,
        text: view.text(),
        file,
    })
}
