//! morpheus with real agents and real nats-servers: forests side by side, and a laptop that dies in the middle.

mod change;
mod rotation;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use async_nats::jetstream::stream;
use forest_tests::bounded::{self, Started};
use forest_tests::client::{Client, Publisher};
use forest_tests::node::built;
use forest_tests::process::{self, signal};
use forest_tests::terminal::Terminal;
use forest_tests::wait::{random_moment, until};
use forest_tests::{http, nats, schema};
use rustix::process::Signal;
use serde_json::Value;

/// A laptop with a state directory of its own; dropped, nothing of it runs any more.
struct Laptop {
    state: tempfile::TempDir,
    engine: PathBuf,
}

impl Laptop {
    fn new() -> Self {
        Self { state: tempfile::tempdir().unwrap(), engine: nats::server() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.plain(args);
        command.args(["--json", "--yes"]);
        if args[0] == "plant" {
            command.arg("--engine-binary").arg(&self.engine);
        }
        command
    }

    /// As a person types it.
    fn plain(&self, args: &[&str]) -> Command {
        let mut command = Command::new(built("morpheus"));
        command.args(args).env("XDG_STATE_HOME", self.state.path());
        command
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, Value) {
        let Output { status, stdout, .. } = bounded::output(&mut self.command(args));
        (status.code(), serde_json::from_slice(&stdout).unwrap_or_default())
    }

    #[track_caller]
    fn done(&self, args: &[&str]) -> Value {
        let (code, value) = self.run(args);
        assert_eq!(code, Some(0), "{args:?}: {value:#}");
        value
    }

    fn start(&self, args: &[&str]) -> Started {
        Started::new(&mut self.command(args))
    }

    /// Starts a command, kills it with -9 at a random moment, and runs it again to its end.
    fn interrupted(&self, args: &[&str], longest: Duration) -> Value {
        let mut child = self.start(args);
        random_moment(longest);
        let _ = child.kill();
        self.done(args)
    }

    /// The members as `status` names them, each of whose servers must have the whole cluster.
    fn members(&self, forest: &str) -> Vec<String> {
        // A node that just joined may still be catching up.
        let status = until("the forest is well", || {
            let (code, status) = self.run(&["status", forest]);
            (code == Some(0)).then_some(status)
        });
        let nodes = status["nodes"].as_array().unwrap();
        for node in nodes {
            let jsz = format!("{}:8222", node["ip"].as_str().unwrap()).parse().unwrap();
            // The witness leaves once all real nodes are there.
            until("the meta group is the nodes", || {
                let answer = http::get(jsz, "/jsz").ok()?.json();
                (answer["meta_cluster"]["cluster_size"] == nodes.len()).then_some(())
            });
        }
        nodes.iter().map(|node| node["node_id"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until all of `count` nodes are well.
    #[track_caller]
    fn well(&self, forest: &str, count: usize) {
        until("the forest is well", || {
            let (code, status) = self.run(&["status", forest]);
            (code == Some(0) && status["nodes"].as_array().unwrap().len() == count).then_some(())
        });
    }

    fn processes(&self) -> Vec<(u32, String)> {
        process::of_directory(self.state.path())
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            signal(pid, Signal::KILL);
        }
    }
}

fn names(forest: &str, range: std::ops::RangeInclusive<usize>) -> Vec<String> {
    range.map(|n| format!("{forest}-node-{n}")).collect()
}

#[test]
fn two_forests_of_three_side_by_side() {
    let laptop = Laptop::new();
    laptop.done(&["plant", "local", "medium", "--name", "grove"]);
    for node in laptop.done(&["status", "grove"])["nodes"].as_array().unwrap() {
        let group = &node["health"]["checks"]["nats:jetstream"][0]["observedValue"];
        assert_eq!(*group, 3, "planted, it lives through the death of any node: {node:#}");
    }
    laptop.done(&["plant", "local", "medium", "--name", "wood"]);
    assert_eq!(laptop.members("grove"), names("grove", 1..=3));
    assert_eq!(laptop.members("wood"), names("wood", 1..=3));
    let (code, refused) = laptop.run(&["plant", "local", "small", "--name", "grove"]);
    assert_eq!(code, Some(1), "{refused:#}");
    let (code, _) = laptop.run(&["status", "grave"]);
    assert_eq!(code, Some(3));
    laptop.done(&["teardown", "grove"]);
    assert_eq!(laptop.members("wood"), names("wood", 1..=3), "the other forest has not noticed");
    laptop.done(&["teardown", "wood"]);
    assert_eq!(laptop.processes(), []);
}

#[test]
fn a_laptop_killed_in_the_middle_finishes_when_asked_again() {
    let laptop = Laptop::new();
    laptop.interrupted(&["plant", "local", "medium", "--name", "grove"], Duration::from_secs(3));
    assert_eq!(laptop.members("grove"), names("grove", 1..=3));
    // Sooner than any node can join.
    laptop.interrupted(&["grow", "grove", "--nodes", "2"], Duration::from_secs(1));
    let grown = names("grove", 1..=5);
    assert_eq!(laptop.members("grove"), grown);
    laptop.interrupted(&["grow", "grove", "--repair"], Duration::from_secs(1));
    assert_eq!(laptop.members("grove"), grown);
    let mut child = laptop.start(&["teardown", "grove"]);
    random_moment(Duration::from_secs(2));
    let _ = child.kill();
    // Gone already, if it was quicker than its end.
    let (code, value) = laptop.run(&["teardown", "grove"]);
    assert!(matches!(code, Some(0 | 3)), "{value:#}");
    assert_eq!(laptop.processes(), []);
    assert_eq!(laptop.done(&["list"])["forests"], Value::Array(Vec::new()));
}

#[test]
fn a_growth_that_is_not_well_in_time_says_why_in_its_json() {
    let laptop = Laptop::new();
    laptop.done(&["plant", "local", "small", "--name", "grove"]);
    let founder = laptop.processes();
    // Whoever joins waits for it.
    founder.iter().for_each(|(pid, _)| signal(*pid, Signal::STOP));
    let (code, grown) = laptop.run(&["grow", "grove", "--nodes", "1", "--timeout", "1"]);
    founder.iter().for_each(|(pid, _)| signal(*pid, Signal::CONT));
    assert_eq!(code, Some(4), "{grown:#}");
    schema::check("grow", &grown);
    assert_eq!(grown["error"]["reason"], "not_healthy", "{grown:#}");
    assert!(grown["error"]["message"].as_str().unwrap().contains("grove-node-2: "), "{grown:#}");
    let repaired = laptop.done(&["grow", "grove", "--repair"]);
    schema::check("grow", &repaired);
    laptop.well("grove", 2);
}

#[test]
fn on_a_terminal_a_person_is_asked_before_a_node_is_added_and_before_all_goes() {
    let laptop = Laptop::new();
    laptop.done(&["plant", "local", "small", "--name", "grove"]);
    let ip = laptop.done(&["status", "grove"])["nodes"][0]["ip"].as_str().unwrap().to_owned();
    let at = vec![format!("{ip}:4222").parse().unwrap()];
    Client::connect(&at).run(|js| async move {
        let (name, subjects) = ("orders".to_owned(), vec!["orders.>".to_owned()]);
        js.create_stream(stream::Config { name, subjects, ..stream::Config::default() }).await.unwrap();
    });
    let publisher = Publisher::start(at, "orders.new");
    for (answer, nodes) in [("n", 1), ("y", 2)] {
        until("the load can be told", || {
            let load = laptop.done(&["grow", "grove", "--threshold", "0"]);
            (load["cpu_high"] == true).then_some(())
        });
        let mut grow = Terminal::start(&mut laptop.plain(&["grow", "grove", "--threshold", "0"]));
        grow.shows("add a node to grove? [y/N] ");
        grow.types(answer);
        let (status, screen) = grow.ended();
        assert_eq!(status.code(), Some(0), "{screen}");
        laptop.well("grove", nodes);
    }
    let _ = publisher.stop();

    for (answer, code) in [("wood", 2), ("grove", 0)] {
        let mut teardown = Terminal::start(&mut laptop.plain(&["teardown", "grove"]));
        teardown.shows("type grove to go on: ");
        teardown.types(answer);
        let (status, screen) = teardown.ended();
        assert_eq!(status.code(), Some(code), "{screen}");
        assert_eq!(screen.contains("not confirmed: nothing was done"), code == 2, "{screen}");
    }
    assert_eq!(laptop.processes(), []);
}

#[test]
fn everything_killed_comes_back_by_repair() {
    let laptop = Laptop::new();
    laptop.done(&["plant", "local", "medium", "--name", "grove"]);
    for (pid, _) in laptop.processes() {
        signal(pid, Signal::KILL);
    }
    until("all are dead", || laptop.processes().is_empty().then_some(()));
    let (code, status) = laptop.run(&["status", "grove"]);
    assert_eq!(code, Some(4), "{status:#}");
    laptop.done(&["grow", "grove", "--repair"]);
    assert_eq!(laptop.members("grove"), names("grove", 1..=3));
    laptop.done(&["teardown", "grove"]);
    assert_eq!(laptop.processes(), []);
    // Nor are its credentials left, so that the name can be used again.
    assert!(!laptop.state.path().join("morpheus/local/secrets").exists());
    laptop.done(&["plant", "local", "small", "--name", "grove"]);
    laptop.done(&["teardown", "grove"]);
}
