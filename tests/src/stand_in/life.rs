//! The stand-in's life: start, the faults it is told to have, signals, end.

use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use super::registry::{self, NodeInfo};
use super::settings::{Fault, Settings};
use super::{fail, say, server};

/// When the real program meets its work queue, after its start.
const WORK_QUEUE_DELAY: Duration = Duration::from_millis(300);
const FLOOD_BYTES: usize = 100 << 20;

/// Runs until it ends by itself or is told to.
pub(super) async fn run(settings: &Settings) -> ExitCode {
    say("🌲 Starting NimsForest...");
    if let Some(Fault::Exit(code)) = settings.fault {
        return ExitCode::from(code);
    }
    let second = settings.jetstream_dir.join("jetstream").exists();
    let signals = match signals() {
        Ok(signals) => signals,
        Err(err) => return fail(&format!("❌ Failed to watch signals: {err}")),
    };
    match start(settings) {
        Ok((server, clustered)) => live(settings, server, signals, clustered, second).await,
        Err(line) => fail(&line),
    }
}

/// Everything before its server runs. `Err` is its last line.
fn start(settings: &Settings) -> Result<(Child, bool), String> {
    say("Loading cluster configuration...");
    let text = std::fs::read_to_string(&settings.node_info).ok();
    let info = registry::node_info(text.as_deref(), &settings.node_info.to_string_lossy())?;
    say(&format!("  forest_id: {}\n  node_id: {}", info.forest, info.node));
    let own = settings.address.or_else(|| forest_agent::engine::nimsforest::own_ipv6().ok().map(IpAddr::V6));
    let own = own.ok_or("❌ No IPv6 address found. NimsForest requires IPv6.")?;
    say(&format!("  local_ip: {own}"));
    let text = std::fs::read_to_string(&settings.registry).unwrap_or_default();
    let peers = registry::peers(&text, &info.forest, own);
    match peers.len() {
        0 => say("  peers: none (first node in cluster)"),
        _ => say(&format!("  peers: {peers:?}")),
    }
    say("Starting embedded NATS server...");
    spawn(settings, &info, &peers)
}

fn spawn(settings: &Settings, info: &NodeInfo, peers: &[String]) -> Result<(Child, bool), String> {
    // An empty ip is a route that never answers.
    let known: Result<Vec<IpAddr>, _> =
        peers.iter().filter(|ip| !ip.is_empty()).map(|ip| ip.parse()).collect();
    let mut routes = known.map_err(|err| format!("❌ Failed to create embedded NATS server: {err}"))?;
    if peers.iter().any(String::is_empty) {
        routes.push(IpAddr::from([192, 0, 2, 1]));
    }
    let child = server::spawn(settings, info, &routes);
    let child = child.map_err(|err| format!("❌ Failed to create embedded NATS server: {err}"))?;
    Ok((child, !routes.is_empty()))
}

struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    lame_duck: tokio::signal::unix::Signal,
    /// Held so that HUP is caught; nobody reads it.
    _hup: tokio::signal::unix::Signal,
}

fn signals() -> io::Result<Signals> {
    Ok(Signals {
        term: signal(SignalKind::terminate())?,
        int: signal(SignalKind::interrupt())?,
        lame_duck: signal(SignalKind::user_defined2())?,
        _hup: signal(SignalKind::hangup())?,
    })
}

async fn live(
    settings: &Settings,
    mut server: Child,
    mut signals: Signals,
    clustered: bool,
    second: bool,
) -> ExitCode {
    let stoppable = settings.fault != Some(Fault::IgnoreTerm);
    let mut lame_duck = false;
    let work = work(settings, clustered, second);
    tokio::pin!(work);
    loop {
        tokio::select! {
            line = &mut work => return end(server, Some(&line)).await,
            _ = server.wait(), if !lame_duck => {
                return fail("❌ Failed to start embedded NATS server: the server inside ended");
            }
            _ = signals.term.recv(), if stoppable => return end(server, None).await,
            _ = signals.int.recv(), if stoppable => return end(server, None).await,
            _ = signals.lame_duck.recv() => {
                lame_duck = true;
                server::signal(&server, Signal::USR2);
            }
        }
    }
}

/// What NimsForest does on top of its server; it returns only with the fault that ends it, its last line.
async fn work(settings: &Settings, clustered: bool, second: bool) -> String {
    let no_route = settings.fault == Some(Fault::NoRoute);
    let usable = server::wait_usable(settings, clustered, settings.timeout).await;
    if no_route && usable {
        tokio::time::sleep(settings.timeout).await;
    }
    if no_route || !usable {
        return "❌ Failed to start embedded NATS server: NATS server failed to start within timeout"
            .to_owned();
    }
    match settings.fault {
        Some(Fault::WorkQueue) if second => {
            tokio::time::sleep(WORK_QUEUE_DELAY).await;
            return "❌ Failed to start payment tree: nats: filtered consumer not unique on workqueue stream"
                .to_owned();
        }
        Some(Fault::ConsumerBound) => {
            return "❌ Failed to start payment tree: nats: consumer is already bound to a subscription"
                .to_owned();
        }
        Some(Fault::Flood) => drop(std::thread::spawn(flood)),
        _ => {}
    }
    say("🌲 NimsForest is fully operational!");
    std::future::pending().await
}

fn flood() {
    let line = format!("{}\n", "🌲".repeat(50));
    for _ in 0..FLOOD_BYTES / line.len() {
        // Not locked for the whole: other lines go between.
        if io::stdout().write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

/// Stops the server inside; exit code 0, or 1 with the `fault` that ended it.
async fn end(mut server: Child, fault: Option<&str>) -> ExitCode {
    server::signal(&server, Signal::TERM);
    let ended = server.wait().await;
    match (fault, ended) {
        (Some(line), _) => fail(line),
        (None, Ok(_)) => {
            say("✅ Shutdown complete");
            ExitCode::SUCCESS
        }
        (None, Err(err)) => fail(&err.to_string()),
    }
}
