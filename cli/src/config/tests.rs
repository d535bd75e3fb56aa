use std::path::Path;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("config.yaml"), &Environment::from([("BIN", "/opt/nats-server")]))
}

fn refusal(text: &str) -> String {
    let message = parse(text).expect_err(text).to_string();
    assert!(!message.contains('\n') && !message.contains("hunter2"), "{message}");
    message
}

#[test]
fn the_template_is_valid() {
    let config = parse(TEMPLATE).unwrap();
    assert_eq!(config.provider, Some(Provider::Local));
}

#[test]
fn what_is_used_is_expanded_and_what_is_not_may_be_unset() {
    let text =
        "engine: { kind: nats-server, binary: \"${BIN}\" }\nsecrets: { hetzner_api_token: \"${NONE}\" }";
    let engine = parse(text).unwrap().engine;
    assert_eq!(engine.kind, Some(EngineKind::NatsServer));
    assert_eq!(engine.binary, Some("/opt/nats-server".into()));
}

#[test]
fn refusals_name_key_line_and_column_and_no_secret() {
    let password = "registry:\n  password: hunter2\n";
    for (lines, part) in [
        ("machin: {}", ":3:1: machin: unknown key; did you mean `machine`?"),
        (
            "machine: { provider: aws }",
            ":3:22: machine.provider: `aws` is not known here; write hetzner or local",
        ),
        ("engine: { binary: nats }", "engine.binary: is not an absolute path"),
        ("engine: { binary: \"${NOPE}\" }", "the variable NOPE is not set"),
        ("engine: { download_url: \"https://x/y\" }", "engine.sha256: missing"),
        (
            "engine: { download_url: \"https://u:hunter2@x/y\", sha256: \"00\" }",
            "holds a user name or a password",
        ),
        ("engine: { download_url: \"https://x/y\", sha256: \"00\" }", "engine.sha256: is not 64 digits"),
        ("machine: { ipv4: { enabled: perhaps } }", "neither true nor false"),
        ("machine: [", "not YAML"),
    ] {
        let message = refusal(&format!("{password}{lines}\n"));
        assert!(message.contains(part), "{lines}: {message}");
    }
}

#[test]
fn the_registry_is_read_when_it_is_needed() {
    let at = |lines: &str| {
        registry::parse(&format!("registry:\n{lines}"), &Environment::from([("PW", "hunter2")]))
    };
    let share = "  type: storagebox\n  url: https://u1.example.org/morpheus/registry.json\n  username: u1\n";
    let found = at(&format!("{share}  password: ${{PW}}\n")).unwrap().unwrap();
    assert!(matches!(&found, RegistryAt::Storagebox(place, login)
        if place.file() == "registry.json" && login.username == "u1"));
    assert!(!format!("{found:?}").contains("hunter2"));
    assert!(at("  type: local\n").unwrap().is_none());
    assert!(matches!(at("  type: local\n  path: /mnt/forest/registry.json\n").unwrap(),
        Some(RegistryAt::Directory(path)) if path == Path::new("/mnt/forest/registry.json")));
    for (lines, part) in [
        (share.to_owned(), "password"),
        (share.replace("https://", "https://u1:hunter2@") + "  password: x\n", "user name or a password"),
        (share.replace("https", "http") + "  password: x\n", "without TLS"),
        ("  type: local\n  path: registry.json\n".to_owned(), "absolute path"),
        (format!("{share}  password: ${{NONE}}\n"), "NONE is not set"),
    ] {
        let problem = format!("{:?}", at(&lines).unwrap_err());
        assert!(problem.contains(part) && !problem.contains("hunter2"), "{problem}");
        // Commands that do not need it are not held up by what only its use can show.
        assert!(parse(&format!("registry:\n{lines}")).is_ok());
    }
}

#[test]
fn values_are_shown_and_secrets_are_masked() {
    let text = "registry: { username: u1, password: hunter2 }\nsecrets:\n  hetzner_api_token: \"${TOKEN}\"\n\
                machine: { hetzner: { server_type_fallback: [a, b] } }\n";
    let root = raw::read(text).unwrap();
    let shown: Vec<_> = values(&root).into_iter().map(|shown| (shown.name, shown.text)).collect();
    let expected = [
        ("machine.hetzner.server_type_fallback", "[a, b]"),
        ("registry.username", "u1"),
        ("registry.password", "********"),
        ("secrets.hetzner_api_token", "******** (from ${TOKEN})"),
    ];
    assert_eq!(shown, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
}

#[test]
fn a_value_is_set_and_the_rest_stands() {
    let text =
        "# mine\nmachine:\n  provider: hetzner # for now\n  hetzner: { image: debian-12, location: fsn1 }\n";
    let set = |name, value| edit::set(text, name, value).unwrap();
    assert_eq!(set("machine.provider", "local"), text.replace("provider: hetzner", "provider: \"local\""));
    assert_eq!(set("machine.hetzner.image", "debian-13"), text.replace("debian-12", "\"debian-13\""));
    let added = set("machine.ssh.key_name", "me");
    assert_eq!(added, text.replace("machine:\n", "machine:\n  ssh:\n    key_name: \"me\"\n"));
    assert_eq!(set("engine.kind", "nimsforest"), format!("{text}engine:\n  kind: \"nimsforest\"\n"));
    assert_eq!(edit::set("", "engine.kind", "x").unwrap(), "engine:\n  kind: \"x\"\n");
}

#[test]
fn a_file_that_cannot_be_edited_is_refused() {
    assert_eq!(edit::set("machine: { provider: local }\n", "machine.ssh.key_name", "x"), None);
    assert_eq!(edit::set("machine: [\n", "machine.provider", "x"), None);
}

proptest! {
    #[test]
    fn whatever_is_set_is_read_back(value in "[^\\x00-\\x1f\\x7f-\\x9f]{1,30}", name in 0usize..18) {
        let name = VOCABULARY.names().nth(name % VOCABULARY.names().count()).unwrap();
        if let Some(text) = edit::set(TEMPLATE, &name, &value) {
            let root = raw::read(&text).unwrap();
            if !is_secret(&name) {
                prop_assert_eq!(super::value(&root, &name).unwrap().text, value);
            }
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
        let _ = edit::set(&text, "machine.provider", "local");
    }
}

#[test]
fn both_doors_of_a_storage_box_open_the_same_directory() {
    let source = |registry: &str| {
        let text = format!("registry: {{ type: storagebox, password: x, {registry} }}");
        let both = registry::both_doors(&text, &Environment::default()).unwrap().unwrap();
        both.2.source
    };
    assert_eq!(
        source("url: \"https://u1.example.org/morpheus/registry.json\", username: u1"),
        "//u1.example.org/backup/morpheus"
    );
    assert_eq!(
        source("url: \"https://x/a%20b/c/r.json\", username: u1-sub2, storagebox_host: u1-sub2.example.org"),
        "//u1-sub2.example.org/u1-sub2/a b/c"
    );
    assert_eq!(source("url: \"https://x/registry.json\", username: u1"), "//x/backup");
}
