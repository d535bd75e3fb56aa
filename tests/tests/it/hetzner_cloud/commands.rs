//! What does not change a forest: a dry run, list, status, connect, logs, check.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;

use forest_tests::cloud::laptop::said;
use forest_tests::cloud::{Behind, Laptop};
use forest_tests::nats;
use forest_tests::process::{runs, signal};
use forest_tests::terminal::Terminal;
use forest_tests::wait::until;
use rustix::process::Signal;
use serde_json::json;

use super::{behind, fits, nothing_costs, well};

/// An ssh that says how it was called, and then what a journal would.
const SSH: &str = r#"#!/bin/sh
printf '%s\n' "$*" >>"$HOME/ssh.log"
for word; do case "$word" in UserKnownHostsFile=*) eval "file=${word#*=}"; echo "a host key" >>"$file" ;; esac; done
case "$*" in
*journalctl*) printf '%s\n' '{"__REALTIME_TIMESTAMP":"1795377600000000","MESSAGE":"step share: mounted"}' ;;
*) echo "Permission denied (publickey)." >&2; exit 255 ;;
esac
"#;

fn with_ssh(laptop: &Laptop) -> impl Fn(&[&str]) -> forest_tests::cloud::Said {
    let dir = laptop.path("bin");
    fs::create_dir(&dir).unwrap();
    forest_tests::programs::script(&dir.join("ssh"), SSH);
    move |args| said(laptop.command(args).env("PATH", format!("{}:/usr/bin:/bin", dir.display())))
}

#[test]
fn a_dry_run_shows_machines_prices_and_what_they_are_told_and_does_nothing() {
    let (cloud, laptop) = well();
    let dry = |more: &[&str]| {
        let args = [&["medium", "--name", "grove", "--dry-run"], more].concat();
        said(&mut laptop.plant(&nats::server(), &args)).exits(0)
    };
    let json = dry(&["--json"]).json();
    fits("action", &json);
    let plan = &json["plan"];
    assert_eq!(plan["servers"].as_array().unwrap().len(), 3);
    assert_eq!(plan["total"]["monthly"]["net"], "10.4700", "three times 3.49");
    assert_eq!(plan["alternatives"][0]["server_type"], "cpx22");
    let told = plan["servers"][1]["user_data"].as_str().unwrap();
    assert!(told.starts_with("#cloud-config\n") && told.contains("node_id: grove-node-2"), "{told}");
    let text = dry(&[]).out;
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"(agent|server)-x86_64-[0-9a-f]{16}", "$1-x86_64-SHA");
    settings.add_filter(r"\b[0-9a-f]{64}\b", "SHA256");
    settings.add_filter(r" from /[^ \n]*", " from PROGRAM");
    settings.bind(|| insta::assert_snapshot!("dry_run", text));
    nothing_costs(&cloud);
    assert!(!cloud.share().exists());
    assert!(cloud.api.world().log.iter().all(|seen| seen.method == "GET"));
    // What the machine would be told is what the dry run shows, but for the secret.
    said(&mut laptop.plant(&nats::server(), &["medium", "--name", "grove"])).exits(0);
    let world = cloud.api.world();
    let made = world.log.iter().find(|seen| seen.method == "POST" && seen.body["name"] == "grove-node-2");
    let made = made.unwrap().body["user_data"].as_str().unwrap();
    assert_eq!(made.replace(forest_tests::apache::PASSWORD, "********"), told);
    assert_eq!(made.matches(forest_tests::apache::PASSWORD).count(), 2, "for the share, and for curl");
}

#[test]
fn forests_are_listed_asked_and_reached() {
    let (cloud, laptop) = well();
    said(&mut laptop.plant(&nats::server(), &["--nodes", "2", "--name", "grove"])).exits(0);
    cloud.register("grove");
    let list = laptop.run(&["list", "--json"]).exits(0).json();
    fits("list", &list);
    let grove = &list["forests"][0];
    assert_eq!(
        (&grove["provider"], &grove["location"], &grove["nodes"]),
        (&json!("hetzner"), &json!("fsn1"), &json!(2))
    );
    let status = laptop.run(&["status", "grove"]).exits(0);
    assert!(status.out.contains("morpheus connect grove"), "{status:?}");
    let ssh = with_ssh(&laptop);
    let connect = ssh(&["connect", "grove", "--json"]).exits(0).json();
    fits("connect", &connect);
    let command: Vec<&str> =
        connect["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert!(
        command.contains(&"127.0.0.1:4222:127.0.0.1:4222") && command.contains(&"BatchMode=yes"),
        "{command:?}"
    );
    assert!(!laptop.path("ssh.log").exists(), "--json tells, and opens nothing");
    let refused = ssh(&["connect", "grove", "grove-node-2"]).exits(1);
    assert!(
        refused.err.contains("Permission denied") && refused.err.contains("morpheus check ssh"),
        "{refused:?}"
    );
    assert!(ssh(&["connect", "grove", "grove-node-7"]).exits(3).err.contains("known: grove-node-1"));

    let logs = ssh(&["logs", "grove", "grove-node-1", "--since", "10m"]).exits(0);
    assert_eq!(logs.out, "grove-node-1 agent | step share: mounted\n");
    let lines = ssh(&["logs", "grove", "--json"]).exits(0).out;
    assert_eq!(lines.lines().count(), 2);
    fits("logs", &serde_json::from_str(lines.lines().next().unwrap()).unwrap());
    let called = fs::read_to_string(laptop.path("ssh.log")).unwrap();
    assert!(called.contains("known_hosts/grove-") && called.contains("--since=@"), "{called}");

    let host_keys = || fs::read_dir(laptop.path(".local/state/morpheus/known_hosts")).unwrap().count();
    assert_eq!(host_keys(), 1, "of this planting");
    laptop.run(&["teardown", "grove"]).exits(2);
    laptop.run(&["teardown", "grove", "--yes"]).exits(0);
    laptop.run(&["status", "grove"]).exits(3);
    assert_eq!(host_keys(), 0, "their addresses are given to others");
}

#[test]
fn the_set_up_is_checked_part_by_part() {
    let (cloud, laptop) = well();
    let ssh = with_ssh(&laptop);
    let check = |code: i32| {
        let json = ssh(&["check", "--json"]).exits(code).json();
        fits("setup-check", &json);
        json
    };
    let item = |json: &serde_json::Value, part: &str, name: &str| {
        let all = json["checks"].as_array().unwrap();
        all.iter().find(|item| item["part"] == part && item["name"] == name).unwrap().clone()
    };
    fs::set_permissions(laptop.path("config.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
    let fresh = check(0);
    assert_eq!(item(&fresh, "storage", "directory")["status"], "warn", "plant makes it");
    assert_eq!(item(&fresh, "network", "hetzner")["status"], "pass");
    assert!(!cloud.share().exists());
    said(&mut laptop.plant(&nats::server(), &["small", "--name", "grove"])).exits(0);
    let planted = check(0);
    assert_eq!(planted["status"], "pass", "{planted:#}");
    assert!(item(&planted, "storage", "writing")["detail"].as_str().unwrap().contains("If-Match"));
    let names =
        fs::read_dir(cloud.share()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.starts_with(".check")), "nothing is left of the check");
    laptop.reconfigure("${CANARY}", "wrong");
    let wrong = check(1);
    assert_eq!(item(&wrong, "storage", "directory")["reason"], "registry_wrong_password");
    nothing_of_the_secret(&wrong.to_string());
}

fn nothing_of_the_secret(text: &str) {
    assert!(!text.contains(forest_tests::hetzner::TOKEN), "{text}");
}

#[test]
fn a_port_of_the_laptop_leads_to_a_node_for_as_long_as_connect_runs() {
    let (cloud, laptop) = behind(Behind::Machine);
    said(&mut laptop.plant(&nats::server(), &["--nodes", "1", "--name", "grove"])).exits(0);
    cloud.open_to(&laptop);
    let port = 4333;
    // Ended by whoever started it, then by its ssh.
    for by_hand in [true, false] {
        let connect = Terminal::start(&mut laptop.command(&["connect", "grove", "--port", "4333"]));
        let tunnel = cloud.tunnel(&laptop);
        assert_eq!(tunnel.port, port);
        connect.shows("grove-node-1 is at nats://127.0.0.1:4333 for as long as this runs");
        let mut greeting = String::new();
        let client = cloud.laptops_own(port).unwrap();
        BufReader::new(client).read_line(&mut greeting).unwrap();
        assert!(greeting.starts_with("INFO {") && greeting.contains("grove-node-1"), "{greeting}");
        let (pid, how) = if by_hand { (connect.id(), Signal::INT) } else { (tunnel.ssh, Signal::KILL) };
        signal(pid, how);
        let (status, screen) = connect.ended();
        assert_eq!(status.code(), Some(i32::from(!by_hand)), "{screen}");
        assert_eq!(screen.contains("it ended"), !by_hand, "{screen}");
        until("its ssh is gone", || (!runs(tunnel.ssh)).then_some(()));
        until("nobody listens any more", || cloud.laptops_own(port).is_err().then_some(()));
    }
    // Somebody else has the port.
    let _taken = cloud.laptop_listens(port);
    let refused = laptop.run(&["connect", "grove", "--port", "4333"]).exits(1);
    assert!(refused.err.contains("port 4333 of this machine is taken"), "{refused:?}");
}
