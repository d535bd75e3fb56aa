//! Beside the user-data that people write by hand: how long either takes from power-on, and what either leaves for
//! others to read. In the same image, in turns, with the same programs; the packages of the classic one lie in the
//! image, so that no download counts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use forest_tests::http;
use forest_tests::vm::Guest;
use forest_tests::vm::storage_box::USER;
use secrecy::SecretString;

use crate::stage::{FOREST, Stage, number, saw};

const CLASSIC: &str = include_str!("../../../vm/classic.yaml");
/// A password that fstab takes as it is; the lab's own has a blank, a comma's cousins and quotes.
const PASSWORD: &str = "plain-7f3a-battery";
/// How many pairs there are if `FOREST_VM_ROUNDS` does not say.
const PAIRS: u64 = 1;
/// Writes down every command line that holds the password, from the first moment on. It slows the machine down, so
/// that no figure comes from a machine that has it.
const WATCHER: &str = r"#cloud-config
bootcmd:
- - sh
  - -c
  - |
    printf %s PASSWORD >/run/needle
    setsid sh -c 'while sleep 0.02; do for f in $(grep -laFf /run/needle /proc/[0-9]*/cmdline); do
      tr \\0 \  <$f; echo; done; done' >/run/seen 2>/dev/null </dev/null &
";

#[derive(Debug, Clone, Copy)]
struct Times {
    /// NATS and JetStream answer, and the entry is in the registry.
    serves: Duration,
    /// cloud-init has finished.
    planted: Duration,
}

pub(super) fn play(stage: &mut Stage, guests: &mut Vec<Guest>) -> anyhow::Result<()> {
    let (mut classic, mut ours) = (Vec::new(), Vec::new());
    for pair in 0..number("FOREST_VM_ROUNDS").unwrap_or(PAIRS) {
        for agent in [pair % 2 == 1, pair % 2 == 0] {
            let guest = planted(stage, agent, "")?;
            guests.clear();
            guests.push(guest);
            let times = times(stage, &mut guests[0])?;
            let name = if agent { "forest-agent" } else { "classic" };
            saw(&format!("{name}, pair {}", pair + 1), times.shown());
            if agent { ours.push(times) } else { classic.push(times) }
        }
    }
    for (name, all) in [("classic", &classic), ("forest-agent", &ours)] {
        let middle = |pick: fn(&Times) -> Duration| {
            let mut all: Vec<_> = all.iter().map(pick).collect();
            all.sort();
            all[all.len() / 2]
        };
        let median = Times { serves: middle(|times| times.serves), planted: middle(|times| times.planted) };
        saw(&format!("{name}, median of {}", all.len()), median.shown());
    }
    for agent in [false, true] {
        let guest = planted(stage, agent, &WATCHER.replace("PASSWORD", PASSWORD))?;
        guests.clear();
        guests.push(guest);
        times(stage, &mut guests[0])?;
        readable(&guests[0], agent)?;
    }
    Ok(())
}

/// Guest 1 on an empty StorageBox, switched on.
fn planted(stage: &mut Stage, agent: bool, vendor: &str) -> anyhow::Result<Guest> {
    stage.fresh()?;
    stage.lab.storage.password(PASSWORD)?;
    let mut guest = if agent {
        let mut plan = stage.plan(1);
        plan.share.password = SecretString::from(PASSWORD);
        stage.off(1, &plan)?
    } else {
        stage.lab.guest(1, &CLASSIC.replace("USERNAME", USER).replace("PASSWORD", PASSWORD))?
    };
    guest.vendor_data(vendor)?;
    guest.power_on()?;
    Ok(guest)
}

fn times(stage: &Stage, guest: &mut Guest) -> anyhow::Result<Times> {
    let begun = Instant::now();
    let monitor = SocketAddr::new(guest.ip().into(), 8222);
    guest.wait("NATS serves and the entry stands", |_| {
        let answers = http::get(monitor, "/healthz").is_ok_and(|answer| answer.code == 200);
        let jetstream = || http::get(monitor, "/jsz").is_ok_and(|answer| jetstream_is_usable(&answer.body));
        Ok((answers && jetstream() && stage.entries().is_ok_and(|found| found.len() == 1)).then_some(()))
    })?;
    let serves = begun.elapsed();
    guest.booted()?;
    Ok(Times { serves, planted: begun.elapsed() })
}

/// Standalone, or with a leader.
fn jetstream_is_usable(jsz: &str) -> bool {
    let Ok(jsz) = serde_json::from_str::<serde_json::Value>(jsz) else { return false };
    let group = &jsz["meta_cluster"];
    jsz["config"].is_object()
        && (group.is_null() || group["leader"].as_str().is_some_and(|name| !name.is_empty()))
}

/// What others than root can read of the password afterwards, and what they could while it went on.
fn readable(guest: &Guest, agent: bool) -> anyhow::Result<()> {
    let name = if agent { "forest-agent" } else { "classic" };
    ensure!(guest.sh("cat /etc/morpheus/node-info.json")?.contains(FOREST), "no node-info.json");
    let files = guest.sh_with(
        "cat >/root/needle; find / /run -xdev -type f ! -path /root/needle ! -path /run/needle ! -path /run/seen -print0 | \
         xargs -0 grep -lFf /root/needle 2>/dev/null | xargs -r stat -c '%a %n'; true",
        PASSWORD,
    )?;
    let open: Vec<_> =
        files.lines().filter(|line| !line.split(' ').next().unwrap_or_default().ends_with("00")).collect();
    let argv = guest.sh("sort -u /run/seen | grep -v '^sh -c printf' || true")?;
    saw(
        &format!("{name}: files that others can read, with the password"),
        if open.is_empty() { "none".into() } else { open.join("; ") },
    );
    saw(
        &format!("{name}: command lines with the password"),
        if argv.is_empty() { "none".into() } else { argv.replace('\n', "; ") },
    );
    ensure!(!agent || (open.is_empty() && argv.is_empty()), "the agent's user-data shows the password");
    ensure!(agent || !open.is_empty(), "the search finds nothing where something is");
    Ok(())
}

impl Times {
    fn shown(&self) -> String {
        format!(
            "serves after {:.1} s, cloud-init done after {:.1} s",
            self.serves.as_secs_f32(),
            self.planted.as_secs_f32()
        )
    }
}
