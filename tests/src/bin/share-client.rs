//! One more program that uses a node's registry, as the node's agent does: for the tests, in guests too.
//!
//! ```text
//!   share-client update CONFIG LABEL COUNT    COUNT updates; `ack LABEL-N` for each that was acknowledged
//!   share-client read CONFIG                  reads until its standard input ends; then what it saw, as JSON
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its results are read by a test")]

use std::convert::Infallible;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use forest_agent::settings::Settings;
use forest_agent::steps::queue_of;
use forest_core::registry::{
    Clock as _, FsDoor, Limits, Owner, Queue, Registry, SystemClock, UpdateOptions, bury, update,
};
use forest_tests::readers::{Readings, read_once};

/// Between two tries of an update that failed, and between two reads.
const PAUSE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["update", config, label, count] => run_updates(config, label, count),
        ["read", config] => run_reads(config),
        _ => Err(anyhow::anyhow!("usage: share-client update CONFIG LABEL COUNT | read CONFIG")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("share-client: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn settings(config: &str) -> anyhow::Result<Settings> {
    Settings::load(Path::new(config)).with_context(|| format!("failed to load {config}"))
}

/// The same mark, again and again until it is acknowledged: what an agent's next look would do.
fn run_updates(config: &str, label: &str, count: &str) -> anyhow::Result<()> {
    let settings = settings(config)?;
    let dir = settings.registry.parent().context("a directory")?;
    let queue = Arc::new(Queue::new(queue_of(&settings)));
    let owner = Owner::current(label);
    let mut failures = 0;
    for number in 0..count.parse::<u32>()? {
        let node = format!("{label}-{number}").parse()?;
        loop {
            let change = |registry: &Registry| {
                Ok::<_, Infallible>(bury(registry, &settings.forest, &node, SystemClock.now()))
            };
            // Opened anew: the agent may have mounted the share anew.
            let door = FsDoor::open(dir, Some(Arc::clone(&queue)));
            let done = door.map_err(anyhow::Error::from).and_then(|door| {
                Ok(update(
                    &door,
                    &SystemClock,
                    &owner,
                    &Limits::default(),
                    &UpdateOptions::default(),
                    change,
                )?)
            });
            match done {
                Ok(_) => break,
                Err(err) if failures > 500 => bail!("{err:#}"),
                Err(err) => {
                    failures += 1;
                    eprintln!("{node}: {err:#}");
                    SystemClock.sleep(PAUSE);
                }
            }
        }
        println!("ack {label}-{number}");
    }
    Ok(())
}

fn run_reads(config: &str) -> anyhow::Result<()> {
    let settings = settings(config)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stopping.store(true, Ordering::Relaxed);
    });
    let queue = Arc::new(Queue::new(queue_of(&settings)));
    let mut seen = Readings::default();
    while !stop.load(Ordering::Relaxed) {
        let dir = settings.registry.parent().unwrap_or(Path::new("/"));
        let open = || FsDoor::open(dir, Some(Arc::clone(&queue)));
        seen.note(read_once(open));
        SystemClock.sleep(PAUSE);
    }
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}
