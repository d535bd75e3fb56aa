//! The nodes of a forest in the cloud go over to newer programs: by way of the share, by their own agents, one at a time.

use std::time::Duration;

use forest_agent::engine::version::is_before_2_10;
use forest_tests::bounded::Started;
use forest_tests::cloud::laptop::said;
use forest_tests::cloud::{Behind, Cloud, Laptop};
use forest_tests::nats;
use forest_tests::node::agent_binary;
use forest_tests::wait::{random_moment, until_value};
use serde_json::{Value, json};

use super::{behind, fits, names};

/// Two real nodes of the oldest server, and the newest one.
fn grove() -> (Cloud, Laptop, String) {
    let servers = nats::servers();
    let [new, old] = &servers[..] else { panic!("two versions are needed: run make tools") };
    let (cloud, laptop) = behind(Behind::Machine);
    said(&mut laptop.plant(old, &["--nodes", "2", "--name", "grove"])).exits(0);
    cloud.open_to(&laptop);
    (cloud, laptop, new.to_str().unwrap().to_owned())
}

/// All are well; what each node tells of its engine.
#[track_caller]
fn engines(laptop: &Laptop) -> Vec<Value> {
    let status = until_value(
        "all are well",
        || laptop.run(&["status", "grove", "--json"]).json(),
        |status| status["status"] == "pass",
    );
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["health"]["engine"].clone()).collect()
}

fn runs_the_newest(engine: &Value) -> bool {
    !is_before_2_10(engine["version"].as_str().unwrap())
}

/// What is recorded lies on the share, and nothing else.
#[track_caller]
fn share_has_what_runs(cloud: &Cloud) {
    let programs = &cloud.registry()["forests"]["grove"]["programs"];
    let mut recorded: Vec<&str> =
        ["agent", "engine"].iter().map(|name| programs[name]["file"].as_str().unwrap()).collect();
    recorded.sort_unstable();
    let files = std::fs::read_dir(cloud.storage.root().join("morpheus/bin")).unwrap();
    let mut files: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort_unstable();
    assert_eq!(files, recorded);
}

#[test]
fn nodes_go_over_to_newer_programs_one_at_a_time() {
    let (cloud, laptop, new) = grove();
    let before = engines(&laptop);
    assert!(!before.iter().any(runs_the_newest), "{before:?}");
    laptop.run(&["upgrade", "grove"]).exits(2);
    // What is for no such machine, or is no agent, goes nowhere.
    let text = laptop.path("text");
    std::fs::write(&text, "text").unwrap();
    let refused = laptop.run(&["upgrade", "grove", "--engine", text.to_str().unwrap(), "--json"]).exits(1);
    assert_eq!(refused.json()["error"]["reason"], "program_architecture");
    let refused = laptop.run(&["upgrade", "grove", "--agent", "/bin/true", "--json"]).exits(1).json();
    fits("action", &refused);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("no forest-agent that runs here"), "{message}");
    assert!(
        message.contains("grove-node-1 did not come back") && message.contains("1 node left"),
        "{message}"
    );
    assert_eq!(engines(&laptop), before);

    // One that differs, as a newer one would.
    let agent = laptop.path("newer-agent");
    let mut bytes = std::fs::read(agent_binary()).unwrap();
    bytes.extend(b"newer");
    std::fs::write(&agent, bytes).unwrap();
    let args = ["upgrade", "grove", "--agent", agent.to_str().unwrap(), "--json"];
    let done = laptop.run(&args).exits(0).json();
    fits("action", &done);
    assert_eq!(names(&done), ["grove-node-1", "grove-node-2"]);
    let pids = |engines: &[Value]| engines.iter().map(|engine| engine["pid"].clone()).collect::<Vec<_>>();
    assert_eq!(pids(&engines(&laptop)), pids(&before), "no engine noticed");
    share_has_what_runs(&cloud);

    let args = ["upgrade", "grove", "--engine", &new, "--json"];
    assert_eq!(names(&laptop.run(&args).exits(0).json()), ["grove-node-1", "grove-node-2"]);
    let after = engines(&laptop);
    assert!(after.iter().all(runs_the_newest), "{after:?}");
    assert_eq!(cloud.registry()["forests"]["grove"]["upgrading"], json!(null));
    share_has_what_runs(&cloud);
    // Nothing is left to be done.
    laptop.run(&args).exits(0);
    assert_eq!(pids(&engines(&laptop)), pids(&after));
    // New nodes have it from the start.
    laptop.run(&["grow", "grove", "--nodes", "1"]).exits(0);
    assert_eq!(engines(&laptop).iter().filter(|engine| runs_the_newest(engine)).count(), 3);
}

#[test]
fn a_laptop_killed_in_the_middle_of_an_upgrade_goes_on_when_asked_again() {
    let (cloud, laptop, new) = grove();
    let args = ["upgrade", "grove", "--engine", &new];
    for _ in 0..2 {
        let mut command = Started::new(&mut laptop.command(&args));
        random_moment(Duration::from_secs(12));
        let _ = command.kill();
    }
    laptop.run(&args).exits(0);
    let after = engines(&laptop);
    assert!(after.len() == 2 && after.iter().all(runs_the_newest), "{after:?}");
    share_has_what_runs(&cloud);
}
