//! The commands: each reads the settings, does its one thing and says how it went. Results go to stdout,
//! diagnostics to stderr; the exit code is 0 for done, 1 for failed, 2 for usage (clap's), 78 for bad config.

mod check;
mod forget;
mod install;
mod leave;
mod output;
mod preflight;
mod register;
mod restart;
mod run;
mod status;
mod take_over;
mod upgrade;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use forest_core::reason::Reason;
use forest_core::registry::Limits;
use serde_json::json;

use crate::cli::{Cli, Command};
use crate::fault::{Fault, SUDO, chain};
use crate::logging::LogEnv;
use crate::settings::{ConfigError, Settings};
use output::{explain, print_json};

/// `EX_CONFIG` of sysexits: the configuration is bad. systemd is told not to start the agent again after it.
const EXIT_CONFIG: u8 = 78;

/// What the agent takes from its process's environment; read once, in main.
#[derive(Debug, Clone)]
pub struct Environment {
    /// This executable, as it was started; a newer file may stand there later.
    pub executable: Option<PathBuf>,
    /// Logging.
    pub log: LogEnv,
    /// What children get of it.
    pub for_children: Vec<(OsString, OsString)>,
    /// `FOREST_AGENT_TEST_STALE_MS`: a shorter stale limit of the registry, for tests alone: agents of one forest
    /// that differ in it take each other's leases away.
    pub stale: Option<Duration>,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            executable: executable(std::env::args_os().next(), std::env::current_exe().ok()),
            log: LogEnv {
                filter: std::env::var("FOREST_AGENT_LOG").ok(),
                journal_stream: std::env::var("JOURNAL_STREAM").ok(),
            },
            for_children: crate::child::inherited(std::env::vars_os()),
            stale: std::env::var("FOREST_AGENT_TEST_STALE_MS")
                .ok()
                .and_then(|text| text.parse().ok())
                .map(Duration::from_millis),
        }
    }
}

/// The path by which this program was started, where that still leads to it: a symlink may lead to a newer one
/// later. Else the file itself.
fn executable(started_as: Option<OsString>, file: Option<PathBuf>) -> Option<PathBuf> {
    let named = started_as.map(PathBuf::from).filter(|path| path.components().count() > 1);
    let named = named.and_then(|path| std::path::absolute(path).ok());
    let leads_here =
        |path: &PathBuf| path.canonicalize().ok() == file.as_ref().and_then(|file| file.canonicalize().ok());
    named.filter(leads_here).or(file)
}

impl Environment {
    /// Where programs are looked up.
    fn path(&self) -> Option<&OsStr> {
        let path = self.for_children.iter().find(|(name, _)| name == "PATH");
        path.map(|(_, value)| value.as_os_str())
    }

    /// The limits of the registry's algorithm.
    fn limits(&self) -> Limits {
        let limits = Limits::default();
        match self.stale {
            Some(stale) => Limits { stale, give_up: limits.give_up.min(stale * 10), ..limits },
            None => limits,
        }
    }
}

/// Carries out a command; the exit code says how it went.
#[must_use]
pub fn run(cli: &Cli, environment: &Environment) -> ExitCode {
    let common = cli.command.common();
    let settings = match Settings::load(&common.config) {
        Ok(settings) => Arc::new(settings),
        Err(err) => return refuse(&err, common.json),
    };
    let result = match &cli.command {
        Command::Run(common) => run::run(&settings, common, environment),
        Command::Install(common) => install::run(common, environment),
        Command::Register { dry_run, common } => register::run(&settings, common, environment, *dry_run),
        Command::Check(common) => check::run(&settings, common, environment),
        Command::Forget { node, rescue, common } => {
            forget::run(&settings, common, environment, node, *rescue)
        }
        Command::Restart { wait, common } => restart::run(&settings, common, *wait),
        Command::Leave { force, common } => leave::run(&settings, common, *force),
        Command::TakeOver { leave_behind, common } => take_over::run(&settings, common, leave_behind),
        Command::Upgrade { newer, common } => upgrade::run(&settings, common, environment, newer),
        Command::Status { wait, common } => status::run(&settings, common, *wait),
    };
    result.unwrap_or_else(|failure| {
        if common.json {
            print_json(
                &json!({"error": {"reason": failure.reason, "message": format!("{:#}", failure.error)}}),
            );
        }
        explain(&format!("{:#}", failure.error));
        ExitCode::from(failure.exit)
    })
}

fn refuse(err: &ConfigError, json: bool) -> ExitCode {
    if json {
        print_json(&json!({"error": {"reason": err.reason().code(), "message": err.to_string()}}));
    }
    explain(&err.to_string());
    ExitCode::from(EXIT_CONFIG)
}

/// Why a command failed, with its exit code and a stable reason.
#[derive(Debug)]
struct Failure {
    error: anyhow::Error,
    reason: String,
    exit: u8,
}

impl Failure {
    fn new(reason: &str, error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), reason: reason.to_owned(), exit: 1 }
    }

    fn exiting(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let error = anyhow::anyhow!("{}; {}", fault.message, fault.remedy());
        Self::new(fault.reason.code(), error)
    }
}

impl From<crate::files::FileError> for Failure {
    /// Of state_dir or runtime_dir.
    fn from(err: crate::files::FileError) -> Self {
        let denied = err.source.kind() == std::io::ErrorKind::PermissionDenied;
        let fault = Fault::new(Reason::StateDir, chain(&err));
        if denied { fault.advise(SUDO).into() } else { fault.into() }
    }
}

/// Runs one future to its end on a runtime of its own, for the commands that ask something and are done.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|err| Failure::new("no_runtime", err))?.block_on(future))
}

type CommandResult = Result<ExitCode, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_that_leads_here_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("agent-1"), dir.path().join("agent"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let found = |started_as: &std::path::Path| executable(Some(started_as.into()), Some(file.clone()));
        assert_eq!(found(&link), Some(link.clone()));
        // Looked up in PATH, or another program's name: the file itself.
        assert_eq!(found("agent".as_ref()), Some(file.clone()));
        assert_eq!(found("/bin/true".as_ref()), Some(file.clone()));
    }
}
