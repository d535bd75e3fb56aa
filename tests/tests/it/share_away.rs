//! A node whose share cannot be mounted: it says why, and starts no engine unless it knows its forest.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use forest_tests::nats;
use forest_tests::node::{Node, node};
use forest_tests::wait::until_value;
use serde_json::Value;

/// Gives the node a share on loopback. Where the kernel has no cifs a port that answers leads to the mount that
/// says so; where it has, nobody answers at the port.
fn give_share(grove: &Node) -> TcpListener {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = if cifs() { 1 } else { server.local_addr().unwrap().port() };
    let mountpoint = grove.path("mnt");
    let password = grove.path("password");
    fs::write(&password, "hunter2\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let config = fs::read_to_string(grove.path("agent.yaml")).unwrap();
    let share = format!(
        "share:\n  source: //127.0.0.1/backup\n  mountpoint: {}\n  username: u1\n  password_file: {}\n  options: [port={port}]\n",
        mountpoint.display(),
        password.display()
    );
    let registry = grove.path("share/registry.json").display().to_string();
    let config = config.replace(&registry, &mountpoint.join("registry.json").display().to_string());
    fs::write(grove.path("agent.yaml"), format!("{config}{share}")).unwrap();
    server
}

fn cifs() -> bool {
    fs::read_to_string("/proc/filesystems").unwrap().contains("\tcifs\n")
}

fn reason() -> &'static str {
    if cifs() { "share_unreachable" } else { "share_no_cifs" }
}

#[test]
fn it_is_said_and_no_lone_node_is_made() {
    let mut grove = node("grove-node-1", &nats::server()).prepare();
    let _server = give_share(&grove);
    grove.start();
    let check = grove.until_reason("share:mounted", reason());
    assert_eq!(check["status"], "warn");
    assert!(check["output"].as_str().unwrap().contains("//127.0.0.1/backup"), "{check:#}");
    grove.until_reason("registry:entry", reason());
    grove.until_reason("engine:process", "engine_waits_for_registry");
    // The mountpoint may have been made; nothing is ever written below it while nothing is mounted there.
    assert!(fs::read_dir(grove.path("mnt")).map_or(0, Iterator::count) == 0);
    let answer: Value = serde_json::from_slice(&grove.run(&["check", "--json"]).stdout).unwrap();
    let steps = answer["steps"].as_array().unwrap();
    let share = steps.iter().find(|step| step["name"] == "share").unwrap();
    // Whether the kernel could load cifs cannot be told beforehand on every machine; that nothing is mounted can.
    assert_ne!(share["status"], "ok", "{answer:#}");
    assert!(!grove.log().contains("hunter2") && !answer.to_string().contains("hunter2"));
    assert_eq!(grove.stop(), Some(0));
    assert_eq!(grove.processes(), []);
}

#[test]
fn a_node_that_knows_its_forest_starts_without_the_share() {
    let mut grove = node("grove-node-1", &nats::server()).start();
    grove.until_pass();
    assert_eq!(grove.stop(), Some(0));
    let _server = give_share(&grove);
    grove.start();
    grove.until_reason("share:mounted", reason());
    let health = until_value(
        "NATS and JetStream answer",
        || grove.health(),
        |health| {
            let passes = |key: &str| health["checks"][key][0]["status"] == "pass";
            passes("nats:server") && passes("nats:jetstream")
        },
    );
    assert_eq!(health["status"], "warn");
    grove.until_code("/readyz", 200);
    assert_eq!(grove.stop(), Some(0));
    assert_eq!(grove.processes(), []);
}
