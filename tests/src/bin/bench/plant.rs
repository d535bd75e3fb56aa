//! `morpheus plant local` to healthy, beside the same number of bare nats-servers started from a script to a meta
//! leader: what supervision, registry, credentials and witness cost.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use forest_tests::node::built;
use forest_tests::wait::until;
use forest_tests::{http, nats};

use crate::row;

const PAIRS: usize = 5;

pub(crate) fn run() -> anyhow::Result<()> {
    for nodes in [1, 3, 5] {
        println!("== a forest of {nodes} to usable JetStream ({PAIRS} pairs, in turn)");
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            ours.push(planted(nodes)?);
            bare.push(scripted(nodes)?);
        }
        row("morpheus plant local, every /health passes", &mut ours);
        row("bare nats-servers from a script, no agent, no secrets", &mut bare);
    }
    Ok(())
}

fn planted(nodes: u8) -> anyhow::Result<Duration> {
    let state = tempfile::tempdir()?;
    let morpheus = |args: &[&str]| -> anyhow::Result<()> {
        let mut command = Command::new(built("morpheus"));
        command.args(args).arg("--yes").env("XDG_STATE_HOME", state.path()).stdin(Stdio::null());
        let output = command.output()?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let server = nats::server().display().to_string();
    let begun = Instant::now();
    let planted = morpheus(&[
        "plant",
        "local",
        "--nodes",
        &nodes.to_string(),
        "--name",
        "bench",
        "--engine-binary",
        &server,
    ]);
    let took = begun.elapsed();
    morpheus(&["teardown", "bench"])?;
    planted.map(|()| took)
}

/// The servers of one round; dropped, they are ended.
struct Servers(Vec<Child>);

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn scripted(nodes: u8) -> anyhow::Result<Duration> {
    let dir = tempfile::tempdir()?;
    let address = |n: u8| Ipv4Addr::new(127, 200, 200, n);
    let routes: Vec<_> = (1..=nodes).map(|n| format!("\"nats://{}:6222\"", address(n))).collect();
    let mut servers = Servers(Vec::new());
    let begun = Instant::now();
    for n in 1..=nodes {
        let config = dir.path().join(format!("{n}.conf"));
        std::fs::write(&config, self::config(dir.path(), n, address(n), nodes, &routes.join(", ")))?;
        let child = Command::new(nats::server()).arg("-c").arg(&config).stderr(Stdio::null()).spawn()?;
        servers.0.push(child);
    }
    for n in 1..=nodes {
        let monitor: SocketAddr = (address(n), 8222).into();
        until("its JetStream is usable", || {
            let jsz = http::get(monitor, "/jsz").ok()?.json();
            let usable =
                nodes == 1 || jsz["meta_cluster"]["leader"].as_str().is_some_and(|leader| !leader.is_empty());
            usable.then_some(())
        });
    }
    Ok(begun.elapsed())
}

fn config(dir: &Path, n: u8, ip: Ipv4Addr, nodes: u8, routes: &str) -> String {
    let cluster = match nodes {
        1 => String::new(),
        _ => format!("cluster {{ name: bare, listen: \"{ip}:6222\", routes: [{routes}] }}\n"),
    };
    format!(
        "server_name: bare-{n}\nlisten: \"{ip}:4222\"\nhttp: \"{ip}:8222\"\n\
         jetstream {{ store_dir: \"{}\" }}\n{cluster}",
        dir.join(format!("store-{n}")).display()
    )
}
