//! The commands of a node's agent, run for a person who sits at morpheus, here or over ssh: what it says while it works
//! is progress, what it says in the end is JSON.

use std::path::Path;
use std::process::Stdio;

use forest_core::reason::Reason;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use crate::failure::Failure;
use crate::progress::Progress;

/// With this ssh says that it came to nobody.
const NOT_REACHED: i32 = 255;

/// Where an agent's command is run.
#[derive(Debug, Clone)]
pub enum At<'a> {
    /// The agent at this path, with this configuration.
    Here(&'a Path, &'a Path),
    /// This ssh, with arguments that make it run what follows them on the node.
    There(&'a Path, Vec<String>),
}

impl At<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        match self {
            Self::Here(program, config) => {
                let mut command = Command::new(program);
                command.args(arguments).arg("--json").arg("--config").arg(config);
                command
            }
            Self::There(ssh, reach) => {
                let mut command = Command::new(ssh);
                command.args(reach).args(arguments).arg("--json");
                command
            }
        }
    }

    /// What to say of a failure without a reason of the agent's own.
    fn reason(&self, code: Option<i32>) -> Reason {
        match self {
            Self::There(..) if code == Some(NOT_REACHED) => Reason::SshFailed,
            _ => Reason::AgentUnreachable,
        }
    }
}

/// Runs `arguments` of the agent of `node`; its JSON. Progress is shown for the node.
///
/// # Errors
/// [`Failure`] with the agent's own reason and words, or where it cannot be run.
pub async fn run(
    at: &At<'_>,
    arguments: &[&str],
    node: &str,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    let mut command = at.command(arguments);
    let failed = |err: std::io::Error| {
        let message = format!("cannot run forest-agent {} for {node}: {err}", arguments.join(" "));
        Failure::new(Reason::AgentStart, message)
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut said, mut text) = (String::new(), String::new());
    let listen = async {
        let Some(stderr) = stderr else { return };
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            progress.at(node, &line);
            said = line;
        }
    };
    let read = async {
        match stdout {
            Some(mut stdout) => stdout.read_to_string(&mut text).await.map(drop),
            None => Ok(()),
        }
    };
    let ((), read) = futures::join!(listen, read);
    read.map_err(failed)?;
    let status = child.wait().await.map_err(failed)?;
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    if status.success() {
        if value.is_object() {
            return Ok(value);
        }
        let message =
            format!("{node}: what answered forest-agent {} is no forest-agent", arguments.join(" "));
        return Err(Failure::new(Reason::AgentUnreachable, message));
    }
    let error = &value["error"];
    let reason = error["reason"].as_str().and_then(Reason::of_code);
    let reason = reason.unwrap_or_else(|| at.reason(status.code()));
    let message = error["message"].as_str().map_or(said, str::to_owned);
    Err(Failure::new(reason, format!("{node}: {message}")))
}

/// The streams that a `leave` has destroyed, or that nobody leads after a `forget`, by their JSON.
#[must_use]
pub fn lost(told: &Value) -> Vec<String> {
    let names = ["lost", "leaderless"].into_iter().filter_map(|key| told[key].as_array()).flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}
