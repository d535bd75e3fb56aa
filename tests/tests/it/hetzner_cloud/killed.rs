//! A laptop that dies after a call of the API, whichever, and two laptops at the same moment.

use std::process::Command;
use std::time::Instant;

use forest_tests::bounded::Started;
use forest_tests::cloud::laptop::{ended, said};
use forest_tests::cloud::{Behind, Cloud, Laptop};
use forest_tests::hetzner::{Fault, Rule};
use forest_tests::nats;
use forest_tests::process::signal;
use forest_tests::wait::{PATIENCE, pause, until};
use rustix::process::Signal;

use super::{all_is_there_once, behind, fits, nothing_is_left, well};

/// Variable with the number of calls between two of those after which a laptop dies; `make cloud` sets 1.
const STRIDE: &str = "FOREST_CLOUD_STRIDE";

fn plant(laptop: &Laptop) -> Command {
    laptop.plant(&nats::server(), &["--nodes", "2", "--name", "grove", "--json"])
}

fn teardown(laptop: &Laptop) -> Command {
    laptop.command(&["teardown", "grove", "--yes", "--json"])
}

/// Runs a command and kills it with -9 once its call number `n` was carried out, before the answer has come; `false`:
/// it was done before that.
fn killed_after(cloud: &Cloud, n: u64, command: &mut Command) -> bool {
    let before = cloud.api.world().requests;
    let skip = usize::try_from(n).unwrap();
    cloud.api.inject(Rule::next(Fault::HangAfter).after(skip));
    cloud.api.inject(Rule::next(Fault::Hang).after(skip).always());
    let mut child = Started::new(command);
    let begun = Instant::now();
    let killed = loop {
        if cloud.api.world().requests > before + n {
            let _ = child.kill();
            break true;
        }
        if child.has_ended().is_some() || begun.elapsed() > PATIENCE {
            let _ = ended(child).exits(0);
            break false;
        }
        pause();
    };
    cloud.api.world().rules.clear();
    killed
}

#[test]
fn a_laptop_killed_after_a_call_finishes_when_asked_again() {
    let stride = std::env::var(STRIDE).ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    let (cloud, laptop) = well();
    let (mut calls, mut ends) = (0, [0, 0]);
    while ends.contains(&0) {
        if !killed_after(&cloud, calls, &mut plant(&laptop)) && ends[0] == 0 {
            ends[0] = calls;
        }
        said(&mut plant(&laptop)).exits_or(0, "name_taken");
        all_is_there_once(&cloud, 2);
        if !killed_after(&cloud, calls, &mut teardown(&laptop)) && ends[1] == 0 {
            ends[1] = calls;
        }
        said(&mut teardown(&laptop)).exits_or(0, "forest_unknown");
        nothing_is_left(&cloud);
        until("no machine is left", || (cloud.standing() == 0).then_some(()));
        calls += stride;
    }
    let [plants, teardowns] = ends;
    println!("killed after every {stride}. of {plants} calls of plant, {teardowns} of teardown");
    assert!(plants >= 10 && teardowns >= 5, "{ends:?} calls");
}

#[test]
fn two_laptops_plant_and_grow_at_the_same_moment() {
    let (cloud, one) = well();
    let other = cloud.laptop();
    let both = |command: &dyn Fn(&Laptop) -> Command, meet: &'static str, calls: usize| {
        let before = cloud.api.world().count("POST", meet);
        cloud.api.inject(Rule::on("POST", meet, Fault::Hold).always());
        let started = [&one, &other].map(|laptop| Started::new(&mut command(laptop)));
        let due = before + calls;
        until("both are at it", || (cloud.api.world().count("POST", meet) >= due).then_some(()));
        cloud.api.world().rules.clear();
        started.map(|command| ended(command).exits(0))
    };
    // The one that came first has no firewall yet when the other looks for it.
    let _ = both(&plant, "/firewalls", 2);
    all_is_there_once(&cloud, 2);
    let _ = both(&|laptop| laptop.command(&["grow", "grove", "--nodes", "2", "--json"]), "/servers", 4);
    all_is_there_once(&cloud, 6);
    assert_eq!(cloud.registry()["forests"]["grove"]["next_node"], 7);
    // And at the same moment they take it down.
    let ends = [&one, &other].map(|laptop| Started::new(&mut teardown(laptop))).map(ended);
    assert!(ends.iter().all(|said| [Some(0), Some(3)].contains(&said.code)), "{ends:?}");
    nothing_is_left(&cloud);
}

#[test]
fn ctrl_c_leaves_all_as_it_is_and_says_the_two_ways_on() {
    let (cloud, laptop) = behind(Behind::Nothing);
    let child = Started::new(&mut plant(&laptop));
    until("it waits for its machines", || {
        let world = cloud.api.world();
        let servers = world.all("servers");
        (servers.len() == 2 && servers.iter().all(|server| server["status"] == "running")).then_some(())
    });
    signal(child.id(), Signal::INT);
    let interrupted = ended(child).exits(1).json();
    fits("action", &interrupted);
    assert_eq!(interrupted["error"]["reason"], "interrupted");
    let message = interrupted["error"]["message"].as_str().unwrap();
    for way in ["morpheus plant cloud --nodes 2 --name grove", "morpheus teardown grove"] {
        assert!(message.contains(way), "{message}");
    }
    assert_eq!(cloud.api.world().all("servers").len(), 2);
    said(&mut teardown(&laptop)).exits(0);
    nothing_is_left(&cloud);
}
