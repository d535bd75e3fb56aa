//! morpheus as a program, at the registry of a server.

use std::process::Command;

use forest_core::registry::{Door as _, SystemClock, UpdateOptions};
use forest_core::registry::{FsDoor, Limits, Owner, Registry, edit_forest, update};
use forest_tests::apache::{Apache, PASSWORD, Setup, USER};
use forest_tests::bounded;
use forest_tests::nats;
use forest_tests::node::{built, node};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A laptop whose configuration names the registry at `path` of `apache`.
struct Laptop {
    home: TempDir,
    certificate: Option<std::path::PathBuf>,
}

impl Laptop {
    fn new(apache: &Apache, path: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = format!(
            "registry:\n  type: storagebox\n  url: {}\n  username: {USER}\n  password: \"${{CANARY}}\"\n",
            apache.url(path)
        );
        std::fs::write(home.path().join("config.yaml"), config).unwrap();
        Self { home, certificate: None }
    }

    fn says(&self, password: &str, args: &[&str]) -> (Option<i32>, Value) {
        let mut command = Command::new(built("morpheus"));
        command.args(args).arg("--json").env_clear().current_dir(self.home.path());
        command.env("HOME", self.home.path()).env("CANARY", password);
        command.envs(self.certificate.as_ref().map(|file| ("SSL_CERT_FILE", file)));
        let output = bounded::output(&mut command);
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "{out}{err}");
        let json = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        (output.status.code(), json)
    }

    /// The reason of a refusal.
    fn refused(&self, password: &str) -> String {
        let (code, json) = self.says(password, &["list"]);
        assert_eq!(code, Some(1), "{json}");
        json["error"]["reason"].as_str().expect("a reason").to_owned()
    }
}

/// What a node of earlier tools, or a plant, has written.
fn record(apache: &Apache) {
    let door = FsDoor::open(&apache.root(), None).unwrap();
    let options = UpdateOptions { create_missing: true, ..UpdateOptions::default() };
    update(
        &door,
        &SystemClock,
        &Owner::current("test"),
        &Limits::default(),
        &options,
        |registry: &Registry| {
            let edit = |record: &mut serde_json::Map<String, Value>| {
                record.insert("provider".to_owned(), "hetzner".into());
                record.insert("size".to_owned(), "small".into());
            };
            Ok::<_, std::convert::Infallible>(edit_forest(
                registry,
                &"grove".parse().unwrap(),
                Timestamp::now(),
                edit,
            ))
        },
    )
    .unwrap();
    assert_eq!(door.list("").unwrap().len(), 2);
}

#[test]
fn forests_are_listed_over_tls_and_refusals_have_reasons() {
    let apache = Apache::start(Setup { tls: true, ..Setup::default() });
    let mut laptop = Laptop::new(&apache, "registry.json");
    assert_eq!(laptop.refused(PASSWORD), "registry_unreachable", "an unknown certificate");
    laptop.certificate = Some(apache.certificate());
    assert_eq!(laptop.refused("wrong"), "registry_wrong_password");
    assert_eq!(laptop.says(PASSWORD, &["list"]), (Some(0), json!({"forests": []})));
    record(&apache);
    let listed = json!({"forests": [{
        "forest_id": "grove", "provider": "hetzner", "location": null, "size": "small", "status": null,
        "created_at": null, "nodes": 0,
    }]});
    let (code, found) = laptop.says(PASSWORD, &["list"]);
    assert_eq!((code, found.to_string()), (Some(0), listed.to_string()));
    let mut lost = Laptop::new(&apache, "no/such/directory/registry.json");
    lost.certificate = Some(apache.certificate());
    assert_eq!(lost.refused(PASSWORD), "registry_unreadable");
}

/// A node registers at the file system's door; the laptop finds it at the other.
#[test]
fn a_node_that_registered_itself_is_found_and_asked() {
    let apache = Apache::start(Setup::default());
    record(&apache);
    let mut grove =
        node("grove-node-1", &nats::server()).registry(apache.root().join("registry.json")).start();
    grove.until_pass();
    let laptop = Laptop::new(&apache, "registry.json");
    let (code, status) = laptop.says(PASSWORD, &["status", "grove"]);
    assert_eq!((code, &status["status"], &status["provider"]), (Some(0), &json!("pass"), &json!("hetzner")));
    assert_eq!(status["nodes"][0]["node_id"], "grove-node-1");
    grove.stop();
    let (code, status) = laptop.says(PASSWORD, &["status", "grove"]);
    assert_eq!((code, &status["nodes"][0]["reachable"]), (Some(4), &json!(false)));
    let (code, unknown) = laptop.says(PASSWORD, &["status", "grov"]);
    assert_eq!((code, &unknown["error"]["reason"]), (Some(3), &json!("forest_unknown")));
}
