//! The nats-server inside the stand-in.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::registry::NodeInfo;
use super::settings::Settings;
use super::{fail, say};

/// The argument by which the stand-in starts itself to become the nats-server.
pub(super) const INNER: &str = "--inner";

/// Becomes nats-server, to be killed with `parent`, the process that started this one.
pub(super) fn become_server(parent: &str, program: &str, config: &str) -> ExitCode {
    if let Err(err) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return fail(&format!("cannot tie nats-server to the stand-in: {err}"));
    }
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if now.as_deref() != Some(parent) {
        return fail("the stand-in is gone already");
    }
    let err = std::process::Command::new(program).args(["-c", config]).exec();
    fail(&format!("❌ Failed to start embedded NATS server: {program}: {err}"))
}

/// Starts it. `routes` are the peers that the registry lists; with none it is standalone.
pub(super) fn spawn(settings: &Settings, info: &NodeInfo, routes: &[IpAddr]) -> io::Result<Child> {
    std::fs::create_dir_all(&settings.jetstream_dir)?;
    let config = settings.jetstream_dir.join("stand-in.conf");
    std::fs::write(&config, config_text(settings, info, routes))?;
    Command::new(std::env::current_exe()?)
        .arg(INNER)
        .arg(std::process::id().to_string())
        .arg(&settings.nats_server)
        .arg(&config)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

fn config_text(settings: &Settings, info: &NodeInfo, routes: &[IpAddr]) -> String {
    // Debug quotes as nats-server reads it, for the plain names and paths of tests.
    let listen = settings.address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let client = settings.address.map_or("0.0.0.0".to_owned(), |ip| ip.to_string());
    let client = if client.contains(':') { format!("[{client}]") } else { client };
    let at = |port| SocketAddr::new(listen, port).to_string();
    let mut text = format!(
        "server_name: {:?}\nlisten: \"{client}:-1\"\nhttp: \"{}\"\njetstream {{ store_dir: {:?} }}\n",
        info.node,
        at(settings.monitor_port),
        settings.jetstream_dir,
    );
    if !routes.is_empty() {
        let port = settings.cluster_port;
        let routes: Vec<_> =
            routes.iter().map(|ip| format!("nats://{}", SocketAddr::new(*ip, port))).collect();
        text +=
            &format!("cluster {{ name: {:?}, listen: \"{}\", routes: {routes:?} }}\n", info.forest, at(port));
    }
    text
}

/// Polls until JetStream is usable; `false` where it is not by then.
pub(super) async fn wait_usable(settings: &Settings, clustered: bool, limit: Duration) -> bool {
    let ip = settings.address.unwrap_or(IpAddr::V6(Ipv6Addr::LOCALHOST));
    let monitor = SocketAddr::new(ip, settings.monitor_port);
    let poll = async {
        loop {
            if listens(monitor).await && (!clustered || has_leader(monitor).await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(limit, poll).await.is_ok()
}

async fn listens(monitor: SocketAddr) -> bool {
    let health = get(monitor, "/healthz?js-enabled-only=true").await;
    health.is_ok_and(|health| health["status"] == "ok")
}

async fn has_leader(monitor: SocketAddr) -> bool {
    let jsz = get(monitor, "/jsz").await.unwrap_or_default();
    jsz["meta_cluster"]["leader"].as_str().is_some_and(|leader| !leader.is_empty())
}

async fn get(monitor: SocketAddr, path: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect(monitor).await?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    serde_json::from_str(body).map_err(io::Error::from)
}

/// Sends `signal` to it.
pub(super) fn signal(server: &Child, signal: Signal) {
    let pid = server.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(err) = rustix::process::kill_process(pid, signal)
    {
        say(&format!("cannot signal nats-server: {err}"));
    }
}
