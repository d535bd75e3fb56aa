//! `forest-agent check`: every step of `run`, looked at and not done. Touches nothing.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, Table};
use forest_core::health::{Check, HealthReport, Status};
use forest_core::reason::Reason;
use serde::Serialize;
use serde_json::json;

use super::output::{on_terminal, print, print_json};
use super::preflight;
use super::{CommandResult, Environment, block_on};
use crate::cli::Common;
use crate::driver::{LastRead, Look, Seen, Step, StepName};
use crate::engine::limits::Limits;
use crate::engine::nats_config::{NatsConfig, Role};
use crate::engine::nats_server;
use crate::fault::{Fault, chain};
use crate::firewall::tools::System;
use crate::health::client;
use crate::settings::{EngineKind, Settings};
use crate::share::lane::Lane;
use crate::steps::{
    self, AddressStep, BinariesStep, DataDirStep, DirStep, FirewallStep, Kept, NodeInfoStep, Registrar,
    RegistryStep, SecretsKeeper, SecretsStep,
};

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outlook {
    Ok,
    WouldChange,
    WouldFail,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    status: Outlook,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Line {
    fn new(name: &'static str, result: Result<Look, Fault>) -> Self {
        match result {
            Ok(Look::Stands(detail)) => Self { name, status: Outlook::Ok, detail, reason: None },
            Ok(Look::Differs(fault)) => {
                let reason = Some(fault.reason.code());
                Self { name, status: Outlook::WouldChange, detail: fault.message, reason }
            }
            Err(fault) => {
                let detail = format!("{}; {}", fault.message, fault.remedy());
                Self { name, status: Outlook::WouldFail, detail, reason: Some(fault.reason.code()) }
            }
        }
    }
}

impl Line {
    /// The same, unless the change that it announces would fail.
    fn unless(self, preflight: impl FnOnce() -> Result<(), Fault>) -> Self {
        match self.status {
            Outlook::WouldChange => match preflight() {
                Ok(()) => self,
                Err(fault) => Self::new(self.name, Err(fault)),
            },
            Outlook::Ok | Outlook::WouldFail => self,
        }
    }

    /// The same, unless the agent that runs here has tried already, and says in `told` why it failed: a look alone
    /// cannot know that a server refuses the password.
    fn unless_tried(self, told: Option<&Check>) -> Self {
        let said = told.filter(|check| check.status != Status::Pass).and_then(|check| {
            let reason = check.reason.as_deref().and_then(Reason::of_code)?;
            let waits = matches!(reason, Reason::Starting | Reason::Stale);
            (!waits && self.reason != Some(reason.code())).then_some((reason, check))
        });
        match said {
            Some((reason, check)) if self.status == Outlook::WouldChange => Self {
                name: self.name,
                status: Outlook::WouldFail,
                detail: format!("the running agent says: {}", check.output),
                reason: Some(reason.code()),
            },
            _ => self,
        }
    }
}

/// What the agent that runs here says of itself, if one does.
async fn running(settings: &Settings) -> Option<HealthReport> {
    let at = client::local(settings.listen.health);
    let found = client::identity(at).await.ok()?;
    let ours = found.instance == steps::instance(&settings.state_dir);
    if ours { client::health(at).await.ok() } else { None }
}

/// Of what is said of the engine, only what is about its executable.
fn of_binary(check: &Check) -> bool {
    let reasons = [Reason::DownloadFailed, Reason::DownloadSha256, Reason::EngineNotExecutable];
    reasons.iter().any(|reason| check.reason.as_deref() == Some(reason.code()))
}

pub(super) fn run(settings: &Arc<Settings>, common: &Common, environment: &Environment) -> CommandResult {
    let lines = block_on(look(settings, common, environment))?;
    let worst =
        lines.iter().map(|line| line.status).max_by_key(|status| *status as u8).unwrap_or(Outlook::Ok);
    if common.json {
        let value = json!({"status": worst, "steps": lines});
        print_json(&value);
    } else {
        print(&render(&lines, on_terminal()));
    }
    Ok(if worst == Outlook::WouldFail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn look(settings: &Arc<Settings>, common: &Common, environment: &Environment) -> Vec<Line> {
    let lane = Arc::new(Lane::new("registry-read"));
    let share = DirStep::new(settings, Arc::clone(&lane));
    let registrar = Registrar::new(Arc::clone(settings), environment.limits(), lane);
    let (forest, node) = (settings.forest.clone(), settings.node.clone());
    let mut seen = Seen::default();
    let running = running(settings).await;
    let told = running.as_ref().map(|report| &report.checks);
    let mut lines = vec![Line::new("config", Ok(Look::Stands(common.config.display().to_string())))];

    lines.push(Line::new("state_dir", preflight::own_dirs(settings)));
    lines.push(ask(StepName::Address, &AddressStep::new(settings.address), &mut seen).await);
    let mut mounted = ask(StepName::Share, &share, &mut seen).await;
    if mounted.status == Outlook::WouldChange
        && let Err(fault) = share.preflight().await
    {
        mounted = Line::new(StepName::Share.as_str(), Err(fault));
    }
    if mounted.status == Outlook::Ok
        && let Some(dir) = &seen.dir
        && let Err(fault) = preflight::registry_dir(dir.path())
    {
        mounted = Line::new(StepName::Share.as_str(), Err(fault));
    }
    let mounted = mounted.unless_tried(told.map(|told| &told.share_mounted[0]));
    let share_outlook = mounted.status;
    lines.push(mounted);
    let node_info = NodeInfoStep::new(settings.node_info.clone(), forest, node);
    let node_info = ask(StepName::NodeInfo, &node_info, &mut seen).await;
    let parent = settings.node_info.parent().unwrap_or(Path::new("/"));
    lines.push(node_info.unless(|| preflight::can_make(parent, Reason::NodeInfoWrite)));
    let data_dir = &settings.engine.data_dir;
    let data = ask(StepName::DataDir, &DataDirStep::new(data_dir.clone()), &mut seen).await;
    lines.push(data.unless(|| preflight::can_make(data_dir, Reason::DataDir)));
    let binaries = BinariesStep::new(settings);
    let binaries = if share_outlook == Outlook::WouldChange { binaries.once_mounted() } else { binaries };
    let binaries = ask(StepName::Binaries, &binaries, &mut seen).await;
    let of_engine = told.map(|told| &told.engine_process[0]);
    let binaries = binaries.unless_tried(of_engine.filter(|check| of_binary(check)));
    let binaries_outlook = binaries.status;
    lines.push(binaries);
    lines.push(match share_outlook {
        Outlook::Ok => {
            let keeper = SecretsKeeper::that_only_looks(registrar.clone());
            ask(StepName::Secrets, &SecretsStep::new(keeper), &mut seen).await
        }
        Outlook::WouldChange => waits(StepName::Secrets, "looked at once the registry's directory is there"),
        Outlook::WouldFail => fails(StepName::Secrets, "cannot be reached without the share"),
    });
    lines.push(match share_outlook {
        Outlook::Ok => {
            // A copy that nobody keeps: `check` writes nothing.
            let step = RegistryStep::new(registrar, Kept::nowhere(settings));
            let entry = ask(StepName::Registry, &step, &mut seen).await;
            entry.unless_tried(told.map(|told| &told.registry_entry[0]))
        }
        Outlook::WouldChange => waits(StepName::Registry, "looked at once the registry's directory is there"),
        Outlook::WouldFail => fails(StepName::Registry, "cannot be reached without the share"),
    });
    // What the registry could not tell now, `run` takes from the copy that it kept.
    seen.registry = seen
        .registry
        .or_else(|| Kept::new(settings).registry().map(|registry| Arc::new(LastRead { registry, at: None })));
    let tools = Arc::new(System::new(environment.path()));
    let firewall = FirewallStep::new(Arc::clone(settings), tools);
    let firewall = ask(StepName::Firewall, &firewall, &mut seen).await;
    lines.push(firewall.unless_tried(told.map(|told| &told.firewall_rules[0])));
    lines.push(engine(settings, running.as_ref(), binaries_outlook).await);
    lines
}

async fn ask(name: StepName, step: &dyn Step, seen: &mut Seen) -> Line {
    let looked = step.look(seen.clone()).await;
    for fact in looked.facts {
        seen.learn(fact);
    }
    Line::new(name.as_str(), looked.result)
}

fn waits(name: StepName, detail: &str) -> Line {
    Line { name: name.as_str(), status: Outlook::WouldChange, detail: detail.to_owned(), reason: None }
}

fn fails(name: StepName, detail: &str) -> Line {
    Line { name: name.as_str(), status: Outlook::WouldFail, detail: detail.to_owned(), reason: None }
}

/// The engine: as the running agent sees it, or whether its configuration would be taken.
async fn engine(settings: &Settings, running: Option<&HealthReport>, binaries: Outlook) -> Line {
    let name = StepName::Engine;
    if let Some(report) = running {
        let fatal = [&report.checks.engine_process[0], &report.checks.nats_server[0]];
        let worst = if fatal[1].status > fatal[0].status { fatal[1] } else { fatal[0] };
        let status = if worst.status == Status::Fail { Outlook::WouldFail } else { Outlook::Ok };
        let detail = format!("the running agent says: {}", worst.output);
        let reason = worst.reason.as_deref().and_then(Reason::of_code).map(Reason::code);
        return Line { name: name.as_str(), status, detail, reason };
    }
    if let Err(fault) = preflight::ports(settings) {
        return Line::new(name.as_str(), Err(fault));
    }
    match binaries {
        Outlook::WouldFail => return fails(name, "cannot be started without its executable"),
        Outlook::WouldChange => return waits(name, "started once its executable is fetched"),
        Outlook::Ok => {}
    }
    let binary = settings.engine.binary.display();
    if settings.engine.kind == EngineKind::NatsServer
        && let Err(fault) = test_config(settings).await
    {
        return Line::new(name.as_str(), Err(fault));
    }
    waits(name, &format!("no agent runs here; `forest-agent run` would start {binary}"))
}

/// Lets nats-server test the configuration that it would get, in a directory that is gone afterwards.
async fn test_config(settings: &Settings) -> Result<(), Fault> {
    let failed = |err: &dyn std::error::Error| Fault::new(Reason::StateDir, chain(err));
    let dir = tempfile::tempdir().map_err(|err| failed(&err))?;
    let config = NatsConfig {
        name: settings.node.as_str(),
        role: Role::Engine { monitor: settings.listen.monitor, takes_streams: true },
        client: settings.listen.client,
        store_dir: dir.path(),
        limits: Limits::derive(0, 0),
        cluster: None,
    };
    let path = nats_server::write_config(dir.path(), &config)?;
    nats_server::check_config(&settings.engine.binary, &path).await
}

fn render(lines: &[Line], colour: bool) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    for line in lines {
        let (word, shade) = match line.status {
            Outlook::Ok => ("ok", Color::Green),
            Outlook::WouldChange => ("would change", Color::Yellow),
            Outlook::WouldFail => ("WOULD FAIL", Color::Red),
        };
        let reason = line.reason.map(|reason| format!("[{reason}] ")).unwrap_or_default();
        table.add_row([
            Cell::new(word).fg(shade),
            Cell::new(line.name),
            Cell::new(format!("{reason}{}", line.detail)),
        ]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_outlook_is_the_last() {
        assert!((Outlook::Ok as u8) < (Outlook::WouldChange as u8));
        assert!((Outlook::WouldChange as u8) < (Outlook::WouldFail as u8));
    }

    #[test]
    fn what_a_running_agent_failed_of_would_fail() {
        let check = |reason: Option<Reason>| Check {
            status: if reason.is_some() { Status::Warn } else { Status::Pass },
            time: String::new(),
            observed_value: serde_json::Value::Null,
            observed_unit: String::new(),
            output: "the server refuses".to_owned(),
            reason: reason.map(|reason| reason.code().to_owned()),
            peers: None,
        };
        let due =
            || Line::new("share", Ok(Look::Differs(Fault::new(Reason::ShareNotMounted, "not mounted"))));
        let line = due().unless_tried(Some(&check(Some(Reason::ShareWrongPassword))));
        assert_eq!((line.status, line.reason), (Outlook::WouldFail, Some("share_wrong_password")));
        assert_eq!(line.detail, "the running agent says: the server refuses");
        for told in [None, Some(Reason::ShareNotMounted), Some(Reason::Starting), Some(Reason::Stale)] {
            assert_eq!(due().unless_tried(Some(&check(told))).status, Outlook::WouldChange, "{told:?}");
        }
        assert_eq!(due().unless_tried(None).status, Outlook::WouldChange);
        let stands = Line::new("share", Ok(Look::Stands(String::new())));
        assert_eq!(stands.unless_tried(Some(&check(Some(Reason::ShareDead)))).status, Outlook::Ok);
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let fault = Fault::new(Reason::EngineMissing, "there is no /opt/x");
        let text = render(&[Line::new("binaries", Err(fault))], false);
        assert!(
            text.contains("WOULD FAIL") && text.contains("[engine_missing] there is no /opt/x; install it")
        );
    }
}
