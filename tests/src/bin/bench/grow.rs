//! `morpheus grow` over many nodes, some dead and some slow, beside a client that asks one after the other.
//!
//! Nodes are simulated: /health and /varz at an address of their own each. A dead one takes connections and never
//! answers, which costs whoever asks the whole of its deadline; a slow one takes most of that.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use forest_tests::cloud::health;
use forest_tests::node::built;
use morpheus::probe::{Http, Target};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const NODES: u8 = 200;
const DEAD: u8 = 20;
const SLOW: u8 = 10;
/// What a slow node takes, below the deadline of one answer.
const TAKES: Duration = Duration::from_millis(1500);
/// The deadline of one answer, to compare with.
const DEADLINE: Duration = Duration::from_secs(2);
/// Asking one after the other takes about a minute.
const PAIRS: usize = 3;

pub(crate) fn run() -> anyhow::Result<()> {
    println!(
        "== grow over {NODES} nodes, {DEAD} dead, {SLOW} slow ({PAIRS} pairs, in turn); the deadline of one answer is {DEADLINE:?}"
    );
    let runtime = tokio::runtime::Runtime::new()?;
    let network = rand::random_range(120..=126);
    for n in 1..=NODES {
        for port in [8222, 8223] {
            let listener = runtime.block_on(TcpListener::bind((address(network, n), port)))?;
            runtime.spawn(serve(listener, n, port));
        }
    }
    let dir = tempfile::tempdir()?;
    let entries: Vec<Value> = (1..=NODES)
        .map(|n| json!({"id": name(n), "ip": address(network, n).to_string(), "forest_id": "grove"}))
        .collect();
    let registry = json!({"version": 1, "forests": {"grove": {"id": "grove"}}, "nodes": {"grove": entries}});
    std::fs::write(dir.path().join("registry.json"), registry.to_string())?;
    let config = format!("registry: {{ type: local, path: {}/registry.json }}\n", dir.path().display());
    std::fs::write(dir.path().join("config.yaml"), config)?;

    let (mut ours, mut sequential) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let begun = Instant::now();
        let mut command = Command::new(built("morpheus"));
        command.args(["grow", "grove", "--json"]).current_dir(dir.path()).env_clear().env("HOME", dir.path());
        let output = command.output()?;
        ours.push(begun.elapsed());
        let report: Value = serde_json::from_slice(&output.stdout).context("a report")?;
        ensure!(report["reachable_nodes"] == NODES - DEAD && report["total_nodes"] == NODES, "{report:#}");

        let begun = Instant::now();
        let answered = runtime.block_on(one_by_one(network))?;
        sequential.push(begun.elapsed());
        ensure!(answered == usize::from(NODES - DEAD), "{answered} answered");
    }
    super::row("morpheus grow: all at once, the whole command", &mut ours);
    super::row("one node after the other, the asking alone", &mut sequential);
    Ok(())
}

fn name(n: u8) -> String {
    format!("grove-node-{n}")
}

fn address(network: u8, n: u8) -> IpAddr {
    Ipv4Addr::new(127, network, 7, n).into()
}

async fn serve(listener: TcpListener, n: u8, port: u16) {
    let mut dead = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        match n {
            // Kept open, and never answered.
            _ if n <= DEAD => dead.push(stream),
            _ => {
                let wait = if n <= DEAD + SLOW { TAKES } else { Duration::ZERO };
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    // Whoever went away wants no answer.
                    let _ = answer(stream, n, port).await;
                });
            }
        }
    }
}

async fn answer(mut stream: TcpStream, n: u8, port: u16) -> std::io::Result<()> {
    let mut request = [0; 1024];
    stream.read(&mut request).await.map(drop)?;
    let body = match port {
        8222 => json!({"host": "127.0.0.1", "port": 4222, "cpu": 1.5, "mem": 15_000_000, "connections": 2}),
        _ => health(&name(n), std::net::Ipv6Addr::LOCALHOST, "ready", &[]),
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await
}

/// How many agents answered.
async fn one_by_one(network: u8) -> anyhow::Result<usize> {
    morpheus::install_tls();
    let http = Http::new()?;
    let mut answered = 0;
    for n in 1..=NODES {
        let at = SocketAddr::new(address(network, n), 8223);
        let target = Target::at(name(n).parse()?, at.ip());
        let looks = http.look(std::slice::from_ref(&target)).await;
        answered += looks.iter().filter(|look| look.health.is_ok()).count();
    }
    Ok(answered)
}
