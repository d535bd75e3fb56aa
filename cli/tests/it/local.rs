//! A local forest from planting to teardown.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::kit::{Home, cut, kill, said, until};
use crate::schema::check;

#[test]
fn three_nodes_are_planted_watched_and_taken_down() {
    let home = Home::new();
    let planted = home.planted(&["medium", "--name", "grove", "--json"]).exits(0).json();
    check("action", &planted);
    assert_eq!(planted["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(home.agents("grove").len(), 3);

    let list = home.run(&["list", "--json"]).exits(0).json();
    check("list", &list);
    assert_eq!(list["forests"][0]["size"], "medium");
    assert_eq!(list["forests"][0]["nodes"].to_string(), "3");
    let status = home.run(&["status", "grove", "--json"]).exits(0).json();
    check("status", &status);
    assert_eq!((&status["status"], status["client_urls"].as_array().unwrap().len()), (&json!("pass"), 3));
    let grow = home.run(&["grow", "grove", "--json"]).exits(0).json();
    check("grow", &grow);
    assert_eq!((grow["total_connections"].to_string(), &grow["cpu_high"]), ("6".to_owned(), &json!(false)));

    let taken = home.planted(&["--name", "grove", "--json"]).exits(1).json();
    check("error", &taken);
    assert_eq!(taken["error"]["reason"], "name_taken");
    let gone = home.run(&["teardown", "grove", "--yes", "--json"]).exits(0).json();
    check("action", &gone);
    home.has_nothing_of("grove");
    home.run(&["status", "grove"]).exits(3);
}

#[test]
fn people_read_tables_and_a_client_url() {
    let home = Home::new();
    let planted = home.planted(&["--name", "grove"]).exits(0);
    assert!(
        planted.out.contains("grove is ready") && planted.out.contains("clients:  nats://127."),
        "{planted:?}"
    );
    assert!(planted.err.contains("grove-node-1  ready"), "{planted:?}");
    assert!(!planted.out.contains('\u{1b}') && !planted.err.contains('\u{1b}'), "no colour in a pipe");
    assert!(home.run(&["list"]).exits(0).out.contains("grove   local"));
    assert!(home.run(&["status", "grove"]).exits(0).out.starts_with("grove: pass\n"));
    assert!(
        home.run(&["grow", "grove"])
            .exits(0)
            .out
            .contains("1 of 1 node answer; 2 clients, the agents' own among them")
    );
    let asks = home.run(&["teardown", "grove"]).exits(2);
    assert!(asks.err.contains("--yes"), "{asks:?}");
    assert_eq!(home.agents("grove").len(), 1, "nothing was done");
}

#[test]
fn a_dry_run_tells_everything_and_does_nothing() {
    let home = Home::new();
    let planned = home.planted(&["large", "--name", "grove", "--dry-run", "--json"]).exits(0).json();
    check("action", &planned);
    assert_eq!(planned["nodes"][4]["status"], "planned");
    assert_eq!(home.registry(), json!({}));
    let planted = home.planted(&["large", "--name", "grove", "--json"]).exits(0).json();
    assert_eq!(planted["nodes"][4]["ip"], planned["nodes"][4]["ip"]);
}

#[test]
fn a_node_that_is_not_healthy_in_time_is_named_with_its_check() {
    let home = Home::new();
    // Time enough for the other two on a loaded machine.
    let mut plant = home.plant(&["medium", "--name", "grove", "--timeout", "15", "--json"]);
    let late = said(plant.env("FAKE_WARN", "grove-node-2")).exits(4).json();
    check("action", &late);
    let message = late["error"]["message"].as_str().unwrap();
    for part in [
        "1 of 3",
        "grove-node-2: nats:jetstream: no leader here (jetstream_no_leader)",
        "morpheus logs grove grove-node-2",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let status = home.run(&["status", "grove", "--json"]).exits(4).json();
    assert_eq!(status["status"], "warn");
    // The same again takes it up; a repair starts what does not run.
    for pid in home.agents("grove") {
        kill(pid);
    }
    home.planted(&["medium", "--name", "grove"]).exits(0);
}

#[test]
fn an_agent_that_ends_is_told_at_once_with_its_last_words() {
    let home = Home::new();
    let mut plant = home.plant(&["--name", "grove", "--timeout", "600", "--json"]);
    let ended = said(plant.env("FAKE_EXIT", "grove-node-1")).exits(4).json();
    assert_eq!(ended["nodes"][0]["status"], "exited");
    assert!(ended["error"]["message"].as_str().unwrap().contains("told to end"), "{ended}");
}

#[test]
fn forests_grow_and_never_twice_with_one_number() {
    let home = Home::new();
    home.planted(&["--name", "grove"]).exits(0);
    let grown = home.run(&["grow", "grove", "--nodes", "2", "--json"]).exits(0).json();
    check("grow", &grown);
    assert_eq!(grown["added"], json!(["grove-node-2", "grove-node-3"]));
    let quiet = home.run(&["grow", "grove", "--auto"]).exits(0).json();
    assert_eq!((quiet["added"].clone(), home.agents("grove").len()), (json!([]), 3));
}

#[test]
fn a_loaded_forest_grows_by_itself_up_to_its_limit() {
    let home = Home::new();
    said(home.plant(&["--name", "grove"]).env("FAKE_CPU", "95")).exits(0);
    let mut auto = home.command(&["grow", "grove", "--auto", "--max-nodes", "2"]);
    let grown = said(auto.env("FAKE_CPU", "95")).exits(0).json();
    assert_eq!((&grown["added"], &grown["cpu_high"]), (&json!(["grove-node-2"]), &json!(true)));
    assert_eq!(
        home.run(&["grow", "grove", "--auto", "--max-nodes", "2"]).exits(0).json()["added"],
        json!([])
    );
    // More would be allowed, and the load is as high; the last growth has to show first.
    let auto = |arguments: &[&str]| {
        let mut command = home.command(&[&["grow", "grove", "--auto"], arguments].concat());
        said(command.env("FAKE_CPU", "95")).exits(0)
    };
    let waits = auto(&[]);
    assert_eq!(waits.json()["added"], json!([]));
    assert!(waits.err.contains("no other for") && waits.err.contains("seconds"), "{waits:?}");
    assert_eq!(auto(&["--cooldown", "0"]).json()["added"], json!(["grove-node-3"]));
}

#[test]
fn a_loaded_forest_asks_on_a_terminal_alone() {
    let home = Home::new();
    said(home.plant(&["--name", "grove"]).env("FAKE_CPU", "95")).exits(0);
    let quiet = home.run(&["grow", "grove"]).exits(0);
    assert!(!quiet.err.contains("[y/N]") && quiet.out.contains("morpheus grow grove --nodes 1"), "{quiet:?}");
    assert!(!quiet.out.contains('\u{1b}') && !quiet.err.contains('\u{1b}'), "no colour in a pipe: {quiet:?}");
    for (answer, nodes) in [("\n", 1), ("y\n", 2)] {
        let command = format!("{} grow grove", env!("CARGO_BIN_EXE_morpheus"));
        let mut terminal = std::process::Command::new("script");
        terminal.args(["-qec", &command, "/dev/null"]).env_clear().current_dir(home.path());
        terminal.env("HOME", home.path()).env("PATH", "/usr/bin:/bin").env("FAKE_CPU", "95");
        let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown.contains("add a node to grove? [y/N]"), "{shown}");
        assert_eq!(home.agents("grove").len(), nodes, "{shown}");
    }
}

#[test]
fn what_is_dead_is_started_again_and_what_lives_is_left() {
    let home = Home::new();
    home.planted(&["medium", "--name", "grove"]).exits(0);
    let before = home.agents("grove");
    kill(before[0]);
    until("the agent is gone", || home.agents("grove").len() == 2);
    home.run(&["grow", "grove", "--repair"]).exits(0);
    let after = home.agents("grove");
    assert_eq!(after.len(), 3);
    assert!(before[1..].iter().all(|pid| after.contains(pid)));
    // As after a reboot: nothing runs.
    for pid in home.pids("forests/") {
        kill(pid);
    }
    until("all are gone", || home.pids("forests/").is_empty());
    home.run(&["status", "grove"]).exits(4);
    home.run(&["grow", "grove", "--repair"]).exits(0);
    home.run(&["status", "grove"]).exits(0);
}

#[test]
fn teardown_ends_the_engine_of_a_dead_agent() {
    let home = Home::new();
    home.planted(&["--name", "grove"]).exits(0);
    kill(home.agents("grove")[0]);
    until("the agent is gone", || home.agents("grove").is_empty());
    assert_eq!(home.pids("forests/grove/").len(), 1, "its engine lives");
    home.run(&["teardown", "grove", "--yes"]).exits(0);
    home.has_nothing_of("grove");
}

#[test]
fn forests_stand_side_by_side() {
    let home = Home::new();
    let start = |name| {
        home.plant(&["medium", "--name", name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for mut plant in [start("grove"), start("elm")] {
        assert!(plant.wait().unwrap().success());
    }
    let named = home.planted(&["--json"]).exits(0).json()["forest_id"].as_str().unwrap().to_owned();
    home.run(&["teardown", "grove", "--yes"]).exits(0);
    home.has_nothing_of("grove");
    home.run(&["status", "elm"]).exits(0);
    home.run(&["status", &named]).exits(0);
}

#[test]
fn logs_are_shown_by_node_and_time_and_followed() {
    let home = Home::new();
    home.planted(&["medium", "--name", "grove"]).exits(0);
    let all = home.run(&["logs", "grove", "--json"]).exits(0).out;
    let lines: Vec<serde_json::Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter().for_each(|line| check("logs", line));
    assert_eq!(lines.iter().filter(|line| line["source"] == "engine").count(), 3);
    let one = home.run(&["logs", "grove", "grove-node-2"]).exits(0).out;
    assert!(one.lines().all(|line| line.starts_with("grove-node-2 ")) && one.contains("up"), "{one}");
    assert_eq!(home.run(&["logs", "grove", "--since", "2099-01-01T00:00:00Z"]).exits(0).out, "");
    let wrong = home.run(&["logs", "grove", "grove-node-9"]).exits(3);
    assert!(wrong.err.contains("known: grove-node-1, grove-node-2"), "{wrong:?}");

    let mut follow =
        home.command(&["logs", "grove", "grove-node-1", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("up")));
    let log = home.state().join("forests/grove/grove-node-1/agent.log");
    let mut log = std::fs::File::options().append(true).open(log).unwrap();
    std::io::Write::write_all(&mut log, b"something new\n").unwrap();
    assert!(lines.any(|line| line.ends_with("something new")));
    cut(follow);
}
