//! A forest that grows while its processes are killed at moments nobody chose: it converges all the same, and
//! nothing that was acknowledged is lost. `FOREST_CHAOS_ROUNDS` sets how often, `FOREST_CHAOS_SEED` begins at a
//! given round.

use std::time::Duration;

use async_nats::jetstream::stream;
use forest_tests::client::{Client, Publisher};
use forest_tests::wait::pause;
use forest_tests::{nats, process};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;

use super::Forest;
use super::growth::numbers;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn killed_at_random_moments_of_growing_it_converges_and_loses_nothing() {
    let first = setting("FOREST_CHAOS_SEED", 1);
    for seed in first..first + setting("FOREST_CHAOS_ROUNDS", 3) {
        let servers = nats::servers();
        let server = &servers[usize::try_from(seed).unwrap() % servers.len()];
        println!("round {seed} with {}", server.display());
        round(seed, server);
    }
}

fn round(seed: u64, server: &std::path::Path) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut forest = Forest::grown(server, 1);
    let client = Client::connect(&forest.clients());
    client.run(|js| async move {
        let config =
            stream::Config { name: "orders".into(), subjects: vec!["orders.>".into()], ..Default::default() };
        js.create_stream(config).await.unwrap();
    });
    let publisher = Publisher::start(forest.clients(), "orders.new");
    for _ in 0..2 {
        forest.plant();
        for _ in 0..random.random_range(1..4) {
            let wait = Duration::from_millis(random.random_range(0..2500));
            let until = std::time::Instant::now() + wait;
            while std::time::Instant::now() < until {
                pause();
            }
            kill_one(&mut forest, &mut random);
        }
    }
    forest.until_well();
    let published = publisher.stop();
    let kept = client.run(|js| async move { numbers(&js, "orders").await });
    let lost: Vec<_> = published.acknowledged.iter().filter(|number| !kept.contains(number)).collect();
    assert_eq!(lost, [&0; 0], "round {seed}: acknowledged and gone");
    forest.stop();
}

/// Kills an agent, an engine, a witness, or everything of one node; agents are started again, as systemd does.
fn kill_one(forest: &mut Forest, random: &mut StdRng) {
    let at = random.random_range(0..forest.nodes.len());
    let node = &mut forest.nodes[at];
    let what = ["agent", "nats-server.conf", "witness.conf", "all"].choose(random).unwrap();
    println!("  kill -9: {what} of {}", node.id);
    if ["agent", "all"].contains(what) {
        node.signal(Signal::KILL);
        assert_eq!(node.ended(), None);
    }
    for (pid, line) in node.processes() {
        if *what == "all" || line.contains(what) {
            process::signal(pid, Signal::KILL);
        }
    }
    if ["agent", "all"].contains(what) {
        node.start();
    }
}
