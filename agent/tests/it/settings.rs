//! agent.yaml: what is accepted, and what is said about the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forest_agent::settings::{AddressChoice, ConfigError, EngineKind, Settings, Sources};
use forest_core::reason::Reason;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../agent.example.yaml");
const IDS: &str = "forest_id: grove\nnode_id: grove-node-1\n";
const SHARE: &str = "share:\n  source: //host/share\n  username: u1\n";
const CANARY: &str = "hunter2";

fn parse(text: &str) -> Result<Settings, ConfigError> {
    Settings::parse(text, Path::new("agent.yaml"))
}

/// What is said about `text`.
fn refusal(text: &str) -> String {
    let err = parse(text).expect_err(text);
    assert_eq!(err.reason(), Reason::ConfigInvalid);
    let message = err.to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// What is said about `lines` after valid ids, without the file's name.
fn refusal_of(lines: &str) -> String {
    refusal(&format!("{IDS}{lines}")).replacen("agent.yaml:", "", 1)
}

#[test]
fn the_example_shows_the_defaults() {
    let example = parse(EXAMPLE).expect("the example is valid");
    let share = example.share.as_ref().expect("it has a share");
    assert_eq!(share.host, "u12345.your-storagebox.de");
    assert_eq!(share.path, "backup/morpheus");
    let short = "share: { source: //u12345.your-storagebox.de/backup/morpheus, username: u12345 }";
    assert_eq!(parse(&format!("{IDS}{short}")), Ok(example));
}

#[test]
fn ids_are_enough() {
    let settings = parse(IDS).expect("valid");
    assert_eq!(settings.share, None);
    assert_eq!(settings.address, AddressChoice::Auto);
    assert_eq!(settings.poll_interval, Duration::from_secs(5));
    assert_eq!(settings.registry, PathBuf::from("/mnt/forest/registry.json"));
    assert_eq!(settings.engine.binary, PathBuf::from("/opt/nimsforest/bin/nats-server"));
    assert_eq!(settings.witness_listen().cluster.to_string(), "[::]:6223");
}

#[test]
fn values_keep_their_spelling() {
    let settings = parse("forest_id: 007\nnode_id: 1e3\nengine:\nwitness: ~\n").expect("valid");
    assert_eq!((settings.forest.as_str(), settings.node.as_str()), ("007", "1e3"));
    let settings = parse("forest_id: no\nnode_id: \"true\"").expect("valid");
    assert_eq!((settings.forest.as_str(), settings.node.as_str()), ("no", "true"));
}

#[test]
fn every_shape_of_a_value_is_read() {
    let digits = "0123456789".repeat(7);
    let text = format!(
        "{IDS}poll_interval: 1m\naddress: 2A01:4f8::0001\n\
         share: {{ source: \"//[fd00::00ab]/backup/a b/\", mountpoint: /srv/grove, username: u1, options: [] }}\n\
         engine:\n  kind: nimsforest\n  download: {{ url: file:///srv/forest, sha256: {} }}\n\
         firewall: {{ manage: false, monitoring_from: [any, 10.0.0.0/8, fd00::/8, 203.0.113.7] }}\n",
        &digits[..64]
    );
    let settings = parse(&text).expect("valid");
    let share = settings.share.expect("given");
    assert_eq!((share.host.as_str(), share.path.as_str()), ("fd00::ab", "backup/a b"));
    assert!(share.options.is_empty());
    assert_eq!(settings.registry, PathBuf::from("/srv/grove/registry.json"));
    assert_eq!(settings.engine.kind, EngineKind::Nimsforest);
    assert_eq!(settings.engine.binary, PathBuf::from("/opt/nimsforest/bin/forest"));
    assert_eq!(settings.engine.download.expect("given").sha256[..3], [0x01, 0x23, 0x45]);
    assert_eq!(settings.firewall.monitoring_from, Sources::Any);
    assert!(!settings.firewall.manage);
}

#[test]
fn unknown_keys_are_named_with_their_place_and_a_guess() {
    insta::assert_snapshot!(refusal("forest_id: grove\nnodeid: grove-node-1\n"), @"agent.yaml:2:1: nodeid: unknown key; did you mean `node_id`?");
    insta::assert_snapshot!(refusal_of("engine:\n  binnary: /x\n"), @"4:3: engine.binnary: unknown key; did you mean `binary`?");
    insta::assert_snapshot!(refusal_of("data_dir: /x\n"), @"3:1: data_dir: unknown key; `data_dir` belongs below `engine`");
    insta::assert_snapshot!(refusal_of("listen: { gossip: \"[::]:1\" }\n"), @"3:11: listen.gossip: unknown key; known here: client, cluster, monitor, health");
    insta::assert_snapshot!(refusal_of("firewall:\n  witness: 1\n"), @"4:3: firewall.witness: unknown key; `witness` belongs at the top level");
    insta::assert_snapshot!(refusal_of("? \"hunter2 and more\"\n: 1\n"), @"3:3: a key that is not a plain word; known here: forest_id, node_id, address, registry, poll_interval, share, engine, witness, listen, firewall, state_dir, runtime_dir, node_info");
}

#[test]
fn missing_keys_are_named_with_where_they_belong() {
    insta::assert_snapshot!(refusal("node_id: grove-node-1\n"), @"agent.yaml:1:1: forest_id: missing; add a line `forest_id: grove` at the top level");
    insta::assert_snapshot!(refusal_of("share: { source: //host/share }\n"), @"3:8: share.username: missing; add `username: u12345` below `share`");
    insta::assert_snapshot!(refusal("# nothing yet\n"), @"agent.yaml:2:1: the file holds no settings; write at least forest_id and node_id");
    insta::assert_snapshot!(refusal("forest_id:\nnode_id: a\n"), @"agent.yaml:1:10: forest_id: has no value; give it one, or leave the key out");
}

#[test]
fn bad_ids_addresses_and_durations() {
    insta::assert_snapshot!(refusal("forest_id: Grove\nnode_id: a\n"), @"agent.yaml:1:12: forest_id: `Grove` is not an id: the capital letter `G` at position 1; ids are made of a-z, 0-9 and, inside, hyphens");
    insta::assert_snapshot!(refusal("forest_id: grove\nnode_id: grove_1\n"), @"agent.yaml:2:10: node_id: `grove_1` is not an id: the character '_' at position 6; ids are made of a-z, 0-9 and, inside, hyphens");
    insta::assert_snapshot!(refusal_of("address: 10.0.0.300\n"), @"3:10: address: `10.0.0.300` is not an IP address; write an address of this machine, or auto");
    insta::assert_snapshot!(refusal_of("address: 10.0.0.1/24\n"), @"3:10: address: `10.0.0.1/24` is not an IP address: leave out the prefix length behind the slash; write an address of this machine, or auto");
    insta::assert_snapshot!(refusal_of("poll_interval: 5\n"), @"3:16: poll_interval: `5` is not a duration; write a number and its unit, like 500ms, 5s or 1m");
    insta::assert_snapshot!(refusal_of("poll_interval: 11m\n"), @"3:16: poll_interval: `11m` is out of bounds; choose from 100ms to 10m");
    insta::assert_snapshot!(refusal_of("poll_interval: -5s\n"), @"3:16: poll_interval: `-5s` is not a duration; write a number and its unit, like 500ms, 5s or 1m");
}

#[test]
fn bad_ports() {
    insta::assert_snapshot!(refusal_of("listen: { client: localhost:4222 }\n"), @r#"3:19: listen.client: `localhost:4222` is not an IP address and a port; write it like "127.0.0.1:4222" or "[::]:4222""#);
    insta::assert_snapshot!(refusal_of("listen: { client: \"127.0.0.1:0\" }\n"), @"3:19: listen.client: port 0 is any port, which no peer could find; give a port from 1 to 65535");
    insta::assert_snapshot!(refusal_of("listen:\n  client: 127.0.0.1:8222\n"), @"4:11: listen.client: wants the port 8222 that listen.monitor has; give each a port of its own");
    insta::assert_snapshot!(refusal_of("listen:\n  health: 10.0.0.1:6223\n"), @"4:11: listen.health: wants the port 6223 that witness.listen.cluster has; give each a port of its own");
    assert!(parse(&format!("{IDS}listen: {{ client: \"127.0.0.2:80\", health: \"127.0.0.1:80\" }}")).is_ok());
}

#[test]
fn bad_paths() {
    insta::assert_snapshot!(refusal_of("state_dir: var/lib\n"), @"3:12: state_dir: `var/lib` is not an absolute path; begin it with a slash");
    insta::assert_snapshot!(refusal_of("registry: /mnt/forest/../registry.json\n"), @"3:11: registry: `/mnt/forest/../registry.json` goes upwards; write the path without `..`");
    insta::assert_snapshot!(refusal_of("runtime_dir: /var/lib/forest-agent\n"), @"3:14: runtime_dir: is both state_dir and runtime_dir; give each a directory of its own");
    insta::assert_snapshot!(refusal_of(&format!("registry: /srv/registry.json\n{SHARE}")), @"3:11: registry: `/srv/registry.json` is not below the share's mountpoint; put it below share.mountpoint, or take `share` out");
    insta::assert_snapshot!(refusal_of(&format!("{SHARE}engine:\n  data_dir: /mnt/forest/js\n")), @"7:13: engine.data_dir: `/mnt/forest/js` lies on the share, which all nodes write; choose a path on this machine's own disk");
}

#[test]
fn bad_shares() {
    let source = |text: &str| refusal_of(&format!("share: {{ source: '{text}', username: u1 }}"));
    insta::assert_snapshot!(source("//host"), @"3:18: share.source: names no share; write it like //host/share or //host/share/directory");
    insta::assert_snapshot!(source("https://host/share"), @"3:18: share.source: does not begin with two slashes; write it like //host/share or //host/share/directory");
    insta::assert_snapshot!(source(r"\\host\share"), @"3:18: share.source: has backslashes; write it like //host/share or //host/share/directory");
    insta::assert_snapshot!(source("//u1:hunter2@host/share"), @"3:18: share.source: holds a user name, which belongs into share.username; write it like //host/share or //host/share/directory");
    insta::assert_snapshot!(source("//host:445/share"), @"3:18: share.source: names neither a host nor an IP address; write it like //host/share or //host/share/directory");
    insta::assert_snapshot!(source("//host/share/../x"), @"3:18: share.source: has an empty part, `.` or `..` in its path; write it like //host/share or //host/share/directory");
    let options = |text: &str| refusal_of(&format!("{SHARE}  options: {text}\n"));
    insta::assert_snapshot!(options("[seal, password=hunter2]"), @"6:19: share.options: the option `password` is set by the agent itself, from share.password_file; take it out of the list");
    insta::assert_snapshot!(options("['seal,pass=hunter2']"), @"6:13: share.options: an option with a comma in it; write each option as an item of its own");
    insta::assert_snapshot!(options("[PrefixPath=/x]"), @"6:13: share.options: the option `prefixpath` is set by the agent itself, from share.source; take it out of the list");
    insta::assert_snapshot!(options("seal"), @"6:12: share.options: is a single value; it has to be a list, [a, b]");
}

#[test]
fn bad_engines_and_downloads() {
    insta::assert_snapshot!(refusal_of("engine: { kind: nats }\n"), @"3:17: engine.kind: `nats` is not a kind of engine; write nats-server or nimsforest");
    let download = |url: &str, sha256: &str| {
        refusal_of(&format!("engine: {{ download: {{ url: \"{url}\", sha256: {sha256} }} }}\n"))
    };
    let good = "a".repeat(64);
    insta::assert_snapshot!(download("ftp://host/x", &good), @"3:28: engine.download.url: the URL's scheme is not supported; use https, http or file");
    insta::assert_snapshot!(download("https://u1:hunter2@host/x", &good), @"3:28: engine.download.url: the URL holds a user name or a password, which would end up in logs; use a URL without them, or put the file on the share and write file:///path");
    insta::assert_snapshot!(download("forest", &good), @"3:28: engine.download.url: is not a URL: relative URL without a base; write https://host/path or file:///path");
    insta::assert_snapshot!(download("file://mnt/forest", &good), @"3:28: engine.download.url: the file URL names a host; write file:///path, with three slashes");
    insta::assert_snapshot!(download("https://host/x", "abc"), @"3:54: engine.download.sha256: has 3 characters, and a sha256 has 64; write what `sha256sum FILE` prints");
    insta::assert_snapshot!(download("https://host/x", &"g".repeat(64)), @"3:54: engine.download.sha256: holds a character other than 0-9 and a-f; write what `sha256sum FILE` prints");
}

#[test]
fn bad_firewalls_and_shapes() {
    insta::assert_snapshot!(refusal_of("firewall: { monitoring_from: [10.0.0.0/33] }\n"), @"3:31: firewall.monitoring_from: `10.0.0.0/33` has no prefix length of 0 to 32; write any, an address, or a network like 10.0.0.0/8");
    insta::assert_snapshot!(refusal_of("firewall: { monitoring_from: [all] }\n"), @"3:31: firewall.monitoring_from: `all` is not an IP address; write any, an address, or a network like 10.0.0.0/8");
    insta::assert_snapshot!(refusal_of("firewall: { manage: yes }\n"), @"3:21: firewall.manage: is neither true nor false; write true or false");
    insta::assert_snapshot!(refusal_of("share: //host/share\n"), @"3:8: share: is a single value; it has to be a mapping, `key: value` lines");
    insta::assert_snapshot!(refusal_of("registry: [a, b]\n"), @"3:11: registry: is a list; it has to be one value");
    insta::assert_snapshot!(refusal_of("share: { source: //host/share, username: 'u1,pass=hunter2' }\n"), @"3:42: share.username: holds a comma or a percent sign, which no mount option carries; write the user's name alone; the password belongs into share.password_file");
    let download = format!("download: {{ url: \"https://x.example/n\", sha256: \"{}\" }}", "0".repeat(64));
    insta::assert_snapshot!(refusal_of(&format!("witness:\n  {download}\n")), @"4:13: witness.download: is for the engine's own executable, which the witness runs as well; write it as engine.download, or set a witness.binary of its own");
    insta::assert_snapshot!(refusal_of(&format!("witness:\n  binary: /opt/nimsforest/bin/nats-server\n  {download}\n")), @"5:13: witness.download: is for the engine's own executable, which the witness runs as well; write it as engine.download, or set a witness.binary of its own");
    parse(&format!("forest_id: a\nnode_id: b\nengine: {{ kind: nimsforest }}\nwitness:\n  {download}\n"))
        .expect("valid");
    parse(&format!("forest_id: a\nnode_id: b\nwitness:\n  binary: /opt/w\n  {download}\n")).expect("valid");
    insta::assert_snapshot!(refusal_of("witness: { listen: { client: \"[::1]:4223\" } }\n"), @r#"3:20: witness.listen.cluster: missing; add `cluster: "[::]:6223"` below `witness.listen`"#);
    insta::assert_snapshot!(refusal("- forest_id\n"), @"agent.yaml:1:1: the file is a list; it has to be a mapping, `key: value` lines");
}

#[test]
fn broken_yaml() {
    insta::assert_snapshot!(refusal("forest_id: grove\nforest_id: meadow\n"), @"agent.yaml:2:1: forest_id: this key stands here a second time; keep one of them");
    insta::assert_snapshot!(refusal_of("engine: { kind: nats-server\n"), @"3:9: not YAML: unclosed bracket '{'; check the indentation, the quotes and the brackets here and in the line before");
    insta::assert_snapshot!(refusal_of("---\nforest_id: b\n"), @"4:1: a second YAML document begins; keep one");
    insta::assert_snapshot!(refusal("forest_id: &id grove\nnode_id: *id\n"), @"agent.yaml:1:16: anchors (&) and aliases (*) are not read here; write the value out, or put it in quotes");
    insta::assert_snapshot!(refusal("~: grove\n"), @"agent.yaml:1:1: not YAML that is understood here; write `key: value` lines, with plain words for keys");
}

#[test]
fn the_line_before_is_never_shown() {
    let after = |lines: &str| {
        let message = refusal_of(&format!("share:\n  password: {CANARY}\n{lines}"));
        assert!(!message.contains(CANARY), "{message}");
        message
    };
    insta::assert_snapshot!(after(""), @"4:3: share.password: unknown key; put the password into a file of its own, mode 0600, and name that in share.password_file");
    insta::assert_snapshot!(after("   source: //host/share\n"), @"5:10: not YAML: mapping values are not allowed in this context; check the indentation, the quotes and the brackets here and in the line before");
    insta::assert_snapshot!(after("  username: \"u1\n"), @"5:13: not YAML: unclosed quote; check the indentation, the quotes and the brackets here and in the line before");
    insta::assert_snapshot!(after("  username: u1]\n\tx: {\n"), @"5:13: not YAML: while scanning a plain scalar, found a tab; check the indentation, the quotes and the brackets here and in the line before");
    let folded = refusal(&format!("node_id: grove\n  {CANARY}\nforest_id: a\n"));
    insta::assert_snapshot!(folded, @"agent.yaml:1:10: node_id: is not plain text on one line; write it on one line, without control characters");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = |path: &Path| {
        let err = Settings::load(path).expect_err("not valid");
        assert!(err.path() == path && err.reason() == Reason::ConfigUnreadable && err.place().is_none());
        err.to_string().replace(dir.path().to_str().expect("plain"), "DIR")
    };
    insta::assert_snapshot!(said(&dir.path().join("agent.yaml")), @"DIR/agent.yaml: cannot be read: No such file or directory (os error 2); write it, or name another with --config");
    insta::assert_snapshot!(said(dir.path()), @"DIR: cannot be read: Is a directory (os error 21); name the file in it with --config");
    let large = dir.path().join("large.yaml");
    fs::write(&large, "#".repeat((1 << 20) + 1)).expect("written");
    insta::assert_snapshot!(said(&large), @"DIR/large.yaml: is larger than 1 MiB; name a settings file");
    let binary = dir.path().join("binary.yaml");
    fs::write(&binary, b"forest_id: a\nx: \xff").expect("written");
    let err = Settings::load(&binary).expect_err("not text").to_string();
    insta::assert_snapshot!(err.replace(dir.path().to_str().expect("plain"), "DIR"), @"DIR/binary.yaml:2:4: not UTF-8 text; save the file as UTF-8");
    fs::write(&binary, IDS).expect("written");
    assert!(Settings::load(&binary).is_ok());
}

/// Lines that begin as an agent.yaml may, and end as none may.
fn some_line() -> impl Strategy<Value = String> {
    let known =
        prop::sample::select(EXAMPLE.lines().chain(SHARE.lines()).map(str::to_owned).collect::<Vec<_>>());
    prop_oneof![known, "[ \\-?&*!|>'\"%@`{}\\[\\],:#a-z\t]{0,12}", "\\PC{0,20}"]
}

proptest! {
    /// The canary's line is some line of the file; an error at another place does not know it.
    #[test]
    fn no_error_shows_another_line(
        before in prop::collection::vec(some_line(), 0..8),
        key in "(  )?(password: |forest_id: |- |\\? |\"|'|&a |!!|\\| |# |)",
        after in prop::collection::vec(some_line(), 0..8),
    ) {
        let text = format!("{}\n{key}{CANARY}\n{}", before.join("\n"), after.join("\n"));
        if let Err(err) = parse(&text) {
            let at = err.place().expect("it is about the content").line;
            let own = text.lines().nth(usize::try_from(at).expect("small") - 1).unwrap_or_default();
            prop_assert!(own.contains(CANARY) || !format!("{err} {err:?}").contains(CANARY), "{err}");
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), &bytes).expect("written");
        prop_assert!(Settings::load(file.path()).is_err());
    }
}
