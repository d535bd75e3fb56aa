//! `forest-agent restart`: lets the daemon restart the engine by what is configured now, and waits until it is well.
//! Its clients are told to go elsewhere first. The way by which another executable comes to run.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use forest_core::health::{HealthReport, Status};
use forest_core::reason::Reason;
use serde_json::json;
use tokio::time::Instant;

use super::output::{explain, print, print_json};
use super::{CommandResult, Failure, block_on, status};
use crate::cli::Common;
use crate::engine::restart::{Restart, RestartFile};
use crate::settings::Settings;

const PAUSE: Duration = Duration::from_millis(250);

pub(super) fn run(settings: &Settings, common: &Common, limit: Duration) -> CommandResult {
    let report = block_on(restart(settings, limit))??;
    let engine = &report.engine;
    if common.json {
        let (version, pid) = (&engine.version, engine.pid);
        print_json(&json!({"node_id": report.node_id, "version": version, "pid": pid, "error": null}));
    } else {
        let version = engine.version.as_deref().unwrap_or("of unknown version");
        print(&format!("{} {version} runs on {}", engine.kind, report.node_id));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn restart(settings: &Settings, limit: Duration) -> Result<HealthReport, Failure> {
    let file = RestartFile::new(settings);
    let until = Instant::now() + limit;
    let mut before = status::ask(settings).await?;
    // An agent that has just begun has not found its engine yet.
    while before.engine.pid.is_none() && Instant::now() < until {
        tokio::time::sleep(PAUSE).await;
        before = status::ask(settings).await?;
    }
    if file.read().is_none() {
        let none = || {
            Failure::new(
                Reason::EngineStarting.code(),
                anyhow!("the engine does not run, so that nothing can be restarted"),
            )
        };
        let pid = before.engine.pid.ok_or_else(none)?;
        file.write(&Restart { engine: pid, witness: None })?;
        explain("the engine lets its clients go and is started again");
    }
    let mut last = before;
    while Instant::now() < until {
        if let Ok(report) = status::ask(settings).await {
            let checks = &report.checks;
            let well = [&checks.engine_process[0], &checks.nats_server[0], &checks.nats_jetstream[0]];
            if file.read().is_none() && well.iter().all(|check| check.status == Status::Pass) {
                return Ok(report);
            }
            last = report;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let ill = last.checks.iter().into_iter().find(|(_, check)| check.status != Status::Pass);
    let why = ill
        .map_or("it is being restarted still".to_owned(), |(key, check)| format!("{key}: {}", check.output));
    let error =
        anyhow!("the engine is not well {} s after the restart was asked for: {why}", limit.as_secs());
    Err(Failure::new(Reason::NotHealthy.code(), error))
}
