//! `forest-agent leave`: asks the daemon here to take its node out of the forest, and follows it. The daemon goes on
//! whether or not anybody follows.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use forest_core::reason::Reason;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::output::{explain, print, print_json};
use super::{CommandResult, Failure, block_on, status};
use crate::cli::Common;
use crate::cluster::leave::intent::{Intent, IntentFile, State};
use crate::fault::Fault;
use crate::removal::RemovalMarker;
use crate::settings::{EngineKind, Settings};

/// Between two looks at what came of it.
const PAUSE: Duration = Duration::from_millis(200);
/// An agent that is silent for so long is believed to be gone; one that is being replaced is silent for a moment.
const SILENT: Duration = Duration::from_secs(30);

pub(super) fn run(settings: &Settings, common: &Common, force: bool) -> CommandResult {
    if settings.engine.kind == EngineKind::Nimsforest {
        let message = "a NimsForest node cannot leave by itself yet: its server takes no orders, and its streams cannot be \
                       placed";
        let advice =
            "move its streams by hand, then stop its agent for good (systemctl disable --now forest-agent)";
        return Err(Fault::new(Reason::NotSupported, message).advise(advice).into());
    }
    let file = IntentFile::new(settings);
    let Some(request) = ask(settings, &file, force)? else {
        return Ok(done(common, &already(settings, &file)));
    };
    let intent = block_on(follow(settings, &file, &request))??;
    if intent.state == State::Refused {
        return Ok(refused(common, &intent));
    }
    Ok(done(common, &intent))
}

/// Writes the request, or joins one that is under way; `None`: the node has left before.
fn ask(settings: &Settings, file: &IntentFile, force: bool) -> Result<Option<String>, Failure> {
    let known = file.read();
    let under_way = known.filter(|intent| intent.state == State::Wanted);
    if RemovalMarker::new(settings).read().is_some() && under_way.is_none() {
        return Ok(None);
    }
    block_on(status::ask(settings))??;
    let intent = match under_way {
        Some(intent) if intent.force || !force => return Ok(Some(intent.request)),
        Some(intent) => Intent { force, ..intent },
        None => file.request(force),
    };
    file.write(&intent)?;
    Ok(Some(intent.request))
}

fn already(settings: &Settings, file: &IntentFile) -> Intent {
    let message = format!("{} is out of forest {} already", settings.node, settings.forest);
    Intent { message, state: State::Left, ..file.read().unwrap_or_else(|| file.request(false)) }
}

/// Until it has left or stays; what it waits for goes to stderr.
async fn follow(settings: &Settings, file: &IntentFile, request: &str) -> Result<Intent, Failure> {
    let mut heard = Instant::now();
    let mut said = String::new();
    loop {
        match file.read() {
            Some(intent) if intent.request != request => {
                let error = anyhow!("{} holds another request by now", file.path().display());
                return Err(Failure::new(Reason::Busy.code(), error));
            }
            Some(intent) if intent.state != State::Wanted => return Ok(intent),
            _ => {}
        }
        match status::ask(settings).await {
            Ok(report) => {
                heard = Instant::now();
                let check = &report.checks.nats_jetstream[0];
                if check.reason.as_deref() == Some(Reason::Leaving.code()) && check.output != said {
                    said.clone_from(&check.output);
                    explain(&said);
                }
            }
            Err(failure) if heard.elapsed() > SILENT => return Err(failure),
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn shape(intent: &Intent, status: &str, error: &Value) -> Value {
    json!({
        "forest_id": intent.forest_id, "node_id": intent.node_id, "status": status,
        "moved": intent.moved, "lowered": intent.lowered, "lost": intent.lost, "error": error,
    })
}

fn refused(common: &Common, intent: &Intent) -> ExitCode {
    let code = intent.reason.clone().unwrap_or_default();
    let remedy = Reason::of_code(&code).map_or("", Reason::remedy);
    if common.json {
        print_json(&shape(intent, "stays", &json!({"reason": code, "message": intent.message})));
    }
    explain(&format!("{} stays: {}; {remedy}", intent.node_id, intent.message));
    ExitCode::FAILURE
}

fn done(common: &Common, intent: &Intent) -> ExitCode {
    if common.json {
        print_json(&shape(intent, "left", &Value::Null));
        return ExitCode::SUCCESS;
    }
    let mut text = intent.message.clone();
    for (what, streams) in [
        ("moved to nodes that stay", &intent.moved),
        ("with fewer replicas now, for fewer nodes stay", &intent.lowered),
        ("destroyed by --force", &intent.lost),
    ] {
        if !streams.is_empty() {
            text.push_str(&format!("\n{what}: {}", streams.join(", ")));
        }
    }
    print(&text);
    ExitCode::SUCCESS
}
