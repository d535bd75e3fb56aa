//! `morpheus init` and `morpheus config`.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::kit::{Home, said};
use crate::schema::check;

const SECRET: &str = "hunter2";

#[test]
fn the_configuration_is_written_found_changed_and_shown() {
    let home = Home::new();
    let none = home.run(&["config", "path"]).exits(78);
    assert!(none.err.contains("morpheus init"), "{none:?}");
    let path = home.run(&["init", "--json"]).exits(0).json();
    check("config-path", &path);
    home.run(&["init"]).exits(1);
    let path = home.run(&["config", "path"]).exits(0).out;
    assert!(path.trim().ends_with(".config/morpheus/config.yaml"), "{path}");
    assert_eq!(home.run(&["config", "get", "machine.provider"]).exits(0).out, "local\n");
    let set = home.run(&["config", "set", "machine.hetzner.location", "hel1", "--json"]).exits(0).json();
    check("config-set", &set);
    let get = home.run(&["config", "get", "machine.hetzner.location", "--json"]).exits(0).json();
    check("config-get", &get);
    assert_eq!(get["value"], "hel1");
    home.run(&["config", "set", "machine.provider", "mars"]).exits(78);
    check("config-list", &home.run(&["config", "list", "--json"]).exits(0).json());
    let unknown = home.run(&["config", "get", "machine.providr"]).exits(2);
    assert!(unknown.err.contains("did you mean `machine.provider`?"), "{unknown:?}");
}

#[test]
fn a_secret_comes_by_standard_input_and_is_never_shown() {
    let home = Home::new();
    home.run(&["init"]).exits(0);
    let refused = home.run(&["config", "set", "secrets.hetzner_api_token", SECRET]).exits(2);
    assert!(refused.err.contains("command line") && !refused.err.contains(SECRET), "{refused:?}");
    let mut set = home.command(&["config", "set", "secrets.hetzner_api_token"]);
    let mut child = set.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{SECRET}").unwrap();
    assert!(child.wait().unwrap().success());
    let file = home.path().join(".config/morpheus/config.yaml");
    assert!(std::fs::read_to_string(&file).unwrap().contains(SECRET));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    for command in [
        &["config", "list"][..],
        &["config", "list", "--json"],
        &["config", "get", "secrets.hetzner_api_token"],
    ] {
        let shown = home.run(command).exits(0);
        assert!(shown.out.contains("********") && !shown.out.contains(SECRET), "{shown:?}");
    }
    home.run(&["config", "set", "registry.password", "${PASSWORD}"]).exits(0);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place_and_nothing_else() {
    let home = Home::new();
    let text = format!("registry:\n  password: {SECRET}\n  usr: me\n");
    std::fs::write(home.path().join("config.yaml"), text).unwrap();
    let said = home.run(&["plant", "local", "--json"]).exits(78).json();
    check("error", &said);
    let message = said["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("config.yaml:3:3: registry.usr: unknown key"), "{message}");
    assert!(!message.contains(SECRET));
}

#[test]
fn the_file_is_looked_for_in_a_fixed_order() {
    let home = Home::new();
    let write = |name: &str| {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "machine: { provider: local }\n").unwrap();
        path.display().to_string()
    };
    let path = |arguments: &[&str]| {
        home.run(&[arguments, &["config", "path"]].concat()).exits(0).out.trim().to_owned()
    };
    let xdg = write(".config/morpheus/config.yaml");
    assert_eq!(path(&[]), xdg);
    let own = write(".morpheus/config.yaml");
    assert_eq!(path(&[]), own);
    write("config.yaml");
    assert_eq!(path(&[]), "config.yaml");
    let other = write("other.yaml");
    let mut command = home.command(&["config", "path"]);
    assert_eq!(said(command.env("MORPHEUS_CONFIG", &other)).exits(0).out.trim(), other);
    assert_eq!(path(&["--config", &other]), other);
}
