//! What is said about command lines that lead nowhere.

use crate::kit::Home;
use crate::schema::check;

#[test]
fn without_a_word_and_a_configuration_both_ways_are_shown() {
    let home = Home::new();
    let said = home.run(&["plant"]).exits(2);
    assert!(
        said.err.contains("morpheus plant local") && said.err.contains("morpheus plant cloud"),
        "{said:?}"
    );
    let json = home.run(&["plant", "--json"]).exits(2).json();
    check("error", &json);
}

#[test]
fn a_forest_in_the_cloud_needs_what_is_told() {
    let home = Home::new();
    let reason = |code: i32| {
        let said = home.run(&["plant", "cloud", "--json"]).exits(code).json();
        check("error", &said);
        let error = &said["error"];
        (error["reason"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    };
    let (none, message) = reason(78);
    assert!(none == "config_unreadable" && message.contains("morpheus init"), "{message}");
    let config = home.path().join("config.yaml");
    std::fs::write(&config, "machine: { provider: hetzner }\n").unwrap();
    let (none, message) = reason(78);
    assert!(none == "config_invalid" && message.contains("registry.type"), "{message}");
    let storage =
        "{ type: storagebox, url: \"https://127.0.0.1:9/registry.json\", username: u, password: p }";
    std::fs::write(&config, format!("machine: {{ provider: hetzner }}\nregistry: {storage}\n")).unwrap();
    let (none, message) = reason(1);
    assert!(none == "hetzner_no_token" && message.contains("HCLOUD_TOKEN"), "{message}");
    let said = home.run(&["plant"]).exits(1);
    assert!(said.err.contains("no API token"), "{said:?}");
}

#[test]
fn what_is_wrong_with_the_set_up_is_told_with_the_fix() {
    let home = Home::new();
    let said = home.run(&["check", "--json"]).exits(1).json();
    check("setup-check", &said);
    assert_eq!(said["status"], "fail");
    home.run(&["init"]).exits(0);
    let config = home.run(&["check", "config", "--json"]).exits(1).json();
    check("setup-check", &config);
    let item = |name: &str| {
        let all = config["checks"].as_array().unwrap();
        all.iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    assert_eq!(
        (&item("file")["status"], &item("registry")["reason"]),
        (&"pass".into(), &"config_invalid".into())
    );
    let ssh = home.run(&["check", "ssh"]).exits(1);
    assert!(ssh.out.contains("ssh-keygen -t ed25519"), "{ssh:?}");
    assert!(home.run(&["check", "weather"]).exits(2).err.contains("possible values"));
}

#[test]
fn what_is_unknown_is_named_with_what_is_near() {
    let home = Home::new();
    home.planted(&["--name", "grove"]).exits(0);
    for command in ["status", "grow", "logs", "teardown"] {
        let said = home.run(&[command, "grvoe"]).exits(3);
        assert!(said.err.contains("no forest `grvoe` (did you mean `grove`?); known: grove"), "{said:?}");
    }
    let json = home.run(&["status", "pine", "--json"]).exits(3).json();
    check("error", &json);
    assert_eq!(json["error"]["reason"], "forest_unknown");
    assert!(home.run(&["statsu", "grove"]).exits(2).err.contains("similar"));
}

#[test]
fn mistakes_are_json_where_that_was_asked_for() {
    let home = Home::new();
    for wrong in
        [&["plnt", "--json"][..], &["plant", "local", "--name", "Grove", "--json"], &["grow", "--json"]]
    {
        let json = home.run(wrong).exits(2).json();
        check("error", &json);
        assert_eq!(json["error"]["reason"], "usage");
    }
}

#[test]
fn programs_that_are_missing_are_named_with_a_way_to_get_them() {
    let home = Home::new();
    let said = home.run(&["plant", "local", "--agent-binary", "/bin/true"]);
    // A machine of a developer may have a nats-server in /usr/bin.
    assert!(said.err.contains("apt-get install nats-server") || said.code == Some(4), "{said:?}");
    let said = home.run(&["plant", "local", "--agent-binary", "nothing-here"]).exits(1);
    assert!(said.err.contains("nothing-here does not exist"), "{said:?}");
    assert_eq!(home.registry()["forests"].get("grove"), None);
}

#[test]
fn a_network_that_somebody_listens_in_is_passed_over() {
    let home = Home::new();
    let ip = || {
        let planned = home.planted(&["--name", "grove", "--dry-run", "--json"]).exits(0).json();
        planned["nodes"][0]["ip"].as_str().expect("an address").to_owned()
    };
    let first = ip();
    let _listener = std::net::TcpListener::bind(format!("{first}:8223")).unwrap();
    assert_ne!(ip(), first);
    assert!(!home.state().join("forests").exists());
}

#[test]
fn completions_are_a_script() {
    let home = Home::new();
    assert!(home.run(&["completions", "bash"]).exits(0).out.contains("_morpheus"));
    check("completions", &home.run(&["completions", "zsh", "--json"]).exits(0).json());
}
