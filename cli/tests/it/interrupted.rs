//! morpheus killed in the middle: run again, it finishes; nothing is doubled and nothing left.

use std::process::{Child, Command, Stdio};

use crate::kit::{Home, cut, until};

/// Starts a command that nobody reads.
fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("morpheus runs")
}

/// The moments of a plant or growth to three nodes, as they show from outside. None passes: it may be over sooner
/// than somebody looks.
fn moments(home: &Home) -> [Box<dyn Fn() -> bool + '_>; 6] {
    let node = |n: usize| home.state().join(format!("forests/grove/grove-node-{n}"));
    [
        Box::new(|| true),
        Box::new(|| home.state().exists()),
        Box::new(|| home.registry()["forests"]["grove"]["members"].to_string().contains("grove-node-3")),
        Box::new(move || node(2).join("agent.yaml").exists()),
        Box::new(|| home.agents("grove").len() == 3),
        Box::new(|| home.registry()["nodes"]["grove"].to_string().contains("grove-node-3")),
    ]
}

fn is_whole(home: &Home) {
    home.run(&["status", "grove"]).exits(0);
    assert_eq!(home.agents("grove").len(), 3);
    let registry = home.registry();
    let record = &registry["forests"]["grove"];
    assert_eq!(
        (record["status"].as_str(), record["next_node"].to_string()),
        (Some("active"), "4".to_owned())
    );
    assert_eq!(registry["nodes"]["grove"].as_array().map(Vec::len), Some(3));
    let status = home.run(&["status", "grove", "--json"]).json();
    assert_eq!(status["orphans"], serde_json::json!([]));
}

fn fall(home: &Home) {
    home.run(&["teardown", "grove", "--yes"]).exits(0);
    home.has_nothing_of("grove");
}

#[test]
fn a_plant_that_was_killed_is_finished_by_another() {
    for moment in 0..6 {
        let home = Home::new();
        let plant = start(&mut home.plant(&["medium", "--name", "grove"]));
        until("the moment", || moments(&home)[moment]());
        cut(plant);
        // Killed before the record stood or after all was done: then it is a new one, or one that is taken.
        let again = home.planted(&["medium", "--name", "grove"]);
        assert!(again.code == Some(0) || again.err.contains("is there already"), "{again:?}");
        is_whole(&home);
        fall(&home);
    }
}

#[test]
fn a_plant_that_was_killed_can_be_taken_down() {
    for moment in 2..6 {
        let home = Home::new();
        let plant = start(&mut home.plant(&["medium", "--name", "grove"]));
        until("the moment", || moments(&home)[moment]());
        cut(plant);
        fall(&home);
    }
}

#[test]
fn a_growth_that_was_killed_is_finished_and_not_doubled() {
    for moment in 2..6 {
        let home = Home::new();
        home.planted(&["--name", "grove"]).exits(0);
        let grow = start(&mut home.command(&["grow", "grove", "--nodes", "2"]));
        until("the moment", || moments(&home)[moment]());
        cut(grow);
        if home.registry()["forests"]["grove"]["pending"]
            .as_array()
            .is_some_and(|pending| !pending.is_empty())
        {
            home.run(&["grow", "grove", "--nodes", "2"]).exits(0);
        }
        is_whole(&home);
        fall(&home);
    }
}

#[test]
fn a_teardown_that_was_killed_is_finished_by_another() {
    for moment in 0..4 {
        let home = Home::new();
        home.planted(&["medium", "--name", "grove"]).exits(0);
        let teardown = start(&mut home.command(&["teardown", "grove", "--yes"]));
        until("the moment", || match moment {
            0 => true,
            1 => {
                home.registry()["forests"]["grove"]["removed"].is_object()
                    || home.registry()["forests"].get("grove").is_none()
            }
            2 => home.agents("grove").len() < 3,
            _ => !home.state().join("forests/grove/grove-node-1").exists(),
        });
        cut(teardown);
        let again = home.run(&["teardown", "grove", "--yes"]);
        assert!(matches!(again.code, Some(0 | 3)), "{again:?}");
        home.has_nothing_of("grove");
    }
}

#[test]
fn a_second_command_on_the_same_forest_is_refused_by_name() {
    let home = Home::new();
    let mut first = home.plant(&["--name", "grove", "--timeout", "600"]);
    let first = start(first.env("FAKE_WARN", "grove-node-1"));
    until("it waits for its node", || !home.agents("grove").is_empty());
    let second = home.planted(&["--name", "grove"]).exits(1);
    assert!(second.err.contains(&format!("process {}", first.id())), "{second:?}");
    cut(first);
    fall(&home);
}
