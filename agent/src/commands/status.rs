//! `forest-agent status`: the local /health, for a person.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, Table};
use forest_core::health::{Check, HealthReport, Status};
use serde_json::Value;
use tokio::time::Instant;

use super::output::{on_terminal, print, print_json};
use super::{CommandResult, Failure, block_on};
use crate::cli::Common;
use crate::health::client::{self, Identity, NoAnswer};
use crate::settings::Settings;
use crate::steps;

/// Between two questions while waiting.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) fn run(settings: &Settings, common: &Common, wait: Option<Duration>) -> CommandResult {
    let report = block_on(answer(settings, wait.unwrap_or_default()))??;
    if common.json {
        print_json(&serde_json::to_value(&report).map_err(|err| Failure::new("no_agent", err))?);
    } else {
        print(&render(&report, on_terminal()));
    }
    Ok(if report.status == Status::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The first report that says pass, or what there is when the time is over.
async fn answer(settings: &Settings, wait: Duration) -> Result<HealthReport, Failure> {
    let begun = Instant::now();
    loop {
        let answer = ask(settings).await;
        let well = answer.as_ref().is_ok_and(|report| report.status == Status::Pass);
        if well || begun.elapsed() + PAUSE > wait {
            return answer;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The report of the agent that runs with these settings.
pub(super) async fn ask(settings: &Settings) -> Result<HealthReport, Failure> {
    let address = client::local(settings.listen.health);
    let silent = |err: NoAnswer| {
        let hint = "is it running? (systemctl status forest-agent, or forest-agent run)";
        Failure::new("no_agent", anyhow!("{err}; {hint}"))
    };
    let identity = client::identity(address).await.map_err(silent)?;
    if identity.instance != steps::instance(&settings.state_dir) {
        return Err(another(address, &identity));
    }
    client::health(address).await.map_err(silent)
}

fn another(address: SocketAddr, found: &Identity) -> Failure {
    let Identity { forest_id, node_id, instance } = found;
    let error = anyhow!(
        "the agent that answers at {address} is another one: {node_id} of forest {forest_id} (instance {instance}); \
         name its agent.yaml with --config, or set another port in `listen.health`"
    );
    Failure::new("other_agent", error)
}

/// The report as a person reads it: a headline, the checks, and the engine's last lines where something is wrong.
fn render(report: &HealthReport, colour: bool) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_width(if colour { terminal_width() } else { 120 });
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    for (key, check) in report.checks.iter() {
        let status = Cell::new(word(check.status)).fg(shade(check.status)).add_attribute(Attribute::Bold);
        table.add_row([status, Cell::new(key), Cell::new(measured(check)), Cell::new(words(check))]);
    }
    let mut text = format!("{}\n\n{}\n{}", headline(report), engine_line(report), table.trim_fmt());
    if report.status != Status::Pass && !report.engine.log_tail.is_empty() {
        text.push_str("\n\nthe engine's last lines:\n");
        text.push_str(
            &report.engine.log_tail.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"),
        );
    }
    text
}

fn headline(report: &HealthReport) -> String {
    format!(
        "{} of forest {}: {}, {} (address {}, agent {} up {})",
        report.node_id,
        report.forest_id,
        word(report.status),
        if report.step == "ready" { "ready".to_owned() } else { format!("at step {}", report.step) },
        report.address.as_deref().unwrap_or("not known yet"),
        report.release_id,
        duration(report.uptime_seconds),
    )
}

fn engine_line(report: &HealthReport) -> String {
    let engine = &report.engine;
    let version = engine.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let pid = engine.pid.map_or("not running".to_owned(), |pid| format!("pid {pid}"));
    let restarts = match engine.restarts {
        0 => "never restarted".to_owned(),
        1 => "restarted once".to_owned(),
        times => format!("restarted {times} times"),
    };
    let mut line = format!("engine: {}{version}, {pid}, {restarts}", engine.kind);
    if let Some(exit) = &engine.last_exit {
        let how = match (exit.code, exit.signal) {
            (Some(code), _) => format!("with code {code}"),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => "in a way that could not be seen".to_owned(),
        };
        line.push_str(&format!("; it ended last at {} {how}", exit.time));
    }
    line
}

fn words(check: &Check) -> String {
    match &check.reason {
        Some(reason) => format!("[{reason}] {}", check.output),
        None => check.output.clone(),
    }
}

fn measured(check: &Check) -> String {
    match &check.observed_value {
        Value::Null => String::new(),
        value if check.observed_unit == "pid" => format!("pid {value}"),
        value => format!("{value} {}", check.observed_unit),
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Pass => "pass",
        Status::Warn => "warn",
        Status::Fail => "FAIL",
    }
}

fn shade(status: Status) -> Color {
    match status {
        Status::Pass => Color::Green,
        Status::Warn => Color::Yellow,
        Status::Fail => Color::Red,
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn terminal_width() -> u16 {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(120, |size| size.ws_col.max(60))
}
