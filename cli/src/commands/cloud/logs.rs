//! `morpheus logs` for a forest in the cloud: the journals of its nodes, over ssh, all at once.

use std::path::Path;
use std::process::Stdio;

use forest_core::reason::Reason;
use forest_core::time::rfc3339;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::super::logs::quiet;
use super::super::resolve::There;
use super::Nodes;
use crate::args;
use crate::cloud::site::Site;
use crate::cloud::ssh::{self, Ssh};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::local::logs::since;
use crate::probe::Target;
use crate::ui::{Done, Ui};

/// Without --since so many lines of each node are shown.
const LINES: &str = "1000";
/// Of what ssh complains no more is told, in bytes.
const COMPLAINT: u64 = 2000;

/// A line of a node's journal, or how its ssh ended.
enum Heard {
    Line(String, String),
    End(String, Result<(), String>),
}

pub(in super::super) async fn run(
    there: &There,
    args: &args::Logs,
    named: Option<&Path>,
    env: &Environment,
    ui: &Ui,
) -> Result<Done, Failure> {
    let plan = there.plan()?;
    let site = Site::open(named, env)?;
    let program = ssh::program(env)?;
    let ssh = Ssh::new(&site.machine, &plan.mark(&there.id), env)?;
    let nodes = Nodes::find(&site, there, plan).await;
    let targets = match &args.node {
        Some(name) => vec![nodes.one(plan, name)?],
        None => {
            for absent in &nodes.absent {
                ui.tell(&format!("{}: {}", absent.node_id, absent.error));
            }
            nodes.targets
        }
    };
    let command = journalctl(args)?;
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let (tell, mut heard) = mpsc::channel(256);
    for target in targets {
        let arguments = ssh.arguments(target.ip, &[], &command);
        let (program, tell) = (program.clone(), tell.clone());
        tokio::spawn(async move { follow(&program, arguments, target, tell).await });
    }
    drop(tell);
    let mut failures = Vec::new();
    while let Some(heard) = heard.recv().await {
        match heard {
            Heard::Line(node, text) => {
                let Some((time, line)) = entry(&text) else { continue };
                let json = json!({"node_id": node, "source": "agent", "time": time, "line": line});
                if !ui.stream(&json, &format!("{node} agent | {line}")) {
                    return Ok(quiet());
                }
            }
            Heard::End(_, Ok(())) => {}
            Heard::End(node, Err(why)) => failures.push(format!("{node}: {why}")),
        }
    }
    match failures.is_empty() {
        true => Ok(quiet()),
        false => {
            let message = format!("{}; {}", failures.join("; "), Reason::SshFailed.remedy());
            Err(Failure::new(Reason::SshFailed, message))
        }
    }
}

/// What is run on a node. The agent writes the lines of its children into its own journal.
fn journalctl(args: &args::Logs) -> Result<Vec<String>, Failure> {
    let mut command: Vec<String> =
        ["journalctl", "--unit=forest-agent", "--output=json", "--no-pager", "--quiet"]
            .map(str::to_owned)
            .into();
    match &args.since {
        Some(text) => {
            let from =
                since(text, Timestamp::now()).map_err(|message| Failure::new(Reason::Usage, message))?;
            command.push(format!("--since=@{}", from.as_second()));
        }
        None => command.push(format!("--lines={LINES}")),
    }
    if args.follow {
        command.push("--follow".to_owned());
    }
    Ok(command)
}

/// The time and the text of a line of `journalctl --output=json`.
fn entry(text: &str) -> Option<(Option<String>, String)> {
    let value: Value = serde_json::from_str(text).ok()?;
    let micros = value.get("__REALTIME_TIMESTAMP").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let time = micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()).map(rfc3339);
    // A message that is not UTF-8 is a list of bytes.
    let message = match value.get("MESSAGE")? {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| byte.as_u64()?.try_into().ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => return None,
    };
    Some((time, message))
}

async fn follow(program: &Path, arguments: Vec<String>, target: Target, tell: mpsc::Sender<Heard>) {
    let node = target.node.to_string();
    let end = async {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().map_err(|err| err.to_string())?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("ssh has no output".to_owned());
        };
        let mut complaint = String::new();
        let complain = async {
            // What cannot be read is no complaint.
            let _ = err.take(COMPLAINT).read_to_string(&mut complaint).await;
        };
        let mut lines = BufReader::new(out).lines();
        let read = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if tell.send(Heard::Line(node.clone(), line)).await.is_err() {
                    return;
                }
            }
        };
        futures::join!(read, complain);
        let status = child.wait().await.map_err(|err| err.to_string())?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("ssh root@{} ended with {status}: {}", target.ip, complaint.trim())),
        }
    }
    .await;
    // Nobody listens any more where the command has ended.
    let _ = tell.send(Heard::End(node, end)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_journal_are_read_with_their_time() {
        let line =
            r#"{"__REALTIME_TIMESTAMP":"1795377600000000","MESSAGE":"step share: mounted","_PID":"7"}"#;
        let (time, text) = entry(line).unwrap();
        assert_eq!((time.as_deref(), text.as_str()), (Some("2026-11-22T20:00:00Z"), "step share: mounted"));
        assert_eq!(entry(r#"{"MESSAGE":[104,255]}"#).unwrap().1, "h\u{fffd}");
        assert_eq!((entry("-- No entries --"), entry("{}")), (None, None));
    }
}
