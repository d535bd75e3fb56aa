//! The commands of a node's agent, run for a person who sits at morpheus: what it says while it works is progress, what
//! it says in the end is JSON.

use std::path::Path;
use std::process::Stdio;

use forest_core::reason::Reason;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::layout::NodeDir;
use crate::failure::Failure;
use crate::progress::Progress;

/// Runs `arguments` of the agent at `program` for the node of `dir`; its JSON. Progress is shown for `node`.
///
/// # Errors
/// [`Failure`] with the agent's own reason and words, or where it cannot be run.
pub async fn run(
    program: &Path,
    dir: &NodeDir,
    arguments: &[&str],
    node: &str,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    let failed = |err: std::io::Error| {
        Failure::new(
            Reason::AgentStart,
            format!("cannot run {} {}: {err}", program.display(), arguments.join(" ")),
        )
    };
    let mut child = Command::new(program)
        .args(arguments)
        .arg("--json")
        .arg("--config")
        .arg(dir.config())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (mut stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut said = String::new();
    if let Some(stderr) = stderr {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            progress.at(node, &line);
            said = line;
        }
    }
    let mut text = String::new();
    if let Some(stdout) = &mut stdout {
        stdout.read_to_string(&mut text).await.map_err(failed)?;
    }
    let status = child.wait().await.map_err(failed)?;
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    if status.success() {
        return Ok(value);
    }
    let error = &value["error"];
    let reason = error["reason"].as_str().and_then(Reason::of_code).unwrap_or(Reason::AgentUnreachable);
    let message = error["message"].as_str().map_or(said, str::to_owned);
    Err(Failure::new(reason, format!("{node}: {message}")))
}
