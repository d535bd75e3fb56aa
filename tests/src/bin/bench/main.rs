//! `make bench`: figures, each beside the thing to beat, measured in the same run and in turn.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark is there to print")]

mod grow;
mod plant;
mod webdav;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use forest_core::registry::{
    Document, FsDoor, Limits, Owner, Queue, Registry, SystemClock, UpdateOptions, update,
};
use forest_tests::hangfs::HangFs;
use forest_tests::node::node;
use forest_tests::wait::until;
use forest_tests::{http, nats};

/// Pairs of each comparison.
const PAIRS: usize = 9;
/// Requests for a distribution.
const REQUESTS: usize = 2000;
const THREADS: usize = 16;
const UPDATES: usize = 20;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("the benchmark failed: {err:#}");
            ExitCode::FAILURE
        }
    }
}

type Bench = fn() -> anyhow::Result<()>;

/// Those that are named, or all.
fn run(names: &[String]) -> anyhow::Result<()> {
    let all: [(&str, Bench); 6] = [
        ("start", start_to_healthy),
        ("health", health_while_hanging),
        ("updates", updates),
        ("webdav", webdav::run),
        ("plant", plant::run),
        ("grow", grow::run),
    ];
    if let Some(name) = names.iter().find(|name| all.iter().all(|(known, _)| known != name)) {
        let known: Vec<_> = all.iter().map(|(known, _)| *known).collect();
        bail!("no benchmark `{name}`; there are: {}", known.join(", "));
    }
    let mut chosen =
        all.iter().filter(|(known, _)| names.is_empty() || names.iter().any(|name| name == known));
    chosen.try_for_each(|(_, bench)| bench())
}

/// From exec to a healthy node, beside from exec to a bare nats-server's /healthz.
fn start_to_healthy() -> anyhow::Result<()> {
    println!("== start to healthy ({PAIRS} pairs, in turn)");
    let server = nats::server();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let begun = Instant::now();
        let mut grove = node("grove-node-1", &server).start();
        until("it is ready", || grove.get("/readyz").filter(|answer| answer.code == 200));
        ours.push(begun.elapsed());
        let ip = grove.ip;
        grove.stop();

        let store = grove.path("bare");
        let begun = Instant::now();
        let mut child = Command::new(&server)
            .args(["-a", &ip.to_string(), "-p", "4222", "-m", "8222", "-js", "-sd"])
            .arg(&store)
            .stderr(Stdio::null())
            .spawn()?;
        until("it answers", || {
            http::get((ip, 8222).into(), "/healthz").ok().filter(|answer| answer.code == 200)
        });
        bare.push(begun.elapsed());
        child.kill()?;
        child.wait()?;
    }
    row("agent: entry, config tested, engine, /readyz", &mut ours);
    row("bare nats-server: /healthz", &mut bare);
    Ok(())
}

/// /health while the registry's file system hangs, beside the same while all is well.
fn health_while_hanging() -> anyhow::Result<()> {
    println!("== /health, {REQUESTS} requests each");
    let backing = tempfile::tempdir()?;
    let mountpoint = tempfile::tempdir()?;
    let mirror = HangFs::mount(backing.path(), mountpoint.path())?;
    let mut grove =
        node("grove-node-1", &nats::server()).registry(mountpoint.path().join("registry.json")).start();
    grove.until_pass();
    let ask = || -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(REQUESTS);
        for _ in 0..REQUESTS {
            let begun = Instant::now();
            grove.get("/health").context("no answer")?;
            times.push(begun.elapsed());
        }
        Ok(times)
    };
    let mut well = ask()?;
    mirror.hang();
    grove.until_reason("registry:entry", "registry_hung");
    let mut hanging = ask()?;
    mirror.resume();
    row("the registry hangs", &mut hanging);
    row("all is well", &mut well);
    grove.stop();
    Ok(())
}

/// An update of the registry by the whole algorithm, beside one under a bare flock with temp file and rename.
fn updates() -> anyhow::Result<()> {
    println!("== registry updates, {THREADS} threads x {UPDATES}, whole run ({PAIRS} pairs, in turn)");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let dir = tempfile::tempdir()?;
        ours.push(contend(dir.path(), leased)?);
        let dir = tempfile::tempdir()?;
        bare.push(contend(dir.path(), flocked)?);
    }
    row("queue, lease, staged commit, last-good copy, read back", &mut ours);
    row("bare flock, temp file and rename (fsync too)", &mut bare);
    Ok(())
}

/// Runs all updates; every one must be there afterwards.
fn contend(dir: &Path, one: fn(&Path, &str)) -> anyhow::Result<Duration> {
    fs::write(dir.join("registry.json"), "{}")?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || (0..UPDATES).for_each(|n| one(dir, &format!("{thread}-{n}"))));
        }
    });
    let took = begun.elapsed();
    let text = fs::read_to_string(dir.join("registry.json"))?;
    let kept = text.matches("\"mark-").count();
    anyhow::ensure!(kept == THREADS * UPDATES, "{kept} of {} updates were kept", THREADS * UPDATES);
    Ok(took)
}

fn marked(text: &[u8], mark: &str) -> Vec<u8> {
    let mut json: serde_json::Value = serde_json::from_slice(text).expect("it parses");
    json[format!("mark-{mark}")] = true.into();
    format!("{json:#}\n").into_bytes()
}

fn leased(dir: &Path, mark: &str) {
    let queue = Arc::new(Queue::new(dir.join("queue.lock")));
    let door = FsDoor::open(dir, Some(queue)).expect("it opens");
    let owner = Owner::current("bench");
    let limits = Limits { queue_wait: Duration::from_secs(120), ..Limits::default() };
    let options = UpdateOptions { create_missing: true, ..UpdateOptions::default() };
    let change = |registry: &Registry| -> Result<Option<Registry>, std::convert::Infallible> {
        let text = marked(registry.render().as_bytes(), mark);
        Ok(Some(Registry::parse(&text).expect("it parses")))
    };
    update(&door, &SystemClock, &owner, &limits, &options, change).expect("it is written");
}

#[expect(clippy::disallowed_methods, reason = "the bare lock that the registry's algorithm is compared with")]
fn flocked(dir: &Path, mark: &str) {
    let path = dir.join("registry.json");
    let lock = fs::File::create(dir.join("lock")).expect("a lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("it is locked");
    let text = marked(&fs::read(&path).expect("it is read"), mark);
    let temp = dir.join("new");
    fs::write(&temp, text).expect("it is written");
    fs::File::open(&temp).and_then(|file| file.sync_all()).expect("it is synced");
    fs::rename(&temp, &path).expect("it is renamed");
}

pub(crate) fn row(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index below the length"
        )]
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let index = ((times.len() - 1) as f64 * part) as usize;
        format!("{:9.3} ms", times[index].as_secs_f64() * 1e3)
    };
    println!("  {what:<56} median {}  p99 {}  max {}", at(0.5), at(0.99), at(1.0));
}
