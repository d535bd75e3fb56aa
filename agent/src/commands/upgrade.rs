//! `forest-agent upgrade`: newer programs are fetched, tried, put in place of those that run, and gone over to: the agent
//! executes its successor, the engine lets its clients go and is started again. Run again, it finds what is done.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::anyhow;
use forest_core::health::HealthReport;
use forest_core::reason::Reason;
use forest_core::registry::{InstanceError, InstanceLock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::output::{explain, print, print_json};
use super::{CommandResult, Environment, Failure, block_on, restart, status};
use crate::cli::{Common, Newer};
use crate::engine::binary::{Inspector, State};
use crate::engine::download::{Bounds, copy, fetch_http, file_path};
use crate::fault::{Fault, SUDO, chain};
use crate::files;
use crate::settings::{Download, Settings};

const PAUSE: Duration = Duration::from_millis(250);
/// A program that is asked for its version.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a newer agent may take to come.
const AGENT: Duration = Duration::from_secs(30);

pub(super) fn run(
    settings: &Settings,
    common: &Common,
    environment: &Environment,
    newer: &Newer,
) -> CommandResult {
    let upgrade = Upgrade { settings, config: &common.config, executable: environment.executable.as_deref() };
    let report = block_on(async {
        let _lock = lock(settings, newer.wait).await?;
        upgrade.run(newer).await
    })??;
    let (version, pid) = (&report.engine.version, report.engine.pid);
    if common.json {
        print_json(&json!({
            "node_id": report.node_id, "agent": report.release_id, "version": version, "pid": pid, "error": null,
        }));
    } else {
        let version = version.as_deref().unwrap_or("of unknown version");
        print(&format!(
            "{} runs forest-agent {} and {} {version}",
            report.node_id, report.release_id, report.engine.kind
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// One at a time. One that a laptop of before began, which is gone, comes to its end by itself.
async fn lock(settings: &Settings, limit: Duration) -> Result<InstanceLock, Failure> {
    let until = Instant::now() + limit;
    loop {
        match InstanceLock::acquire(&settings.state_dir.join("upgrade.lock")) {
            Ok(lock) => return Ok(lock),
            Err(InstanceError::Held { .. }) if Instant::now() < until => sleep(PAUSE).await,
            Err(err @ InstanceError::Held { .. }) => {
                let error = anyhow!("another forest-agent upgrade is at work: {err}");
                return Err(Failure::new(Reason::Busy.code(), error));
            }
            Err(err @ InstanceError::Io { .. }) => {
                return Err(Fault::new(Reason::StateDir, chain(&err)).into());
            }
        }
    }
}

struct Upgrade<'a> {
    settings: &'a Settings,
    config: &'a Path,
    executable: Option<&'a Path>,
}

impl Upgrade<'_> {
    async fn run(&self, newer: &Newer) -> Result<HealthReport, Failure> {
        let (agent, engine) = (newer.agent(), newer.engine());
        if agent.is_none() && engine.is_none() {
            let error = anyhow!(
                "say what is newer: --agent URL --agent-sha256 HEX, --engine URL --engine-sha256 HEX, or both"
            );
            return Err(Failure::new(Reason::Usage.code(), error).exiting(2));
        }
        status::ask(self.settings).await?;
        let mut replaced = None;
        if let Some(agent) = &agent {
            replaced = self.replace_agent(agent).await?;
        }
        let mut behind = agent.is_some() && self.runs()? != self.target()?;
        if let Some(engine) = &engine {
            self.point_at(engine)?;
            behind |= !is_that(&self.settings.engine.binary, engine).await?;
        }
        if behind {
            self.come_anew(replaced.as_ref()).await?;
        }
        match &engine {
            Some(engine) => self.go_over_to(engine, newer.wait).await,
            None => status::ask(self.settings).await,
        }
    }

    /// This program's file.
    fn target(&self) -> Result<PathBuf, Failure> {
        let target = self.executable.ok_or_else(|| refused("the path of this executable is not known"))?;
        target.canonicalize().map_err(|err| unwritable("find", target, &err))
    }

    /// The file that the agent executes; the kernel marks one that was replaced since.
    fn runs(&self) -> Result<PathBuf, Failure> {
        let pid = self.agent()?.as_raw_nonzero();
        Ok(fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default())
    }

    /// Puts a newer agent where this one stands, once it has been tried; the older one is kept beside it, where the
    /// path in the result says. `None`: it is there already.
    async fn replace_agent(&self, download: &Download) -> Result<Option<Replaced>, Failure> {
        let target = self.target()?;
        let (new, old) = (beside(&target, "new"), beside(&target, "before"));
        if is_that(&target, download).await? {
            // Put there by an upgrade that was cut short, perhaps.
            let cut_short = self.runs()? != target && old.exists();
            return Ok(cut_short.then_some(Replaced { target, old }));
        }
        let runs = self.runs()?;
        let runs = PathBuf::from(runs.to_string_lossy().trim_end_matches(" (deleted)"));
        if runs != target {
            let message =
                format!("the agent that runs is {}, and this is {}", runs.display(), target.display());
            let advice = format!("{} upgrade …", runs.display());
            return Err(Fault::new(Reason::AgentStart, message).advise(advice).into());
        }
        explain(&format!("fetching {}", crate::engine::download::printable(&download.url)));
        fetch(download, &new).await?;
        try_out(&new).await?;
        let moved = match fs::remove_file(&old) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err),
            _ => fs::hard_link(&target, &old).and_then(|()| fs::rename(&new, &target)),
        };
        moved.map_err(|err| unwritable("replace", &target, &err))?;
        Ok(Some(Replaced { target, old }))
    }

    /// Points `engine.download` of agent.yaml at another file.
    fn point_at(&self, download: &Download) -> Result<(), Failure> {
        let path = self.config;
        let by_hand = || {
            let message = format!(
                "engine.download of {} cannot be changed by itself, for it is not there, or not written plainly",
                path.display()
            );
            let advice = "write it there; or, without engine.download, put the program at engine.binary; then: \
                          forest-agent restart";
            Failure::from(Fault::new(Reason::NotSupported, message).advise(advice))
        };
        let known = self.settings.engine.download.as_ref().ok_or_else(by_hand)?;
        if known == download {
            return Ok(());
        }
        let text = fs::read_to_string(path).map_err(|err| unwritable("read", path, &err))?;
        let next = text
            .replace(known.url.as_str(), download.url.as_str())
            .replace(&hex(&known.sha256), &hex(&download.sha256));
        let mut wanted = self.settings.clone();
        wanted.engine.download = Some(download.clone());
        // Nothing else may be changed by it.
        if Settings::parse(&next, path).ok().as_ref() != Some(&wanted) {
            return Err(by_hand());
        }
        let mode = fs::metadata(path).map_or(0o600, |meta| meta.permissions().mode() & 0o7777);
        files::put(path, next.as_bytes(), mode)?;
        Ok(())
    }

    /// The agent reads its settings anew, and executes what stands at its path now. One that does not come is given
    /// its older file back.
    async fn come_anew(&self, replaced: Option<&Replaced>) -> Result<(), Failure> {
        explain("the agent goes on as the newer one");
        let asked = Instant::now();
        kill_process(self.agent()?, Signal::HUP)
            .map_err(|err| refused(&format!("cannot signal it: {err}")))?;
        while asked.elapsed() < AGENT {
            sleep(PAUSE).await;
            let report = status::ask(self.settings).await;
            if report.is_ok_and(|report| report.uptime_seconds <= asked.elapsed().as_secs()) {
                return Ok(());
            }
        }
        let kept = match replaced {
            Some(Replaced { target, old }) => match fs::rename(old, target) {
                Ok(()) => "; its older file is back in place".to_owned(),
                Err(err) => format!("; its older file is {}: {err}", old.display()),
            },
            None => String::new(),
        };
        let seconds = AGENT.as_secs();
        Err(refused(&format!(
            "it does not go on as the newer one within {seconds} s{kept}; its log says why"
        )))
    }

    /// The daemon's process.
    fn agent(&self) -> Result<Pid, Failure> {
        let lock = self.settings.state_dir.join("agent.lock");
        let pid = match InstanceLock::acquire(&lock) {
            Err(InstanceError::Held { pid, .. }) => {
                pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
            }
            Err(err @ InstanceError::Io { .. }) => return Err(refused(&chain(&err))),
            Ok(_) => None,
        };
        pid.ok_or_else(|| Fault::new(Reason::NoAgent, "no agent runs here").into())
    }

    /// Once the agent has put the engine in place, it is restarted, unless it runs from that file already.
    async fn go_over_to(&self, engine: &Download, limit: Duration) -> Result<HealthReport, Failure> {
        let binary = &self.settings.engine.binary;
        let until = Instant::now() + limit;
        while !is_that(binary, engine).await? {
            if Instant::now() >= until {
                let report = status::ask(self.settings).await?;
                let said = &report.checks.engine_process[0].output;
                let message =
                    format!("{} is not put in place within {} s: {said}", binary.display(), limit.as_secs());
                return Err(Fault::new(Reason::DownloadFailed, message).into());
            }
            sleep(PAUSE).await;
        }
        let report = status::ask(self.settings).await?;
        let running = report.engine.pid.and_then(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
        if running.is_some() && running == binary.canonicalize().ok() {
            return Ok(report);
        }
        restart::restart(self.settings, limit).await
    }
}

/// A file in whose place a newer one stands, and where the older one is.
struct Replaced {
    target: PathBuf,
    old: PathBuf,
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    name.into()
}

/// Is this the file that is wanted?
async fn is_that(path: &Path, download: &Download) -> Result<bool, Failure> {
    let (path, sha256) = (path.to_owned(), download.sha256);
    let looked = spawn_blocking(move || Inspector::default().look(&path, Some(sha256)) == State::Present);
    looked.await.map_err(|err| refused(&err.to_string()))
}

async fn fetch(download: &Download, target: &Path) -> Result<(), Failure> {
    let Some(source) = file_path(&download.url) else {
        return Ok(fetch_http(download, target, Bounds::default()).await?);
    };
    let bounds = Bounds::default();
    let (wanted, target, total) = (download.clone(), target.to_owned(), bounds.total);
    let named = source.display().to_string();
    let failed = move |why: String| Fault::new(Reason::DownloadFailed, format!("cannot copy {named}: {why}"));
    let opened = failed.clone();
    let copied = spawn_blocking(move || {
        let mut file = fs::File::open(&source).map_err(|err| opened(err.to_string()))?;
        copy(&mut file, &wanted, &target, bounds)
    });
    // A share that hangs is given up; its thread ends with this process.
    let copied = timeout(total, copied).await.map_err(|_| failed("it takes too long".to_owned()))?;
    Ok(copied.map_err(|err| failed(err.to_string()))??)
}

/// Does it run here at all, and is it an agent?
async fn try_out(path: &Path) -> Result<(), Failure> {
    let asked = Command::new(path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let why = match timeout(ANSWER, asked).await {
        Ok(Ok(output)) if output.status.success() && output.stdout.starts_with(b"forest-agent ") => {
            return Ok(());
        }
        Ok(Ok(output)) => {
            format!("it says {}", String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("nothing"))
        }
        Ok(Err(err)) => err.to_string(),
        Err(_) => format!("no answer within {} s", ANSWER.as_secs()),
    };
    let _ = fs::remove_file(path);
    Err(refused(&format!("what was fetched is no forest-agent that runs here ({why}); nothing was replaced")))
}

fn refused(why: &str) -> Failure {
    Fault::new(Reason::AgentStart, format!("the agent here: {why}")).into()
}

fn unwritable(what: &str, path: &Path, err: &std::io::Error) -> Failure {
    let fault = Fault::new(Reason::StateDir, format!("cannot {what} {}: {err}", path.display()));
    let denied = err.kind() == std::io::ErrorKind::PermissionDenied;
    if denied { fault.advise(SUDO).into() } else { fault.into() }
}

fn hex(bytes: &[u8; 32]) -> String {
    crate::engine::binary::Sha256Digest(*bytes).to_string()
}
