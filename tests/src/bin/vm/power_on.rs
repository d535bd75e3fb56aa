//! From power-on to a healthy node, and what the machine holds then.

use std::time::Instant;

use anyhow::{Context, ensure};
use forest_tests::vm::Guest;
use forest_tests::vm::storage_box::NEEDLE;
use serde_json::Value;

use crate::stage::{FOREST, Stage, saw};

pub(super) fn play(stage: &mut Stage, guests: &mut Vec<Guest>) -> anyhow::Result<()> {
    let begun = Instant::now();
    guests.push(stage.planted(1, &stage.plan(1))?);
    let guest = &mut guests[0];
    let health = guest.healthy()?;
    saw(
        "/health, from outside",
        format!("{} after {:.1} s", health["status"], begun.elapsed().as_secs_f32()),
    );
    guest.booted()?;
    saw("cloud-init finished after", format!("{:.1} s", begun.elapsed().as_secs_f32()));
    cloud_init(guest)?;
    unit(guest)?;
    share(guest)?;
    node(stage, guest)?;
    nothing_installed(guest)?;
    no_password(guest)
}

fn cloud_init(guest: &Guest) -> anyhow::Result<()> {
    let status = guest.sh("cloud-init status")?;
    saw("cloud-init", &status);
    ensure!(status == "status: done");
    let result: Value = serde_json::from_str(&guest.sh("cat /run/cloud-init/result.json")?)?;
    ensure!(result["v1"]["errors"].as_array().is_some_and(Vec::is_empty), "cloud-init's errors: {result}");
    let complaints = guest.sh("grep -E 'WARNING|ERROR|CRITICAL' /var/log/cloud-init.log || true")?;
    ensure!(complaints.is_empty(), "cloud-init complains:\n{complaints}");
    let schema = guest.sh("cloud-init schema --config-file /var/lib/cloud/instance/user-data.txt 2>&1")?;
    saw("cloud-init schema", &schema);
    ensure!(schema.contains("Valid"), "{schema}");
    Ok(())
}

fn unit(guest: &Guest) -> anyhow::Result<()> {
    let shown = guest.sh(
        "systemctl show forest-agent -p Type -p ActiveState -p SubState -p StatusText -p NRestarts -p WatchdogUSec",
    )?;
    saw("unit", shown.replace('\n', " "));
    for line in ["Type=notify", "ActiveState=active", "SubState=running", "NRestarts=0", "WatchdogUSec=30s"] {
        ensure!(shown.lines().any(|shown| shown == line), "{line} is missing: {shown}");
    }
    ensure!(shown.contains("StatusText=ready"), "{shown}");
    ensure!(guest.sh("systemctl is-enabled forest-agent")? == "enabled");
    let journal = guest.sh("journalctl -u forest-agent -o json --no-pager | head -n 3")?;
    ensure!(
        journal.contains("\"_TRANSPORT\":\"journal\""),
        "the agent's lines are not structured: {journal}"
    );
    let failed = guest.sh("systemctl --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "failed units: {failed}");
    Ok(())
}

fn share(guest: &Guest) -> anyhow::Result<()> {
    let mount = guest.sh("grep ' /mnt/forest ' /proc/self/mounts")?;
    saw("mount", &mount);
    let fields: Vec<_> = mount.split(' ').collect();
    ensure!(
        fields.first() == Some(&"//box.test/backup/morpheus") && fields.get(2) == Some(&"cifs"),
        "{mount}"
    );
    let options: Vec<_> = fields.get(3).context("options")?.split(',').collect();
    for option in
        ["vers=3.1.1", "seal", "soft", "echo_interval=5", "closetimeo=0", "file_mode=0600", "dir_mode=0700"]
    {
        ensure!(options.contains(&option), "{option} is missing: {mount}");
    }
    ensure!(guest.sh("cat /etc/fstab")?.is_empty(), "fstab is not the agent's");
    Ok(())
}

fn node(stage: &Stage, guest: &Guest) -> anyhow::Result<()> {
    let id = format!("{FOREST}-node-1");
    let info: Value = serde_json::from_str(&guest.sh("cat /etc/morpheus/node-info.json")?)?;
    saw("node-info.json", &info);
    ensure!(info["forest_id"] == FOREST && info["node_id"] == *id, "{info}");
    let entries = stage.entries()?;
    saw("registry.json", serde_json::to_string(&entries)?);
    ensure!(entries.len() == 1 && entries[0]["id"] == *id && entries[0]["ip"] == guest.ip().to_string());
    let data = guest.sh("ls -A /var/lib/nimsforest/jetstream")?;
    saw("JetStream directory", data.replace('\n', " "));
    ensure!(!data.is_empty(), "the JetStream directory is empty");
    let processes = guest.sh("ps -eo pid,rss,args | grep '[n]ats-server\\|[f]orest-agent'")?;
    saw("processes", format!("\n{processes}"));
    ensure!(processes.matches("nats-server -c").count() == 2, "engine and witness: {processes}");
    Ok(())
}

fn nothing_installed(guest: &Guest) -> anyhow::Result<()> {
    // machine-id is written by the first boot.
    let traces = guest.sh(
        "find /var/log/apt /var/log/dpkg.log /var/cache/apt /var/lib/dpkg -newer /etc/machine-id -type f \
         2>&1 | grep -v 'No such file' || true",
    )?;
    ensure!(traces.is_empty(), "apt was at work: {traces}");
    saw("installed by apt", "nothing");
    Ok(())
}

/// Every file and every argument list of the machine.
fn no_password(guest: &Guest) -> anyhow::Result<()> {
    let files = guest.sh_with(
        "cat >/run/needle; chmod 600 /run/needle; \
         find / -xdev -type f ! -path /run/needle -print0 | xargs -0 grep -lFf /run/needle 2>/dev/null | xargs -r stat -c '%a %U %n'; \
         find /run -xdev -type f ! -path /run/needle -print0 | xargs -0 grep -lFf /run/needle 2>/dev/null | xargs -r stat -c '%a %U %n'; \
         true",
        &format!("{NEEDLE}\n"),
    )?;
    saw("files with the password", format!("\n{files}"));
    ensure!(files.contains("/etc/morpheus/storagebox.password"), "the search finds nothing: {files}");
    for line in files.lines() {
        let mode = line.split(' ').next().unwrap_or_default();
        ensure!(mode.ends_with("00") && line.contains(" root "), "others can read it: {line}");
        ensure!(!line.contains("/var/log/"), "a log holds it: {line}");
    }
    let shown = guest.sh(
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -cFf /run/needle; \
         journalctl --no-pager -a | grep -cFf /run/needle; dmesg | grep -cFf /run/needle; rm /run/needle",
    )?;
    saw("in argument lists and environments, the journal, the kernel's log", shown.replace('\n', " "));
    ensure!(shown == "0\n0\n0", "the password is shown: {shown}");
    Ok(())
}
