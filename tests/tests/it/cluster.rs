//! Forests of several nodes on real servers: clustered from the first day, grown without a restart, and back
//! again after whatever befalls them.

pub(crate) mod chaos;
mod faults;
pub(crate) mod growth;
mod leave;
mod take_over;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use forest_tests::http;
use forest_tests::node::{Node, node};
use forest_tests::wait::{until, until_value};
use serde_json::Value;
use tempfile::TempDir;

/// A forest: its share, and its nodes so far.
struct Forest {
    share: TempDir,
    server: PathBuf,
    nodes: Vec<Node>,
}

impl Forest {
    /// One without nodes, whose servers are `server`.
    fn new(server: &Path) -> Self {
        Self { share: tempfile::tempdir().unwrap(), server: server.to_owned(), nodes: Vec::new() }
    }

    /// One that has grown to `count` nodes and is well.
    fn grown(server: &Path, count: usize) -> Self {
        let mut forest = Self::new(server);
        for _ in 0..count {
            forest.plant();
        }
        forest.until_well();
        forest
    }

    fn registry(&self) -> PathBuf {
        self.share.path().join("share/registry.json")
    }

    /// Starts one more node.
    fn plant(&mut self) -> &Node {
        self.plant_as(&format!("grove-node-{}", self.nodes.len() + 1))
    }

    /// Starts one more node, of this id.
    fn plant_as(&mut self, id: &str) -> &Node {
        let started = node(id, &self.server).registry(self.registry()).start();
        self.nodes.push(started);
        self.nodes.last().unwrap()
    }

    /// What is recorded of the founding.
    fn record(&self) -> Value {
        let path = self.share.path().join("share/secrets/grove.json");
        fs::read(path).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
    }

    fn clients(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::client_address).collect()
    }

    /// Waits until every node passes, all in one meta group, with a witness exactly where there are fewer than
    /// three.
    #[track_caller]
    fn until_well(&self) {
        let count = self.nodes.len();
        let size = if count < 3 { count + 1 } else { count };
        for node in &self.nodes {
            until_value(
                &format!("{} is well in a group of {size}", node.id),
                || node.health(),
                |health| {
                    let group = &health["checks"]["nats:jetstream"][0]["observedValue"];
                    health["status"] == "pass" && health["step"] == "ready" && *group == size
                },
            );
        }
        until("all follow one and the same leader", || {
            let leader = |node: &Node| {
                let told = http::get((node.ip, 8222).into(), "/jsz").ok()?.json();
                Some(told["meta_cluster"]["leader"].as_str()?.to_owned())
            };
            let leaders: Option<BTreeSet<String>> = self.nodes.iter().map(leader).collect();
            (leaders?.len() == 1).then_some(())
        });
        until("the witness is recorded where it is needed", || {
            let witness = &self.record()["witness"];
            (witness.is_null() == (count >= 3)).then_some(())
        });
        let keeps = |node: &Node| node.processes().iter().any(|(_, line)| line.contains("witness.conf"));
        until("a witness runs where it is needed", || {
            let witnesses = self.nodes.iter().filter(|node| keeps(node)).count();
            (witnesses == usize::from(count < 3)).then_some(())
        });
    }

    /// A server of this name that belongs to no agent and has the forest's credentials.
    fn start_server(&self, name: &str) -> Child {
        let (record, dir, ip) = (self.record(), self.share.path().join(name), self.nodes[0].ip);
        let login = |key: &str| {
            let part = |part: &str| record[key][part].as_str().unwrap().to_owned();
            (part("user"), part("password"))
        };
        let ((route, password), (sys, secret)) = (login("route"), login("sys"));
        let routes = self.nodes.iter().map(|node| format!("\"nats://{route}:{password}@{}:6222\"", node.ip));
        let config = format!(
            "server_name: {name}\nlisten: \"{ip}:4225\"\njetstream {{ store_dir: \"{store}\", max_mem: 1M, \
             max_file: 1M, unique_tag: \"node:\" }}\naccounts {{ $SYS: {{ users: [{{ user: {sys}, password: \
             \"{secret}\" }}] }} }}\ncluster {{ name: grove, listen: \"{ip}:6225\", advertise: \"{ip}:6225\", authorization {{ user: {route}, \
             password: \"{password}\", timeout: 2 }}, routes: [{routes}] }}\n",
            store = dir.display(),
            routes = routes.collect::<Vec<_>>().join(", "),
        );
        let file = self.share.path().join("server.conf");
        fs::write(&file, config).unwrap();
        let quiet = || std::process::Stdio::null();
        Command::new(&self.server).arg("-c").arg(file).stdout(quiet()).stderr(quiet()).spawn().unwrap()
    }

    /// The meta leader, as the first node's server tells.
    fn leader(&self) -> String {
        let told = http::get((self.nodes[0].ip, 8222).into(), "/jsz").unwrap().json();
        told["meta_cluster"]["leader"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the engines of these nodes are others than these.
    #[track_caller]
    fn until_restarted(&self, before: &[(usize, u32)]) {
        for (at, pid) in before {
            until("another engine runs", || {
                let now = self.nodes[*at].health()["engine"]["pid"].as_u64()?;
                (now != u64::from(*pid)).then_some(())
            });
        }
    }

    fn engine_pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Node::engine_pid).collect()
    }

    /// Ends all agents as systemd would; nothing of them is left.
    #[track_caller]
    fn stop(&mut self) {
        for node in &mut self.nodes {
            assert_eq!(node.stop(), Some(0));
            assert_eq!(node.processes(), []);
        }
    }
}
