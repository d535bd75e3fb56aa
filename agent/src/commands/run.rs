//! `forest-agent run`: the daemon, from its lock to its end, or to the newer agent that takes its place.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forest_core::reason::Reason;
use forest_core::registry::{InstanceError, InstanceLock};
use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{CommandResult, Environment, Failure};
use crate::child::{Children, Limits as ChildLimits};
use crate::cli::Common;
use crate::cluster::gather::Gatherer;
use crate::driver::{Driver, Ending, LastRead, Parts, ReloadCheck, Request, SecretsRead, Seen, Supervisors};
use crate::fault::{Fault, SUDO, chain};
use crate::files::private_dir;
use crate::follow::Follower;
use crate::health::{EngineView, Events, Findings, Server, Snapshot};
use crate::settings::Settings;
use crate::signals::{Signals, execute};
use crate::steps::{self, Kept};
use crate::{logging, probe, systemd};

/// How long a newer agent may take to say its version before it is believed to be broken.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// Between two tries to execute a file that is busy.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// How long an end waits for an update of the registry that is under way: it holds the lease.
const UPDATE_BOUND: Duration = Duration::from_secs(10);

pub(super) fn run(settings: &Arc<Settings>, common: &Common, environment: &Environment) -> CommandResult {
    // Before there is any other thread, and before anything takes time.
    let signals = Signals::block().map_err(|err| Failure::new("no_signals", err))?;
    logging::init(&environment.log);
    for dir in [&settings.state_dir, &settings.runtime_dir] {
        private_dir(dir)?;
    }
    let lock = lock(&settings.state_dir.join("agent.lock"))?;
    loop {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|err| Failure::new("no_runtime", err))?;
        let ending = runtime.block_on(serve(Arc::clone(settings), common, environment, &signals));
        // A thread that hangs on the share must not hold up the end.
        runtime.shutdown_background();
        match ending? {
            Ending::Stop => return Ok(ExitCode::SUCCESS),
            // A stop that came too late for the driver: this agent takes its children back, and stops them.
            Ending::Reload if signals.stop_was_asked() => {}
            // Comes back only if it failed; then this agent goes on with the same children.
            Ending::Reload => tracing::error!("{}; this agent goes on", replace(&lock, environment)),
        }
    }
}

fn lock(path: &Path) -> Result<InstanceLock, Failure> {
    let taken = match InstanceLock::from_inherited(path) {
        Ok(Some(lock)) => {
            tracing::info!(version = env!("CARGO_PKG_VERSION"), "took over from the agent before");
            return Ok(lock);
        }
        Ok(None) => InstanceLock::acquire(path),
        Err(err) => Err(err),
    };
    taken.map_err(|err| {
        if let InstanceError::Io { source, .. } = &err {
            let fault = Fault::new(Reason::StateDir, chain(&err));
            let denied = source.kind() == std::io::ErrorKind::PermissionDenied;
            return if denied { fault.advise(SUDO).into() } else { fault.into() };
        }
        let error = anyhow::anyhow!("another agent runs with this state_dir: {}", chain(&err));
        Failure::new("already_running", error)
    })
}

/// Replaces this process by the executable that stands at its path now; the lock goes along.
fn replace(lock: &InstanceLock, environment: &Environment) -> String {
    let Some(executable) = &environment.executable else {
        return "the path of this executable is not known".to_owned();
    };
    let stdin = match lock.hand_over() {
        Ok(stdin) => stdin,
        Err(err) => return chain(&err),
    };
    let err = execute(executable, std::env::args_os().skip(1), stdin);
    format!("failed to execute {}: {err}", executable.display())
}

async fn serve(
    settings: Arc<Settings>,
    common: &Common,
    environment: &Environment,
    signals: &Signals,
) -> Result<Ending, Failure> {
    let (requests, inbox) = mpsc::unbounded_channel();
    if signals.stop_was_asked() {
        // The inbox is at hand.
        let _ = requests.send(Request::Stop);
    }
    let listener = signals.listen(requests).map_err(|err| Failure::new("no_signals", err))?;
    let children =
        Children::open(&settings.state_dir, &settings.runtime_dir, environment.for_children.clone())?;
    let children = Supervisors {
        engine: children.supervise("engine", ChildLimits::default())?,
        witness: children.supervise("witness", ChildLimits::default())?,
        companion: children.supervise("companion", ChildLimits::default())?,
    };
    let stop = CancellationToken::new();
    let kept = Kept::new(&settings);
    let seen = seen_before(&settings, &kept);
    let (snapshots, published) = watch::channel(Arc::new(first_snapshot(&settings)));
    let (targets, for_prober) = watch::channel(seen.clone());
    let gatherer = Gatherer::new(Arc::clone(&settings), for_prober.clone(), published.clone());
    let answering = tokio::spawn(gatherer.clone().answer());
    let server = Server::start(settings.listen.health, published, Arc::new(gatherer), stop.clone());
    let (running, runs) = watch::channel(None);
    let (observer, observations) = mpsc::channel(4);
    let prober = tokio::spawn(probe::run(Arc::clone(&settings), runs, for_prober, observer));
    let (_follower, changes) = Follower::start(&settings).map_err(|err| Failure::new("no_thread", err))?;
    let (wanter, wants) = mpsc::unbounded_channel();
    let (steps, updates) = steps::all(&settings, environment.limits(), kept, &wanter, environment.path());
    let parts = Parts {
        steps,
        seen,
        children,
        observations,
        changes,
        targets,
        running,
        wants,
        snapshots,
        requests: inbox,
        reload_allowed: reload_check(common.config.clone(), environment.executable.clone()),
        settings,
    };
    let ending = Driver::new(parts, systemd::Notifier::of_process()).run().await;
    prober.abort();
    answering.abort();
    stop.cancel();
    server.stopped().await;
    if !updates.idle(UPDATE_BOUND).await {
        tracing::warn!("an update of the registry is left unfinished; the next updater takes its lease away");
    }
    listener.close().await;
    Ok(ending)
}

/// What an earlier life left: the registry as it was last seen, and whether this node was taken out.
fn seen_before(settings: &Settings, kept: &Kept) -> Seen {
    Seen {
        registry: kept.registry().map(|registry| Arc::new(LastRead { registry, at: None })),
        secrets: steps::kept_secrets(&settings.state_dir)
            .map(|secrets| Arc::new(SecretsRead { secrets, at: None, kept: true })),
        removed: kept.marked().map(Into::into),
        ..Seen::default()
    }
}

fn first_snapshot(settings: &Settings) -> Snapshot {
    let now = Instant::now();
    Snapshot {
        forest: settings.forest.clone(),
        node: settings.node.clone(),
        instance: steps::instance(&settings.state_dir).into(),
        started: now,
        interval: settings.poll_interval.max(Duration::from_secs(1)),
        beat: now,
        address: None,
        step: "starting",
        engine: EngineView { kind: settings.engine.kind.as_str(), ..EngineView::default() },
        findings: Findings::starting(),
        peer_ips: Arc::default(),
        rotation: None,
        events: Events::default(),
    }
}

/// Before a newer agent takes over: can its configuration be read, and does it run at all? Else this one stays.
fn reload_check(config: PathBuf, executable: Option<PathBuf>) -> Arc<ReloadCheck> {
    Arc::new(move || {
        let (config, executable) = (config.clone(), executable.clone());
        async move {
            Settings::load(&config).map_err(|err| err.to_string())?;
            let executable = executable.ok_or("the path of this executable is not known")?;
            let path = executable.display();
            match tokio::time::timeout(VERSION_DEADLINE, version(&executable)).await {
                Ok(Ok(output)) if output.stdout.starts_with(b"forest-agent ") => Ok(()),
                Ok(Ok(output)) if output.status.success() => {
                    Err(format!("{path} --version does not answer as forest-agent does"))
                }
                Ok(Ok(output)) => Err(format!("{path} --version ended with {}", output.status)),
                Ok(Err(err)) => Err(format!("{path} cannot be executed: {err}")),
                Err(_) => Err(format!("{path} --version did not answer")),
            }
        }
        .boxed()
    })
}

/// Asks `executable` for its version. One that has just been put in place may be open for writing still, in a
/// process that is only being started: then it is busy for a moment.
async fn version(executable: &Path) -> std::io::Result<std::process::Output> {
    loop {
        let asked = tokio::process::Command::new(executable)
            .arg("--version")
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        match asked.await {
            Err(err) if err.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            answered => return answered,
        }
    }
}
