//! A node leaves while things are killed with -9 at moments nobody chose: it is out in the end, those who stay are
//! well, and nothing that was acknowledged is lost.

use std::collections::HashSet;
use std::process::Stdio;
use std::time::Duration;

use forest_tests::client::{Client, Publisher};
use forest_tests::nats;
use forest_tests::wait::{moment, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::Forest;
use super::super::chaos::{Victim, kill, rounds_with};
use super::super::growth::{config, numbers};

/// With the newest server: one of 2.9 may move the only copy of a stream to and fro for ever (1 of 29 rounds).
#[test]
fn a_leave_that_is_killed_at_any_moment_comes_to_its_end() {
    rounds_with("a node leaves", (3, 30), &[nats::server()], |seed, server| {
        let mut random = StdRng::seed_from_u64(seed);
        let count = random.random_range(2..4);
        let leaver = random.random_range(0..count);
        let mut forest = Forest::grown(server, count);
        let client = Client::connect(&forest.clients());
        client.run(|js| async move {
            js.create_stream(config("orders", 2)).await.unwrap();
            // On any node, the one that leaves among them.
            js.create_stream(config("alone", 1)).await.unwrap();
            js.publish("alone.x", "1".into()).await.unwrap().await.unwrap();
        });
        let publisher = Publisher::start(forest.clients(), "orders.new");
        let mut command = forest.nodes[leaver].command(&["leave"]);
        let mut follower = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut told = vec![format!("node {} of {count} leaves", leaver + 1)];
        for _ in 0..random.random_range(1..4) {
            let wait = Duration::from_millis(random.random_range(0..4000));
            moment(wait);
            let victim = [Victim::Agent, Victim::Engine, Victim::Host][random.random_range(0..3)];
            let whom = kill(&mut forest, victim, &mut random);
            told.push(format!("{victim:?} of {whom} killed after {} ms", wait.as_millis()));
        }
        until("the one who asked is answered", || follower.try_wait().unwrap());
        // Whoever asked may have given up while the agent was away; the node leaves all the same.
        forest.nodes[leaver].until_succeeds(&["leave"]);
        drop(forest.gone(leaver));
        forest.until_well();
        let published = publisher.stop();
        for name in ["orders", "alone"] {
            until(&format!("{name} has a leader"), || {
                client.run(|js| async move {
                    js.get_stream(name).await.ok()?.cached_info().cluster.clone()?.leader
                })
            });
        }
        let kept: HashSet<u64> = client.run(|js| async move { numbers(&js, "orders").await });
        let lost: Vec<_> = published.acknowledged.iter().filter(|number| !kept.contains(number)).collect();
        assert_eq!(lost, [&0; 0], "round {seed}: acknowledged and gone");
        assert_eq!(client.run(|js| async move { numbers(&js, "alone").await }).len(), 1);
        forest.stop();
        let (count, gap) = (published.acknowledged.len(), published.longest_gap);
        format!("{}; {count} acknowledged, none lost, longest gap {gap:.1?}", told.join(", "))
    });
}
