//! The unit under a real systemd: what systemd says of it, an agent that freezes, one that is killed, one that is
//! replaced by a newer one. The engine notices nothing of any of it.

use anyhow::{Context, ensure};
use forest_tests::vm::Guest;

use crate::stage::{Stage, saw};

/// The most that `systemd-analyze security` may say: CAP_SYS_ADMIN and the host's own mounts have their price.
const EXPOSURE: f32 = 5.0;
const UNIT: &str = "/etc/systemd/system/forest-agent.service";

pub(super) fn play(stage: &mut Stage, guests: &mut Vec<Guest>) -> anyhow::Result<()> {
    guests.push(stage.planted(1, &stage.plan(1))?);
    let guest = &mut guests[0];
    guest.healthy()?;
    guest.booted()?;
    analyzed(guest)?;
    let servers = servers(guest)?;
    frozen(guest)?;
    killed(guest)?;
    replaced(guest)?;
    stopped(guest, &servers)
}

fn analyzed(guest: &Guest) -> anyhow::Result<()> {
    let verified = guest.sh(&format!("systemd-analyze verify --man=no {UNIT} 2>&1"))?;
    ensure!(verified.is_empty(), "systemd-analyze verify: {verified}");
    saw("systemd-analyze verify", "nothing to say");
    let security = guest.sh(&format!("systemd-analyze security --offline=true --no-pager {UNIT} 2>&1"))?;
    let verdict =
        security.lines().find(|line| line.contains("Overall exposure level")).context("no verdict")?;
    saw("systemd-analyze security", verdict.trim());
    let level = verdict.split(':').nth(1).and_then(|rest| rest.split_whitespace().next());
    let level: f32 = level.context("no level")?.parse()?;
    ensure!(level <= EXPOSURE, "exposed more than {EXPOSURE}:\n{security}");
    Ok(())
}

/// Engine and witness: pid and start of each.
fn servers(guest: &Guest) -> anyhow::Result<String> {
    let servers = guest.sh(
        "for pid in $(pgrep -x nats-server | sort -n); do echo $pid@$(cut -d' ' -f22 /proc/$pid/stat); done",
    )?;
    let servers = servers.replace('\n', " ");
    ensure!(servers.matches('@').count() == 2, "engine and witness: {servers}");
    Ok(servers)
}

fn property(guest: &Guest, name: &str) -> anyhow::Result<String> {
    guest.sh(&format!("systemctl show forest-agent -p {name} --value"))
}

/// Another agent is at work, the node is well, and its servers went on.
fn taken_over(
    guest: &mut Guest,
    what: &str,
    restarts: &str,
    before: &str,
    servers_before: &str,
) -> anyhow::Result<()> {
    guest.wait(what, |guest| {
        let now = property(guest, "NRestarts")?;
        let active = property(guest, "SubState")? == "running";
        Ok((now == restarts && active && property(guest, "MainPID")? != before).then_some(()))
    })?;
    guest.healthy()?;
    ensure!(property(guest, "NRestarts")? == restarts, "restarted more than once");
    ensure!(servers(guest)? == servers_before, "{servers_before} became {}", servers(guest)?);
    let pid = property(guest, "MainPID")?;
    saw(what, format!("agent {before} became {pid}; engine and witness: {servers_before}"));
    Ok(())
}

fn frozen(guest: &mut Guest) -> anyhow::Result<()> {
    let (pid, servers) = (property(guest, "MainPID")?, servers(guest)?);
    guest.sh(&format!("kill -STOP {pid}"))?;
    taken_over(guest, "frozen (SIGSTOP), and restarted by the watchdog", "1", &pid, &servers)?;
    let journal = guest.sh("journalctl -u forest-agent --no-pager -o cat | grep -i watchdog || true")?;
    saw("    the journal", journal.replace('\n', "; "));
    ensure!(journal.contains("Watchdog timeout"), "it was not the watchdog: {journal}");
    Ok(())
}

fn killed(guest: &mut Guest) -> anyhow::Result<()> {
    let (pid, servers) = (property(guest, "MainPID")?, servers(guest)?);
    guest.sh(&format!("kill -KILL {pid}"))?;
    taken_over(guest, "killed (SIGKILL), and restarted", "2", &pid, &servers)
}

/// A newer agent in the old one's place, and `systemctl reload`.
fn replaced(guest: &mut Guest) -> anyhow::Result<()> {
    let (pid, servers_before) = (property(guest, "MainPID")?, servers(guest)?);
    let newer = guest
        .sh("cp /usr/local/bin/forest-agent /usr/local/bin/newer && echo >>/usr/local/bin/newer && \
         mv /usr/local/bin/newer /usr/local/bin/forest-agent && stat -c %i /usr/local/bin/forest-agent")?;
    guest.sh("systemctl reload forest-agent")?;
    guest.wait("the newer agent runs", |guest| {
        let runs = guest.sh(&format!("stat -L -c %i /proc/{pid}/exe"))?;
        Ok((runs == newer && property(guest, "SubState")? == "running").then_some(()))
    })?;
    guest.healthy()?;
    let (state, restarts) = (property(guest, "ActiveState")?, property(guest, "NRestarts")?);
    ensure!(
        state == "active" && restarts == "2" && property(guest, "MainPID")? == pid,
        "{state}, {restarts} restarts"
    );
    ensure!(servers(guest)? == servers_before, "{servers_before} became {}", servers(guest)?);
    saw(
        "upgraded by `systemctl reload`",
        format!("agent {pid} executes inode {newer}; engine and witness: {servers_before}"),
    );
    Ok(())
}

/// `systemctl stop` takes the servers along, and `start` brings them back.
fn stopped(guest: &mut Guest, servers_before: &str) -> anyhow::Result<()> {
    guest.sh("systemctl stop forest-agent")?;
    let left = guest.sh("pgrep -x nats-server || true")?;
    ensure!(left.is_empty(), "still running after a stop: {left}");
    let result = property(guest, "Result")?;
    ensure!(result == "success", "the stop ended as {result}");
    guest.sh("systemctl start forest-agent")?;
    guest.healthy()?;
    let servers = servers(guest)?;
    ensure!(servers != servers_before, "the servers were not stopped");
    saw("stopped and started", format!("engine and witness: {servers}"));
    Ok(())
}
