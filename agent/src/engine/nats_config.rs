//! The text of nats-server's configuration. Pure: values in, text out.
//!
//! Every string is quoted so that no value can end its string, whatever a path is made of: printable ASCII stands
//! for itself, every other byte, quotes and backslashes among them, as an escape that both quotes and reads back
//! as that byte. nats-server expands `$` only outside of quotes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use forest_core::secrets::Credentials;

use crate::engine::limits::Limits;

/// What begins the tag that every real node has and no witness: streams are placed by it, one replica a tag.
const TAG: &str = "node:";

/// The tag of the node `name`: where a placement names it, streams go there.
#[must_use]
pub fn node_tag(name: &str) -> String {
    format!("{TAG}{name}")
}

/// What the configuration is made of.
#[derive(Debug, Clone, Copy)]
pub struct NatsConfig<'a> {
    /// The server's name.
    pub name: &'a str,
    /// What it is.
    pub role: Role,
    /// Where clients connect.
    pub client: SocketAddr,
    /// JetStream's directory; nats-server makes `jetstream` in it.
    pub store_dir: &'a Path,
    /// JetStream's limits.
    pub limits: Limits,
    /// The cluster; `None`: a standalone server.
    pub cluster: Option<Cluster<'a>>,
}

/// What a server is to the forest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A node's engine, tagged as a place for streams.
    Engine {
        /// Where monitoring answers.
        monitor: SocketAddr,
        /// Is it a place for streams? One that leaves has no tag any more, and gets no new ones.
        takes_streams: bool,
    },
    /// A vote in the meta group, and no place for streams.
    Witness,
    /// No JetStream at all: it carries orders.
    Companion,
}

/// By what a server dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dial<'a> {
    /// User and password.
    pub credentials: &'a Credentials,
    /// Ends the URL: another one makes it another URL.
    pub mark: &'static str,
}

/// How a server is part of its cluster.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    /// The cluster's name: the forest's.
    pub name: &'a str,
    /// Where routes come in.
    pub listen: SocketAddr,
    /// The address that others are told.
    pub advertise: SocketAddr,
    /// Where the servers of the forest take routes, this one's own address too.
    pub routes: &'a [SocketAddr],
    /// By what it takes routes; `None`: it takes anybody, as NimsForest does.
    pub route: Option<&'a Credentials>,
    /// By what it dials them, each of these in turn; none: as nobody.
    pub dial: &'a [Dial<'a>],
    /// The user of the system account.
    pub sys: &'a Credentials,
}

impl NatsConfig<'_> {
    /// The configuration's text; the same for the same values. It holds passwords.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text::default();
        text.comment("written by forest-agent; changes are overwritten");
        text.value("server_name", &quote(self.name.as_bytes()));
        text.value("listen", &quote(self.client.to_string().as_bytes()));
        if let Role::Engine { monitor, takes_streams } = self.role {
            text.value("http", &quote(monitor.to_string().as_bytes()));
            let tag = if takes_streams { quote(node_tag(self.name).as_bytes()) } else { String::new() };
            text.value("server_tags", &format!("[{tag}]"));
            text.value("lame_duck_duration", "\"30s\"");
            text.value("lame_duck_grace_period", "\"3s\"");
        }
        if self.role != Role::Companion {
            text.block("jetstream", |block| {
                block.value("store_dir", &quote(self.store_dir.as_os_str().as_bytes()));
                block.value("max_memory_store", &self.limits.max_memory.to_string());
                block.value("max_file_store", &self.limits.max_file.to_string());
                if self.cluster.is_some() {
                    block.value("unique_tag", &quote(TAG.as_bytes()));
                }
            });
        }
        if let Some(cluster) = &self.cluster {
            text.block("accounts", |block| {
                block
                    .block("\"$SYS\"", |block| block.value("users", &format!("[{{{}}}]", user(cluster.sys))));
            });
            text.block("cluster", |block| cluster.render(block));
        }
        text.text
    }
}

impl Cluster<'_> {
    fn render(&self, block: &mut Text) {
        block.value("name", &quote(self.name.as_bytes()));
        block.value("listen", &quote(self.listen.to_string().as_bytes()));
        block.value("advertise", &quote(self.advertise.to_string().as_bytes()));
        if let Some(route) = self.route {
            block.value("authorization", &format!("{{{}, timeout: 2}}", user(route)));
        }
        block.list(
            "routes",
            self.routes.iter().flat_map(|at| self.urls(*at)).map(|url| quote(url.as_bytes())),
        );
    }

    fn urls(&self, at: SocketAddr) -> Vec<String> {
        let url = |Dial { credentials: Credentials { user, password }, mark }: &Dial<'_>| {
            format!("nats://{user}:{}@{at}{mark}", password.expose())
        };
        if self.dial.is_empty() { vec![format!("nats://{at}")] } else { self.dial.iter().map(url).collect() }
    }
}

fn user(credentials: &Credentials) -> String {
    let Credentials { user, password } = credentials;
    format!("user: {}, password: {}", quote(user.as_bytes()), quote(password.expose().as_bytes()))
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

    fn list(&mut self, key: &str, items: impl Iterator<Item = String>) {
        self.line(&format!("{key}: ["));
        self.depth += 1;
        items.for_each(|item| self.line(&item));
        self.depth -= 1;
        self.line("]");
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
pub(crate) fn quote(bytes: &[u8]) -> String {
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
mod tests;
