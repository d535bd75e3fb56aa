use std::ffi::OsStr;

use forest_core::registry::Document;
use forest_core::secrets::{Record, Secrets};
use proptest::prelude::*;

use super::*;

fn record() -> Record {
    let text = r#"{"founder":"n1","founding":"f","route":{"user":"route","password":"r0ute"},
                   "sys":{"user":"agent","password":"s-ys"}}"#;
    Secrets::parse(text.as_bytes()).unwrap().record().unwrap().clone()
}

fn render(store_dir: &Path, role: Role, routes: &[SocketAddr]) -> String {
    let record = record();
    NatsConfig {
        name: "grove-node-1",
        role,
        client: "127.0.0.1:4222".parse().unwrap(),
        store_dir,
        limits: Limits { max_memory: 1 << 28, max_file: 1 << 33 },
        cluster: Some(Cluster {
            name: "grove",
            listen: "[::]:6222".parse().unwrap(),
            advertise: "[fd00::2]:6222".parse().unwrap(),
            routes,
            route: Some(&record.route),
            dial: &[Dial { credentials: &record.route, mark: "" }],
            sys: &record.sys,
        }),
    }
    .render()
}

fn engine() -> Role {
    Role::Engine { monitor: "[::]:8222".parse().unwrap(), takes_streams: true }
}

#[test]
fn the_whole_text() {
    let routes = ["[fd00::2]:6222".parse().unwrap(), "10.0.0.3:6222".parse().unwrap()];
    insta::assert_snapshot!(render(Path::new("/var/lib/nimsforest/jetstream"), engine(), &routes), @r#"
    # written by forest-agent; changes are overwritten
    server_name: "grove-node-1"
    listen: "127.0.0.1:4222"
    http: "[::]:8222"
    server_tags: ["node:grove-node-1"]
    lame_duck_duration: "30s"
    lame_duck_grace_period: "3s"
    jetstream {
      store_dir: "/var/lib/nimsforest/jetstream"
      max_memory_store: 268435456
      max_file_store: 8589934592
      unique_tag: "node:"
    }
    accounts {
      "$SYS" {
        users: [{user: "agent", password: "s-ys"}]
      }
    }
    cluster {
      name: "grove"
      listen: "[::]:6222"
      advertise: "[fd00::2]:6222"
      authorization: {user: "route", password: "r0ute", timeout: 2}
      routes: [
        "nats://route:r0ute@[fd00::2]:6222"
        "nats://route:r0ute@10.0.0.3:6222"
      ]
    }
    "#);
}

#[test]
fn a_witness_has_no_tag_and_no_monitor() {
    let text = render(Path::new("/x"), Role::Witness, &[]);
    assert!(!text.contains("server_tags") && !text.contains("http"), "{text}");
    assert!(text.contains("unique_tag: \"node:\""));
}

fn unquote(quoted: &str) -> Vec<u8> {
    let mut rest = quoted.strip_prefix('"').unwrap().strip_suffix('"').unwrap().bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next() {
        if byte == b'\\' {
            assert_eq!(rest.next(), Some(b'x'));
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    bytes
}

proptest! {
    #[test]
    fn quoted_strings_read_back_and_cannot_end_early(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let quoted = quote(&bytes);
        prop_assert_eq!(quoted.bytes().filter(|byte| *byte == b'"').count(), 2);
        prop_assert!(quoted.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        prop_assert_eq!(unquote(&quoted), bytes);
    }

    #[test]
    fn no_path_changes_the_shape(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let text = render(Path::new(OsStr::from_bytes(&bytes)), engine(), &[]);
        prop_assert_eq!(text.lines().count(), render(Path::new("/x"), engine(), &[]).lines().count());
    }
}
