//! A forest on Hetzner Cloud from nothing to nothing, as a person plants it, with whole machines behind the API: the real
//! `morpheus plant cloud medium`, user-data through cloud-init, programs over TLS and over CIFS, three agents under
//! systemd, one cluster; `status`, `logs` by ssh, `teardown`. The API is the fake one.

mod project;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use forest_tests::nats;
use forest_tests::vm::Guest;
use forest_tests::vm::lab::BOX;
use forest_tests::wait::{PATIENCE, pause};
use serde_json::Value;

use crate::stage::{FOREST, Stage, saw};
use project::{Project, Ran};

/// What `medium` means.
const NODES: usize = 3;
/// What stays of a registry without forests, and Apache's own.
const STAY: [&str; 4] = ["registry.json", ".registry.last-good.json", ".registry.flock", ".DAV"];

pub(super) fn play(stage: &mut Stage, guests: &mut Vec<Guest>) -> anyhow::Result<()> {
    // A StorageBox on which nothing was ever planted.
    stage.lab.storage.renew()?;
    fs::remove_dir_all(stage.lab.storage.forest())?;
    found_by_name(stage)?;
    let mut project = Project::new(stage)?;
    planted(stage, guests, &mut project)?;
    told_what_was_sent(guests, &project)?;
    machines(stage, guests)?;
    one_cluster(stage, guests, &mut project)?;
    logs(stage, guests, &mut project)?;
    torn_down(stage, guests, &mut project)
}

/// The laptop finds the StorageBox by its name, as the guests do: in this process's own mounts.
fn found_by_name(stage: &Stage) -> anyhow::Result<()> {
    let hosts = stage.dir.join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost\n::1 localhost\n{BOX} box.test\n"))?;
    let status = std::process::Command::new("mount").arg("--bind").arg(&hosts).arg("/etc/hosts").status()?;
    ensure!(status.success(), "/etc/hosts could not be covered: {status}");
    Ok(())
}

fn said(ran: &Ran, what: &str) -> anyhow::Result<()> {
    let screen = ran.screen.trim_end().replace('\n', "\n      ");
    saw(
        &format!("$ {what}"),
        format!("exit {}, {:.1} s\n      {screen}", ran.code.unwrap_or(-1), ran.took.as_secs_f32()),
    );
    ensure!(ran.code == Some(0), "{what} ended with {:?}", ran.code);
    Ok(())
}

fn planted(stage: &Stage, guests: &mut Vec<Guest>, project: &mut Project) -> anyhow::Result<()> {
    let mut plant = project.morpheus(&["plant", "cloud", "medium", "--name", FOREST])?;
    plant.arg("--agent-binary").arg(stage.agent()).arg("--engine-binary").arg(nats::server());
    let ran = project.run(stage, guests, &mut plant)?;
    said(&ran, "morpheus plant cloud medium --name grove")?;
    let due: BTreeSet<String> = (1..=NODES).map(|n| format!("{FOREST}-node-{n}")).collect();
    let servers = project.api.world().names("servers");
    ensure!(servers == due && guests.len() == NODES, "the project has {servers:?}, {} guests", guests.len());
    Ok(())
}

/// Each machine was told, byte for byte, what POST /servers had, and has the address that the API shows.
fn told_what_was_sent(guests: &[Guest], project: &Project) -> anyhow::Result<()> {
    let servers = project.api.world().all("servers");
    for (id, request) in &project.made {
        let name = request["name"].as_str().context("a name")?;
        let guest = guests.iter().find(|guest| guest.name() == name).context("a guest of that name")?;
        let told = guest.sh("cat /var/lib/cloud/instance/user-data.txt")?;
        let sent = request["user_data"].as_str().context("user-data")?;
        ensure!(told == sent.trim_end(), "{name} was told something else than was sent");
        let server = servers.iter().find(|server| server["id"] == *id).context("a server")?;
        let network = &server["public_net"]["ipv6"]["ip"];
        let shown = network.as_str().context("a network")?.replace("::/64", "::1");
        ensure!(shown == guest.ip().to_string(), "{name} has {}, the API shows {shown}", guest.ip());
        let hostname = guest.sh("hostname")?;
        ensure!(hostname == name, "{name} calls itself {hostname}");
    }
    saw("user-data", "byte for byte what POST /servers had, on each machine");
    Ok(())
}

/// Booted without complaint; agent and engine are those that travelled; the share is mounted, the unit runs.
fn machines(stage: &Stage, guests: &mut [Guest]) -> anyhow::Result<()> {
    let shelf = names(&stage.lab.storage.forest().join("bin"))?;
    saw("bin/ on the share", shelf.iter().cloned().collect::<Vec<_>>().join(", "));
    for guest in guests {
        guest.booted()?;
        let status = guest.sh("cloud-init status")?;
        ensure!(status == "status: done", "cloud-init: {status}");
        let result: Value = serde_json::from_str(&guest.sh("cat /run/cloud-init/result.json")?)?;
        ensure!(result["v1"]["errors"].as_array().is_some_and(Vec::is_empty), "cloud-init: {result}");
        let sum = guest.sh("sha256sum /usr/local/bin/forest-agent")?;
        let prefix = shelf.iter().find_map(|name| name.strip_prefix("forest-agent-x86_64-"));
        ensure!(
            prefix.is_some_and(|prefix| sum.starts_with(prefix)),
            "the agent is {sum}, bin/ has {shelf:?}"
        );
        let mount = guest.sh("grep ' /mnt/forest ' /proc/self/mounts")?;
        ensure!(mount.starts_with("//box.test/backup/morpheus /mnt/forest cifs "), "{mount}");
        let unit = guest.sh("systemctl show forest-agent -p ActiveState -p NRestarts")?;
        let runs = ["ActiveState=active", "NRestarts=0"].iter().all(|line| unit.lines().any(|l| l == *line));
        ensure!(runs, "the unit: {unit}");
        let up = guest.sh("cut -d' ' -f1 /proc/uptime")?;
        let engine = guest.sh("ps -eo args | grep '[n]ats-server -c' | head -n 1")?;
        saw(&guest.name(), format!("{}, up for {up} s, cifs, `{engine}`", guest.ip()));
    }
    Ok(())
}

/// Three nodes of one cluster, in the registry by the addresses of their machines; and `status` says so.
fn one_cluster(stage: &Stage, guests: &mut Vec<Guest>, project: &mut Project) -> anyhow::Result<()> {
    // A node that is well may warn for a moment on a loaded machine, and the witness leaves when it may.
    for guest in guests.iter_mut() {
        let size = |health: &Value| health["checks"]["nats:jetstream"][0]["observedValue"].clone();
        guest.until_health("the three are one cluster", |health| {
            health["status"] == "pass" && size(health) == NODES
        })?;
    }
    let entries = stage.entries()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed: BTreeSet<_> = entries.iter().map(|entry| (text(&entry["id"]), text(&entry["ip"]))).collect();
    let there: BTreeSet<_> = guests.iter().map(|guest| (guest.name(), guest.ip().to_string())).collect();
    ensure!(entries.len() == NODES && listed == there, "registry.json has {entries:?}");
    let begun = Instant::now();
    loop {
        let mut status = project.morpheus(&["status", FOREST])?;
        let ran = project.run(stage, guests, &mut status)?;
        if ran.code == Some(0) || begun.elapsed() > PATIENCE {
            return said(&ran, "morpheus status grove");
        }
        pause();
    }
}

/// By ssh, with the laptop's key.
fn logs(stage: &Stage, guests: &mut Vec<Guest>, project: &mut Project) -> anyhow::Result<()> {
    let mut logs = project.morpheus(&["logs", FOREST])?;
    let ran = project.run(stage, guests, &mut logs)?;
    for guest in guests.iter() {
        let lines = ran.screen.lines().filter(|line| line.starts_with(&guest.name())).count();
        ensure!(ran.code == Some(0) && lines > 0, "no line of {}: {}", guest.name(), ran.screen);
        saw("$ morpheus logs grove", format!("{lines} lines of {}", guest.name()));
    }
    Ok(())
}

/// No server, firewall, group, key, record, entry, secret or program is left.
fn torn_down(stage: &Stage, guests: &mut Vec<Guest>, project: &mut Project) -> anyhow::Result<()> {
    let mut teardown = project.morpheus(&["teardown", FOREST, "--yes"])?;
    let ran = project.run(stage, guests, &mut teardown)?;
    said(&ran, "morpheus teardown grove --yes")?;
    project.until_all_are_gone(stage, guests)?;
    for kind in ["servers", "firewalls", "placement_groups", "ssh_keys"] {
        let left = project.api.world().names(kind);
        saw(&format!("{kind} left"), left.len());
        ensure!(left.is_empty(), "{kind}: {left:?}");
    }
    let registry = stage.registry()?;
    for part in ["forests", "nodes"] {
        let left = registry[part].as_object().map_or(0, serde_json::Map::len);
        saw(&format!("{part} left in registry.json"), left);
        ensure!(left == 0, "{registry:#}");
    }
    let mut files = names(&stage.lab.storage.forest())?;
    files.retain(|name| !STAY.contains(&name.as_str()));
    saw("files left beside the empty registry", files.len());
    ensure!(files.is_empty(), "the share has {files:?}");
    Ok(())
}

/// What a directory holds, but for Apache's own.
fn names(dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))?;
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    Ok(entries.flatten().map(name).filter(|name| name != ".DAV").collect())
}
