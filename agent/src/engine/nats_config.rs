//! The text of nats-server's configuration. Pure: values in, text out.
//!
//! Every string is quoted so that no value can end its string, whatever a path is made of: printable ASCII stands
//! for itself, every other byte, quotes and backslashes among them, as an escape that both quotes and reads back
//! as that byte. nats-server expands `$` only outside of quotes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use forest_core::id::NodeId;

use crate::engine::limits::Limits;

/// What the configuration is made of.
#[derive(Debug, Clone, Copy)]
pub struct NatsConfig<'a> {
    /// The node: server_name, and the tag by which streams are placed.
    pub node: &'a NodeId,
    /// Where clients connect.
    pub client: SocketAddr,
    /// Where monitoring answers.
    pub monitor: SocketAddr,
    /// JetStream's directory; nats-server makes `jetstream` in it.
    pub store_dir: &'a Path,
    /// JetStream's limits.
    pub limits: Limits,
}

impl NatsConfig<'_> {
    /// The configuration's text; the same for the same values.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text::default();
        text.comment("written by forest-agent; changes are overwritten");
        text.value("server_name", &quote(self.node.as_str().as_bytes()));
        text.value("listen", &quote(self.client.to_string().as_bytes()));
        text.value("http", &quote(self.monitor.to_string().as_bytes()));
        let tag = format!("node:{}", self.node);
        text.value("server_tags", &format!("[{}]", quote(tag.as_bytes())));
        text.value("lame_duck_duration", "\"30s\"");
        text.value("lame_duck_grace_period", "\"3s\"");
        text.block("jetstream", |block| {
            block.value("store_dir", &quote(self.store_dir.as_os_str().as_bytes()));
            block.value("max_memory_store", &self.limits.max_memory.to_string());
            block.value("max_file_store", &self.limits.max_file.to_string());
        });
        text.text
    }
}

/// A text that grows by lines, indented by blocks.
#[derive(Default)]
struct Text {
    text: String,
    depth: usize,
}

impl Text {
    fn line(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{:indent$}{line}", "", indent = self.depth * 2);
    }

    fn comment(&mut self, comment: &str) {
        self.line(&format!("# {comment}"));
    }

    fn value(&mut self, key: &str, value: &str) {
        self.line(&format!("{key}: {value}"));
    }

    fn block(&mut self, key: &str, content: impl FnOnce(&mut Self)) {
        self.line(&format!("{key} {{"));
        self.depth += 1;
        content(self);
        self.depth -= 1;
        self.line("}");
    }
}

/// `bytes` as a quoted string of nats-server's configuration.
fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => {
                let _ = write!(quoted, "\\x{byte:02x}");
            }
            plain => quoted.push(char::from(*plain)),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use proptest::prelude::*;

    use super::*;

    fn render(store_dir: &Path) -> String {
        NatsConfig {
            node: &"grove-node-1".parse().unwrap(),
            client: "127.0.0.1:4222".parse().unwrap(),
            monitor: "[::]:8222".parse().unwrap(),
            store_dir,
            limits: Limits { max_memory: 1 << 28, max_file: 1 << 33 },
        }
        .render()
    }

    #[test]
    fn the_whole_text() {
        insta::assert_snapshot!(render(Path::new("/var/lib/nimsforest/jetstream")), @r#"
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
        }
        "#);
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
            let text = render(Path::new(OsStr::from_bytes(&bytes)));
            prop_assert_eq!(text.lines().count(), render(Path::new("/x")).lines().count());
        }
    }
}
