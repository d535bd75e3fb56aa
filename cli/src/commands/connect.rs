//! `morpheus connect`: a way for clients into a forest. A local one has it already; of another machine's engine, which
//! listens for its own machine's clients alone, ssh brings the port here.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use forest_core::health::Status;
use forest_core::reason::Reason;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::Instant;

use super::cloud::Nodes;
use super::resolve::{Resolved, There};
use crate::args::Connect;
use crate::cloud::site::Site;
use crate::cloud::ssh::{self, Ssh};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::local::{Local, record, targets, unknown};
use crate::probe::{Look, Target};
use crate::ui::{Done, Ui};

/// So long the tunnel may take to stand.
const OPENING: Duration = Duration::from_secs(20);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(100);
/// So long ssh's last words are waited for once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// So many bytes of what ssh says are kept.
const TAIL: usize = 4096;

pub(super) async fn run(
    forest: Resolved,
    args: &Connect,
    named: Option<&Path>,
    env: &Environment,
    ui: &Ui,
) -> Result<Done, Failure> {
    match forest {
        Resolved::Local(local, forest) => here(&local, &forest, args).await,
        Resolved::Remote(there) => tunnel(&there, args, named, env, ui).await,
    }
}

async fn here(local: &Local, forest: &record::Forest, args: &Connect) -> Result<Done, Failure> {
    let looks = local.http.look(&targets(&forest.plan)).await;
    let look = chosen(&looks, args)?;
    let Some(address) = look.client() else {
        let message =
            format!("{}: its engine does not answer: morpheus status {}", look.target.node, args.forest);
        return Err(Failure::new(Reason::AgentUnreachable, message));
    };
    Ok(described(args, &look.target, address, None))
}

/// The node that was named, else the first that is well, else the first whose agent answers.
fn chosen<'a>(looks: &'a [Look], args: &Connect) -> Result<&'a Look, Failure> {
    if let Some(name) = &args.node {
        let all: Vec<String> = looks.iter().map(|look| look.target.node.to_string()).collect();
        let named = looks.iter().find(|look| look.target.node.as_str() == name);
        return named.ok_or_else(|| unknown("node", name, &all, Reason::NodeUnknown));
    }
    let is_well =
        |look: &&Look| look.health.as_ref().is_ok_and(|health| health.report.status != Status::Fail);
    let found = looks.iter().find(is_well).or_else(|| looks.iter().find(|look| look.health.is_ok()));
    found.ok_or_else(|| {
        let message = format!("no node of {0} answers: morpheus status {0}", args.forest);
        Failure::new(Reason::AgentUnreachable, message)
    })
}

async fn tunnel(
    there: &There,
    args: &Connect,
    named: Option<&Path>,
    env: &Environment,
    ui: &Ui,
) -> Result<Done, Failure> {
    let plan = there.plan()?;
    let site = Site::open(named, env)?;
    let program = ssh::program(env)?;
    let ssh = Ssh::new(&site.machine, &plan.mark(&there.id), env)?;
    let nodes = Nodes::find(&site, there, plan).await;
    let target = match &args.node {
        Some(name) => nodes.one(plan, name)?,
        None => chosen(&site.http.look(&nodes.targets).await, args)?.target.clone(),
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let forward = format!("{address}:127.0.0.1:4222");
    let arguments = ssh.arguments(target.ip, &["-o", "ExitOnForwardFailure=yes", "-N", "-L", &forward], &[]);
    if ui.json() {
        let command: Vec<String> = std::iter::once("ssh".to_owned()).chain(arguments).collect();
        return Ok(described(args, &target, address, Some(&command)));
    }
    if TcpListener::bind(address).is_err() {
        let message = format!("port {} of this machine is taken: choose another with --port", args.port);
        return Err(Failure::new(Reason::PortTaken, message));
    }
    open(&program, &arguments, &target, address, ui).await?;
    Ok(super::logs::quiet())
}

/// Opens the tunnel, and keeps it until it ends.
async fn open(
    program: &Path,
    arguments: &[String],
    target: &Target,
    address: SocketAddr,
    ui: &Ui,
) -> Result<(), Failure> {
    let failed = |why: &str| {
        let message = format!("ssh root@{}: {why}; {}", target.ip, Reason::SshFailed.remedy());
        Failure::new(Reason::SshFailed, message)
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().map_err(|err| failed(&err.to_string()))?;
    // Read while it runs: a tunnel that complains for long must not stand still before a full pipe.
    let said = child.stderr.take().map(|stderr| tokio::spawn(tail(stderr)));
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let begun = Instant::now();
    let mut told = false;
    loop {
        if !told && TcpStream::connect_timeout(&address, LOOK).is_ok() {
            told = true;
            let text = format!(
                "{} is at nats://{address} for as long as this runs\ntry:      nats --server nats://{address} pub hello world",
                target.node
            );
            let _ = ui.stream(&json!(null), &text);
        }
        if !told && begun.elapsed() > OPENING {
            return Err(failed("the tunnel does not stand in time"));
        }
        tokio::select! {
            ended = child.wait() => {
                let said = match said {
                    // What a process of its own keeps open never ends.
                    Some(said) => tokio::time::timeout(LAST_WORDS, said).await.ok().and_then(Result::ok),
                    None => None,
                }
                .unwrap_or_default();
                let how = ended.map_or_else(|err| err.to_string(), |status| status.to_string());
                return Err(failed(&format!("it ended ({how}) {}", said.trim())));
            }
            _ = &mut interrupted => return Ok(()),
            () = tokio::time::sleep(LOOK), if !told => {}
        }
    }
}

/// Reads all that a program says; the last of it. What cannot be read is no complaint.
async fn tail(mut from: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; TAIL]);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(TAIL));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn described(args: &Connect, target: &Target, address: SocketAddr, command: Option<&[String]>) -> Done {
    let url = format!("nats://{address}");
    let json = json!({
        "forest_id": args.forest,
        "node_id": target.node.as_str(),
        "client_url": url,
        "command": command,
    });
    Done::new(json, format!("{} is at {url}\ntry:      nats --server {url} pub hello world", target.node))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn whoever_says_much_is_not_held_up_and_the_last_words_are_kept() {
        let (mut from, to) = tokio::io::duplex(64);
        let said = tokio::spawn(tail(to));
        for _ in 0..10_000 {
            from.write_all(b"channel 3: open failed\n").await.unwrap();
        }
        from.write_all(b"Connection closed").await.unwrap();
        drop(from);
        let said = said.await.unwrap();
        assert!(said.len() == TAIL && said.ends_with("failed\nConnection closed"), "{said}");
    }
}
