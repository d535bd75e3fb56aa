//! A reboot, and the power cut at random moments of registering: the node comes back healthy, as the same node, with
//! one entry and the data that its engine had.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_nats::jetstream::stream;
use forest_tests::client::Client;
use forest_tests::vm::Guest;
use forest_tests::wait::moment;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::stage::{FOREST, Stage, number, saw};

/// How many power cuts there are if `FOREST_VM_ROUNDS` does not say; one of each kind.
const ROUNDS: u64 = 2;
/// How long registering may take: the first time the forest is founded too, and the engine begins.
const FIRST: Duration = Duration::from_millis(1500);
const AGAIN: Duration = Duration::from_millis(100);
/// Messages that a round adds.
const MESSAGES: u64 = 50;
const STREAM: &str = "kept";

pub(super) fn play(stage: &mut Stage, guests: &mut Vec<Guest>) -> anyhow::Result<()> {
    let seed = number("FOREST_VM_SEED").unwrap_or_else(rand::random);
    let rounds = number("FOREST_VM_ROUNDS").unwrap_or(ROUNDS);
    saw("seed", format!("FOREST_VM_SEED={seed}; {rounds} power cuts"));
    let mut random = StdRng::seed_from_u64(seed);
    let mut node = Node::default();
    for round in 0..rounds {
        let first = round % 2 == 0;
        if first {
            guests.clear();
            stage.fresh()?;
            node = Node::default();
            guests.push(stage.planted(1, &stage.plan(1))?);
        } else {
            forget(stage)?;
        }
        let guest = guests.last_mut().context("a guest")?;
        let after = if first { FIRST } else { AGAIN }.mul_f64(random.random());
        registering(stage, guest)?;
        moment(after);
        guest.power_cut();
        let left = left(stage);
        guest.power_on()?;
        let begun = Instant::now();
        guest.healthy().with_context(|| format!("round {round}: cut after {after:?}; {left}"))?;
        let kind = if first { "for the first time" } else { "again" };
        saw(
            &format!("power cut {} ms into registering {kind}", after.as_millis()),
            format!("{left}; healthy {:.0} s after power came back", begun.elapsed().as_secs_f32()),
        );
        node.is_the_same(stage, guest)?;
        node.works(guest)?;
    }
    let guest = guests.last_mut().context("a guest")?;
    reboot(guest)?;
    node.is_the_same(stage, guest)
}

/// As if the node had never registered.
fn forget(stage: &Stage) -> anyhow::Result<()> {
    let mut registry = stage.registry()?;
    registry["nodes"][FOREST] = serde_json::json!([]);
    stage.lab.storage.replace("registry.json", format!("{registry:#}\n").as_bytes())
}

/// Waits until a lease is being taken.
fn registering(stage: &Stage, guest: &mut Guest) -> anyhow::Result<()> {
    let dir = stage.lab.storage.forest();
    let begun = Instant::now();
    loop {
        let names = std::fs::read_dir(&dir)?.flatten().map(|entry| entry.file_name());
        if names.into_iter().any(|name| name.to_string_lossy().starts_with(".registry.lease")) {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(600), "{} never registers", guest.name());
        moment(Duration::from_millis(1));
    }
}

/// What lies on the share when the power is gone.
fn left(stage: &Stage) -> String {
    let there = |name: &str| stage.lab.storage.forest().join(name).exists();
    let entries = stage.entries().map_or_else(|err| format!("{err:#}"), |found| found.len().to_string());
    let lease = if there(".registry.lease") { "a lease" } else { "no lease" };
    let founded = if there("secrets/grove.json") { "founded" } else { "not founded" };
    format!("left: {entries} entries, {lease}, {founded}")
}

/// What must stay.
#[derive(Default)]
struct Node {
    instance: Option<String>,
    founding: Option<String>,
    messages: u64,
}

impl Node {
    fn is_the_same(&mut self, stage: &Stage, guest: &Guest) -> anyhow::Result<()> {
        let id = format!("{FOREST}-node-1");
        let info: serde_json::Value = serde_json::from_str(&guest.sh("cat /etc/morpheus/node-info.json")?)?;
        ensure!(info["node_id"] == *id, "{info}");
        let entries = stage.entries()?;
        ensure!(entries.len() == 1 && entries[0]["id"] == *id, "one entry of {id}: {entries:?}");
        let instance = entries[0]["metadata"]["instance"].as_str().map(str::to_owned);
        let secrets =
            std::fs::read(stage.lab.storage.forest().join("secrets").join(format!("{FOREST}.json")))?;
        let secrets: serde_json::Value = serde_json::from_slice(&secrets).context("the secrets")?;
        let founding = secrets["founded_at"].as_str().map(str::to_owned);
        ensure!(
            instance.is_some() && founding.is_some() && secrets["founder"] == *id,
            "{entries:?} {}",
            secrets["founder"]
        );
        ensure!(
            self.instance.is_none() || self.instance == instance,
            "{:?} became {instance:?}",
            self.instance
        );
        ensure!(self.founding.is_none() || self.founding == founding, "founded twice");
        (self.instance, self.founding) = (instance, founding);
        let found = self.messages_there(guest)?;
        ensure!(
            found == self.messages,
            "{} messages were acknowledged and are on the disk, {found} are there",
            self.messages
        );
        saw(
            "    the same node",
            format!("{id}, instance {}, {found} messages", self.instance.as_deref().unwrap_or_default()),
        );
        Ok(())
    }

    fn messages_there(&self, guest: &Guest) -> anyhow::Result<u64> {
        if self.messages == 0 {
            return Ok(0);
        }
        with_jetstream(guest, |jetstream| async move {
            Ok(jetstream.get_stream(STREAM).await?.info().await?.state.messages)
        })
    }

    /// Messages are stored, and reach the disk.
    fn works(&mut self, guest: &Guest) -> anyhow::Result<()> {
        with_jetstream(guest, |jetstream| async move {
            let config =
                stream::Config { name: STREAM.into(), subjects: vec!["kept.>".into()], ..Default::default() };
            jetstream.get_or_create_stream(config).await?;
            for n in 0..MESSAGES {
                jetstream.publish("kept.n", n.to_string().into()).await?.await?;
            }
            Ok(())
        })?;
        self.messages += MESSAGES;
        // The engine syncs every two minutes by default: when it is to be on the disk is its affair.
        guest.sh("sync").map(drop)
    }
}

fn with_jetstream<T, F: Future<Output = anyhow::Result<T>>>(
    guest: &Guest,
    job: impl FnOnce(async_nats::jetstream::Context) -> F,
) -> anyhow::Result<T> {
    let _tunnel = guest.forward(4222)?;
    Client::connect(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 4222))]).run(job)
}

fn reboot(guest: &mut Guest) -> anyhow::Result<()> {
    let boot = |guest: &Guest| guest.sh("cat /proc/sys/kernel/random/boot_id");
    let before = boot(guest)?;
    let begun = Instant::now();
    guest.reboot()?;
    guest.wait("ssh after a reboot", |guest| Ok(boot(guest).ok()))?;
    ensure!(boot(guest)? != before, "it is the same boot");
    guest.healthy()?;
    saw("rebooted", format!("healthy after {:.0} s", begun.elapsed().as_secs_f32()));
    Ok(())
}
