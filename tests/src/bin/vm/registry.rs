//! One registry, updated by two machines over CIFS and by the laptop over WebDAV at the same time: none of what was
//! acknowledged is lost, and no reader sees a registry that is torn or missing. Samba is killed in the middle, then
//! the machine that holds the lease.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use forest_core::registry::{
    Clock as _, Document as _, FsDoor, Limits, Owner, Registry, SystemClock, UpdateOptions, bury, update,
};
use forest_tests::readers::{Readings, read_once};
use forest_tests::vm::Guest;
use forest_tests::vm::lab::BOX;
use forest_tests::vm::storage_box::{PASSWORD, USER};
use forest_tests::wait::moment;
use morpheus::webdav::{Client, Login, Place, WebDav};
use secrecy::SecretString;
use serde_json::Value;

use crate::stage::{FOREST, Stage, saw};

/// Updates of each writer.
const UPDATES: usize = 100;
/// How long Samba is away.
const AWAY: Duration = Duration::from_secs(5);
/// How often the holder's power is cut at most, until it dies with the lease.
const CUTS: usize = 5;
/// Between two reads on this machine.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn play(stage: &mut Stage, guests: &mut Vec<Guest>) -> anyhow::Result<()> {
    for n in [1, 2] {
        guests.push(stage.planted(n, &stage.plan(n))?);
    }
    stage.put_client()?;
    for guest in &mut *guests {
        guest.healthy()?;
        guest.booted()?;
        guest.sh("install -m 755 /mnt/forest/bin/share-client /usr/local/bin/")?;
    }
    let readers = Readers::start(stage, guests)?;
    let acknowledged = plain_and_samba_killed(stage, guests)?;
    kept(stage, &acknowledged)?;
    readers.stop("while three wrote, Samba killed in between")?;

    let readers = Readers::start(stage, &guests[..1])?;
    let acknowledged = holder_killed(stage, guests)?;
    kept(stage, &acknowledged)?;
    readers.stop("while the holder's machine died")?;
    guests[0].until_health("the node that is left says so", |health| {
        health["checks"]["registry:entry"][0]["status"] == "pass"
    })?;
    Ok(())
}

fn plain_and_samba_killed(stage: &mut Stage, guests: &[Guest]) -> anyhow::Result<Vec<String>> {
    let begun = Instant::now();
    let writers =
        [Writer::machine(&guests[0], "a")?, Writer::machine(&guests[1], "b")?, Writer::laptop("laptop")?];
    let done = |writers: &[Writer]| writers.iter().map(Writer::count).sum::<usize>();
    wait_for("a third of the updates", || done(&writers) > UPDATES)?;
    stage.lab.storage.kill_samba();
    moment(AWAY);
    stage.lab.storage.start_samba(false)?;
    let mut all = Vec::new();
    for writer in writers {
        let (name, written) = (writer.name.clone(), writer.end()?);
        if let Some(first) = written.complaints.lines().next() {
            saw(&format!("    {name}'s first failure"), first);
        }
        ensure!(
            written.names.len() == UPDATES,
            "{name} came to {} updates: {}",
            written.names.len(),
            written.complaints
        );
        let failed = written.complaints.lines().count();
        saw(&name, format!("{} updates acknowledged, {failed} tries failed", written.names.len()));
        all.extend(written.names);
    }
    saw(
        "two machines and the laptop",
        format!(
            "{} updates in {:.0} s, Samba killed for {} s",
            all.len(),
            begun.elapsed().as_secs_f32(),
            AWAY.as_secs()
        ),
    );
    Ok(all)
}

/// The machine that holds the lease dies. Between the look at the lease and the cut it may have given the lease back:
/// then nobody's was left behind, and it is done again.
fn holder_killed(stage: &mut Stage, guests: &mut [Guest]) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for round in 1..=CUTS {
        if holder_killed_once(stage, guests, round, &mut all)? {
            return Ok(all);
        }
        let guest = &mut guests[1];
        guest.power_on()?;
        guest.booted()?;
        guest.healthy()?;
        // What was not on the disk yet is gone.
        guest.sh("install -m 755 /mnt/forest/bin/share-client /usr/local/bin/")?;
    }
    bail!("of {CUTS} cuts of the holder's power none left its lease behind")
}

/// `false`: it held none when it died.
fn holder_killed_once(
    stage: &Stage,
    guests: &mut [Guest],
    round: usize,
    all: &mut Vec<String>,
) -> anyhow::Result<bool> {
    let dying = format!("d{round}");
    let writers = [
        Writer::machine(&guests[0], &format!("c{round}"))?,
        Writer::machine(&guests[1], &dying)?,
        Writer::laptop(&format!("laptop{}", round + 1))?,
    ];
    wait_for("some updates of the one that is to die", || writers[1].count() > 5)?;
    let lease = stage.lab.storage.forest().join(".registry.lease");
    wait_for("its lease", || holder(&lease).as_deref() == Some(&dying))?;
    guests[1].power_cut();
    let cut = Instant::now();
    // What it had sent by then has been done a second later, its release perhaps. A dead holder's lease stands for a
    // minute.
    moment(Duration::from_secs(1));
    let holds = holder(&lease);
    saw("the power of vm2 is cut", format!("the lease is then held by {holds:?}"));
    let held = holds.as_deref() == Some(&dying);
    if held {
        let before = writers[0].count() + writers[2].count();
        wait_for("the others go on", || writers[0].count() + writers[2].count() > before + 1)?;
        saw("    the others went on after", format!("{:.0} s", cut.elapsed().as_secs_f32()));
    }
    for (writer, dies) in writers.into_iter().zip([false, true, false]) {
        let (name, written) = (writer.name.clone(), writer.end()?);
        let count = written.names.len();
        ensure!(dies || count == UPDATES, "{name} came to {count} updates: {}", written.complaints);
        saw(&name, format!("{count} updates acknowledged{}", if dies { " before it died" } else { "" }));
        all.extend(written.names);
    }
    Ok(held)
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !condition() {
        ensure!(begun.elapsed() < Duration::from_secs(300), "waited in vain for {what}");
        moment(Duration::from_millis(1));
    }
    Ok(())
}

/// Who holds the lease, as its file says.
fn holder(lease: &std::path::Path) -> Option<String> {
    let file = std::fs::read_dir(lease)
        .ok()?
        .flatten()
        .find(|entry| !entry.file_name().to_string_lossy().contains('.'))?;
    let owner: Value = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
    Some(owner["owner"].as_str()?.to_owned())
}

/// Everything that was acknowledged stands in the registry.
fn kept(stage: &Stage, names: &[String]) -> anyhow::Result<()> {
    let text = std::fs::read(stage.lab.storage.forest().join("registry.json"))?;
    let registry = Registry::parse(&text)?;
    let forest = FOREST.parse()?;
    let mut lost = Vec::new();
    for name in names {
        if registry.tombstone(&forest, &name.parse()?).is_none() {
            lost.push(name);
        }
    }
    ensure!(lost.is_empty(), "lost {} of {}: {lost:?}", lost.len(), names.len());
    ensure!(registry.entries(&forest).len() == 2, "the nodes' own entries: {:?}", registry.entries(&forest));
    saw("lost", format!("0 of {}", names.len()));
    Ok(())
}

/// One who updates, on a thread of its own.
struct Writer {
    name: String,
    count: Arc<AtomicUsize>,
    thread: JoinHandle<anyhow::Result<Written>>,
}

#[derive(Default)]
struct Written {
    names: Vec<String>,
    complaints: String,
}

impl Writer {
    fn machine(guest: &Guest, name: &str) -> anyhow::Result<Self> {
        let mut child =
            guest.start(&format!("share-client update /etc/morpheus/agent.yaml {name} {UPDATES}"))?;
        let output = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut complaints = child.stderr.take().context("a pipe")?;
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let complaining = std::thread::spawn(move || {
            let mut text = String::new();
            complaints.read_to_string(&mut text).map(|_| text)
        });
        let thread = std::thread::spawn(move || {
            let mut written = Written::default();
            for line in output.lines() {
                let Ok(line) = line else { break };
                written.names.extend(line.strip_prefix("ack ").map(str::to_owned));
                counted.store(written.names.len(), Ordering::Relaxed);
            }
            // One whose machine died ends with ssh's own patience.
            child.wait()?;
            written.complaints = complaining.join().expect("it ends")?;
            Ok(written)
        });
        Ok(Self { name: name.to_owned(), count, thread })
    }

    fn laptop(name: &str) -> anyhow::Result<Self> {
        let door = laptop_door()?;
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let label = name.to_owned();
        let thread = std::thread::spawn(move || {
            let (owner, forest) = (Owner::current(&label), FOREST.parse()?);
            let mut written = Written::default();
            while written.names.len() < UPDATES {
                let mark = format!("{label}-{}", written.names.len());
                let node = mark.parse()?;
                let done = update(
                    &door,
                    &SystemClock,
                    &owner,
                    &Limits::default(),
                    &UpdateOptions::default(),
                    |registry: &Registry| {
                        Ok::<_, std::convert::Infallible>(bury(registry, &forest, &node, SystemClock.now()))
                    },
                );
                match done {
                    Ok(_) => written.names.push(mark),
                    Err(err) => {
                        written.complaints.push_str(&format!("{}\n", forest_core::error::chain(&err)));
                    }
                }
                counted.store(written.names.len(), Ordering::Relaxed);
                ensure!(
                    written.complaints.len() < 10_000,
                    "the laptop fails again and again: {}",
                    written.complaints
                );
            }
            Ok(written)
        });
        Ok(Self { name: name.to_owned(), count, thread })
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn end(self) -> anyhow::Result<Written> {
        self.thread.join().expect("the writer ends")
    }
}

fn laptop_door() -> anyhow::Result<WebDav> {
    let place = Place::parse(&format!("https://[{BOX}]/morpheus/registry.json"))?;
    forest_agent::engine::monitor::install_crypto();
    let login = Login { username: USER.into(), password: SecretString::from(PASSWORD) };
    let client = Client::new(&place, login).map_err(|err| anyhow::anyhow!("{err:?}"))?;
    Ok(WebDav::new(place, Box::new(client)))
}

/// Readers on the machines, at the laptop's door, and in the StorageBox's own directory.
struct Readers {
    machines: Vec<(String, Child)>,
    stop: Arc<AtomicBool>,
    here: Vec<(&'static str, JoinHandle<Readings>)>,
}

impl Readers {
    fn start(stage: &Stage, guests: &[Guest]) -> anyhow::Result<Self> {
        let mut machines = Vec::new();
        for guest in guests {
            machines.push((guest.name(), guest.start("share-client read /etc/morpheus/agent.yaml")?));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let dir: PathBuf = stage.lab.storage.forest();
        let here = vec![
            ("the StorageBox's own directory", reader(&stop, move || FsDoor::open(&dir, None))),
            ("the laptop, by WebDAV", reader(&stop, laptop_door)),
        ];
        Ok(Self { machines, stop, here })
    }

    /// What each of them saw; none may have seen a torn or a missing one.
    fn stop(self, when: &str) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut seen = Vec::new();
        for (name, mut child) in self.machines {
            drop(child.stdin.take());
            let output = child.wait_with_output()?;
            let readings: Readings = serde_json::from_slice(&output.stdout).with_context(|| {
                format!("the reader in {name}: {}", String::from_utf8_lossy(&output.stderr))
            })?;
            seen.push((name, readings));
        }
        for (name, thread) in self.here {
            seen.push((name.to_owned(), thread.join().expect("a reader ends")));
        }
        for (name, readings) in seen {
            saw(&format!("read by {name}, {when}"), serde_json::to_string(&readings)?);
            ensure!(
                readings.whole > 0 && readings.torn == 0 && readings.missing == 0,
                "{name} saw {readings:?}"
            );
        }
        Ok(())
    }
}

fn reader<D, E>(
    stop: &Arc<AtomicBool>,
    open: impl Fn() -> Result<D, E> + Send + 'static,
) -> JoinHandle<Readings>
where
    D: forest_core::registry::Door + 'static,
    E: std::fmt::Display + 'static,
{
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut seen = Readings::default();
        while !stop.load(Ordering::Relaxed) {
            seen.note(read_once(&open));
            moment(PAUSE);
        }
        seen
    })
}
