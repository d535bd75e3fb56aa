//! What can happen to a StorageBox while a node is well: /health answers at once all the while and names the cause,
//! the engine goes on, and everything heals without a restart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use forest_tests::http;
use forest_tests::vm::Guest;
use forest_tests::vm::storage_box::PASSWORD;
use forest_tests::wait::moment;
use serde_json::Value;

use crate::stage::{FOREST, Stage, saw};

/// How long an outage lasts at least.
const OUTAGE: Duration = Duration::from_secs(60);
/// An answer that waited for the share would take longer than this; one from memory takes milliseconds.
const AT_ONCE: Duration = Duration::from_secs(5);

struct Outage {
    name: &'static str,
    begin: fn(&mut Stage, &Guest) -> anyhow::Result<()>,
    /// The check that names it, and the reasons that do.
    check: &'static str,
    reasons: &'static [&'static str],
    end: fn(&mut Stage, &Guest) -> anyhow::Result<()>,
}

const SHARE: &str = "share:mounted";
const ENTRY: &str = "registry:entry";

const OUTAGES: &[Outage] = &[
    Outage {
        name: "Samba killed",
        begin: |stage, _| {
            stage.lab.storage.kill_samba();
            Ok(())
        },
        check: SHARE,
        reasons: &["share_dead", "share_unreachable"],
        end: |stage, _| stage.lab.storage.start_samba(false),
    },
    Outage {
        name: "packets dropped",
        begin: |stage, _| stage.lab.storage.reachable(false),
        check: SHARE,
        reasons: &["share_hung", "share_dead", "share_unreachable"],
        end: |stage, _| stage.lab.storage.reachable(true),
    },
    Outage {
        name: "the password changed, and changed back",
        begin: |stage, _| {
            stage.lab.storage.kill_samba();
            stage.lab.storage.samba_password("another")?;
            stage.lab.storage.start_samba(false)
        },
        check: SHARE,
        reasons: &["share_wrong_password"],
        end: |stage, _| stage.lab.storage.samba_password(PASSWORD),
    },
    Outage {
        name: "the password changed, and then the node's",
        begin: |stage, _| {
            stage.lab.storage.kill_samba();
            stage.lab.storage.samba_password("another")?;
            stage.lab.storage.start_samba(false)
        },
        check: SHARE,
        reasons: &["share_wrong_password"],
        end: |_, guest| guest.sh_with("cat >/etc/morpheus/storagebox.password", "another\n").map(drop),
    },
    Outage {
        name: "the share full",
        begin: |stage, _| {
            stage.lab.storage.fill()?;
            stage.lab.storage.room(32 << 10)?;
            forget_entries(stage)?;
            stage.lab.storage.fill()
        },
        check: ENTRY,
        reasons: &["registry_full"],
        end: |stage, _| stage.lab.storage.free(),
    },
    Outage {
        name: "the share read-only",
        begin: |stage, _| {
            stage.lab.storage.kill_samba();
            forget_entries(stage)?;
            stage.lab.storage.start_samba(true)
        },
        check: ENTRY,
        reasons: &["registry_read_only"],
        end: |stage, _| {
            stage.lab.storage.kill_samba();
            stage.lab.storage.start_samba(false)
        },
    },
];

pub(super) fn play(stage: &mut Stage, guests: &mut Vec<Guest>) -> anyhow::Result<()> {
    guests.push(stage.planted(1, &stage.plan(1))?);
    let guest = &mut guests[0];
    guest.healthy()?;
    guest.booted()?;
    let before = processes(guest)?;
    for outage in OUTAGES {
        suffer(stage, guest, outage).with_context(|| outage.name.to_owned())?;
        ensure!(
            processes(guest)? == before,
            "after {}: {} became {}",
            outage.name,
            before,
            processes(guest)?
        );
    }
    let restarts = guest.sh("systemctl show forest-agent -p NRestarts --value")?;
    ensure!(restarts == "0", "the agent was restarted {restarts} times");
    saw("agent, engine and witness", format!("still the same: {before}"));
    Ok(())
}

/// Their pids.
fn processes(guest: &Guest) -> anyhow::Result<String> {
    let line = "echo $(systemctl show forest-agent -p MainPID --value) $(pgrep -x nats-server | sort -n)";
    guest.sh(line)
}

fn suffer(stage: &mut Stage, guest: &mut Guest, outage: &Outage) -> anyhow::Result<()> {
    let watch = Watch::start(SocketAddr::new(guest.ip().into(), 8223));
    let begun = Instant::now();
    (outage.begin)(stage, guest)?;
    let named = |health: &Value| {
        let reason = health["checks"][outage.check][0]["reason"].as_str().unwrap_or_default();
        outage.reasons.contains(&reason)
    };
    let health = guest.until_health(outage.name, named)?;
    saw(
        outage.name,
        format!(
            "named after {:.0} s: {}",
            begun.elapsed().as_secs_f32(),
            health["checks"][outage.check][0]["output"]
        ),
    );
    moment(OUTAGE.saturating_sub(begun.elapsed()));
    (outage.end)(stage, guest)?;
    let ended = Instant::now();
    guest.healthy()?;
    let entries = stage.entries()?;
    ensure!(entries.len() == 1, "entries: {entries:?}");
    let seen = watch.stop()?;
    saw("    healed", format!("{:.0} s after its end", ended.elapsed().as_secs_f32()));
    saw(
        "    /health",
        format!("{} answers, the slowest after {:.0} ms", seen.answers, seen.slowest.as_secs_f32() * 1000.0),
    );
    saw("    reasons", format!("{:?}", seen.reasons));
    ensure!(seen.answers > 0 && seen.slowest < AT_ONCE, "/health did not answer at once");
    Ok(())
}

/// The registry as if nobody had registered, so that there is something to write.
fn forget_entries(stage: &Stage) -> anyhow::Result<()> {
    let mut registry = stage.registry()?;
    registry["nodes"][FOREST] = Value::Array(Vec::new());
    stage.lab.storage.replace("registry.json", format!("{registry:#}\n").as_bytes())
}

/// Asks for /health again and again.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Answers>>,
}

#[derive(Default)]
struct Answers {
    answers: u32,
    slowest: Duration,
    /// How often each reason was given.
    reasons: BTreeMap<String, u32>,
}

impl Watch {
    fn start(at: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Answers::default();
            while !stopped.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let answer = http::get(at, "/health").context("/health did not answer")?;
                seen.slowest = seen.slowest.max(asked.elapsed());
                seen.answers += 1;
                let health: Value = serde_json::from_str(&answer.body)?;
                for (key, check) in health["checks"].as_object().into_iter().flatten() {
                    if let Some(reason) = check[0]["reason"].as_str() {
                        *seen.reasons.entry(format!("{key} {reason}")).or_default() += 1;
                    }
                }
                moment(Duration::from_millis(500));
            }
            Ok(seen)
        });
        Self { stop, thread }
    }

    fn stop(self) -> anyhow::Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch ends well")
    }
}
