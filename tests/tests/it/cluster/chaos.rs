//! A forest that is planted at one moment, or grows while its processes are killed at moments nobody chose: it
//! converges all the same, and nothing that was acknowledged is lost. Each kind of kill has its rounds, and each
//! round its seed: `FOREST_CHAOS=long` plays many, `FOREST_CHAOS_SEED` begins at a given one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::stream;
use forest_agent::engine::version::is_before_2_10;
use forest_tests::client::{Client, Publisher};
use forest_tests::wait::{moment, until};
use forest_tests::{bounded, nats, process};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;

use super::Forest;
use super::growth::{config, numbers, raise};

/// Plays `short` rounds, or `long` where that is asked for; versions of the server take turns.
pub(crate) fn rounds(what: &str, counts: (u64, u64), round: impl FnMut(u64, &Path) -> String) {
    rounds_with(what, counts, &nats::servers(), round);
}

/// The same, with these servers in turn.
pub(crate) fn rounds_with(
    what: &str,
    (short, long): (u64, u64),
    servers: &[PathBuf],
    mut round: impl FnMut(u64, &Path) -> String,
) {
    let setting = |name: &str| std::env::var(name).unwrap_or_default();
    let first = setting("FOREST_CHAOS_SEED").parse().unwrap_or(1);
    let count = if setting("FOREST_CHAOS") == "long" { long } else { short };
    for seed in first..first + count {
        let server = &servers[usize::try_from(seed).unwrap() % servers.len()];
        let name = server.file_name().unwrap().to_string_lossy().into_owned();
        println!("chaos: {what}, round {seed} with {name} begins");
        let told = round(seed, server);
        println!("chaos: {what}, round {seed} with {name}: {told}");
    }
}

#[test]
fn three_planted_at_one_moment_are_one_forest_each_time() {
    rounds("planted at once", (3, 20), |_, server| {
        let mut forest = Forest::new(server);
        for _ in 0..3 {
            forest.plant();
        }
        forest.until_well();
        let founder = forest.record()["founder"].as_str().unwrap().to_owned();
        forest.stop();
        format!("one group, founded by {founder}")
    });
}

/// What is killed with -9, all of it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Agent,
    Engine,
    Witness,
    /// Everything of one node.
    Host,
    /// Everything of every node.
    All,
}

#[test]
fn any_agent_may_be_killed_while_it_grows() {
    killed(Victim::Agent);
}

#[test]
fn any_engine_may_be_killed_while_it_grows() {
    killed(Victim::Engine);
}

#[test]
fn the_witness_may_be_killed_while_it_grows() {
    killed(Victim::Witness);
}

#[test]
fn any_host_may_be_killed_while_it_grows() {
    killed(Victim::Host);
}

#[test]
fn all_of_it_may_be_killed_while_it_grows() {
    killed(Victim::All);
}

fn killed(victim: Victim) {
    rounds(&format!("kill -9 of {victim:?}"), (3, 10), |seed, server| {
        let mut random = StdRng::seed_from_u64(seed);
        let mut forest = Forest::grown(server, 1);
        let client = Client::connect(&forest.clients());
        client.run(|js| async move {
            let config = stream::Config {
                name: "orders".into(),
                subjects: vec!["orders.>".into()],
                ..Default::default()
            };
            js.create_stream(config).await.unwrap();
        });
        let publisher = Publisher::start(forest.clients(), "orders.new");
        let mut told = Vec::new();
        let mut hurt = |forest: &mut Forest, times: u64| {
            for _ in 0..times {
                let wait = Duration::from_millis(random.random_range(0..2500));
                moment(wait);
                told.push(format!("{} after {} ms", kill(forest, victim, &mut random), wait.as_millis()));
            }
        };
        for times in [1 + seed % 3, 1 + seed / 3 % 3] {
            forest.plant();
            hurt(&mut forest, times);
        }
        forest.until_well();
        let mut publishers = vec![("orders", publisher)];
        // Of what is replicated nothing may be lost either. Servers of 2.9 do lose some when they are killed, without
        // any agent too: of a stream whose replicas were raised much, and of one made with three a little.
        if !is_old(server) {
            until("a stream of three replicas is made", || {
                client.run(|js| async move { js.create_stream(config("copies", 3)).await.ok().map(drop) })
            });
            raise(&client, &["orders"], 3);
            publishers.push(("copies", Publisher::start(forest.clients(), "copies.new")));
            hurt(&mut forest, 2);
            forest.until_well();
        }
        let (mut count, mut gap) = (0, Duration::ZERO);
        for (name, publisher) in publishers {
            until(&format!("{name} takes messages"), || (publisher.count() > 100).then_some(()));
            let published = publisher.stop();
            let kept: HashSet<u64> = client.run(|js| async move { numbers(&js, name).await });
            let lost: Vec<_> =
                published.acknowledged.iter().filter(|number| !kept.contains(number)).collect();
            assert_eq!(lost, [&0; 0], "{victim:?}, round {seed}, {name}: acknowledged and gone");
            count += published.acknowledged.len();
            gap = gap.max(published.longest_gap);
        }
        forest.stop();
        format!("killed {}; {count} acknowledged, none lost, longest gap {gap:.1?}", told.join(", "))
    });
}

/// A server of 2.9 or before it.
fn is_old(server: &Path) -> bool {
    let asked = bounded::output(std::process::Command::new(server).arg("--version"));
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    let version =
        said.trim().strip_prefix("nats-server: v").unwrap_or_else(|| panic!("no version: {said:?}"));
    is_before_2_10(version)
}

/// Kills; agents are started again, as systemd does. Says of which node.
pub(super) fn kill(forest: &mut Forest, victim: Victim, random: &mut StdRng) -> String {
    let count = forest.nodes.len();
    let one = random.random_range(0..count);
    let chosen = match victim {
        Victim::Agent | Victim::Engine | Victim::Host => one..one + 1,
        Victim::Witness | Victim::All => 0..count,
    };
    let with_agent = !matches!(victim, Victim::Engine | Victim::Witness);
    for node in &mut forest.nodes[chosen.clone()] {
        if with_agent {
            node.signal(Signal::KILL);
        }
        for (pid, line) in node.processes() {
            let meant = match victim {
                Victim::Agent => false,
                Victim::Engine => line.contains("nats-server.conf"),
                Victim::Witness => line.contains("witness.conf"),
                Victim::Host | Victim::All => true,
            };
            if meant {
                process::signal(pid, Signal::KILL);
            }
        }
    }
    if with_agent {
        for node in &mut forest.nodes[chosen.clone()] {
            assert_eq!(node.ended(), None);
            node.start();
        }
    }
    if chosen.len() == 1 { format!("node {}", one + 1) } else { format!("{count} nodes") }
}
