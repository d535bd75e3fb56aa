//! What is refused at the command line: the exit code, one message, and no side effect.

use std::fs;

use forest_tests::bounded;
use forest_tests::node::node;
use forest_tests::wait::until;

#[test]
fn a_bad_config_is_refused_by_every_command_and_nothing_is_made() {
    for command in ["run", "register", "check", "status", "install"] {
        let grove =
            node("grove-node-1", "/bin/true".as_ref()).config("password: hunter2\nnonsense: 1").prepare();
        let output = grove.run(&[command]);
        assert_eq!(output.status.code(), Some(78), "{command}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr.trim_end().lines().count(), 1, "{command}: one message: {stderr}");
        assert!(stderr.contains("agent.yaml:") && !stderr.contains("hunter2"), "{command}: {stderr}");
        assert!(output.stdout.is_empty());
        assert_eq!(fs::read_dir(grove.dir.path()).unwrap().count(), 1, "{command} made something");
    }
}

#[test]
fn a_config_that_is_not_there_is_named() {
    let grove = node("grove-node-1", "/bin/true".as_ref()).prepare();
    fs::remove_file(grove.path("agent.yaml")).unwrap();
    let output = grove.run(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(78));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answer["error"]["message"].as_str().unwrap().contains("agent.yaml"), "{answer}");
}

#[test]
fn usage_errors_exit_with_2() {
    let grove = node("grove-node-1", "/bin/true".as_ref()).prepare();
    for args in [&["regster"][..], &["register", "--dryrun"], &[]] {
        let mut command = std::process::Command::new(forest_tests::node::agent_binary());
        let output = bounded::output(command.args(args));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    drop(grove);
}

#[test]
fn status_without_an_agent_says_how_to_start_one() {
    let grove = node("grove-node-1", "/bin/true".as_ref()).prepare();
    let output = grove.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(&grove.ip.to_string()) && stderr.contains("forest-agent run"), "{stderr}");
}

#[test]
fn status_of_another_agent_names_it() {
    let other = node("grove-node-2", &forest_tests::nats::server()).start();
    until("the other answers", || other.get("/livez"));
    let grove = node("grove-node-1", "/bin/true".as_ref()).prepare();
    let config = fs::read_to_string(grove.path("agent.yaml")).unwrap();
    let health = |ip| format!("health: \"{ip}:8223\"");
    fs::write(grove.path("agent.yaml"), config.replace(&health(grove.ip), &health(other.ip))).unwrap();
    let output = grove.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("grove-node-2") && output.stdout.is_empty(), "{stderr}");
}

#[test]
fn check_finds_what_a_run_would_stumble_over() {
    let grove = node("grove-node-1", "/bin/true".as_ref()).prepare();
    fs::write(grove.path("run"), "").unwrap();
    fs::write(grove.path("jetstream"), "").unwrap();
    let held = std::net::TcpListener::bind((grove.ip, 6222)).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&grove.run(&["check", "--json"]).stdout).unwrap();
    let steps = answer["steps"].as_array().unwrap();
    for (name, reason) in
        [("state_dir", "state_dir"), ("data_dir", "data_dir"), ("engine", "engine_port_taken")]
    {
        let step = steps.iter().find(|step| step["name"] == name).unwrap();
        assert_eq!((&step["status"], &step["reason"]), (&"would_fail".into(), &reason.into()), "{step:#}");
    }
    drop(held);
}

#[test]
fn install_without_systemd_is_a_clear_refusal() {
    if std::path::Path::new("/run/systemd/system").is_dir() {
        // Never touch the machine that the tests run on.
        return;
    }
    let grove = node("grove-node-1", "/bin/true".as_ref()).prepare();
    let output = grove.run(&["install"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("systemd"));
}

#[test]
fn check_looks_at_every_step_and_touches_nothing() {
    let grove = node("grove-node-1", "/nonexistent/nats-server".as_ref()).prepare();
    let output = grove.run(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["status"], "would_fail", "{answer:#}");
    let steps = answer["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "config",
            "state_dir",
            "address",
            "share",
            "node_info",
            "data_dir",
            "binaries",
            "secrets",
            "registry",
            "firewall",
            "engine"
        ]
    );
    let of = |name: &str| steps.iter().find(|step| step["name"] == name).unwrap();
    assert_eq!(of("binaries")["status"], "would_fail");
    assert_eq!(of("binaries")["reason"], "engine_missing");
    assert_eq!(of("registry")["status"], "would_change");
    assert_eq!(fs::read_dir(grove.dir.path()).unwrap().count(), 1, "check made something");
}
