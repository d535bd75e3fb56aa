//! One node: an agent with its config, its directories and its engine below a directory of its own, on a loopback
//! address of its own, so that standard ports never meet.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Answer};
use crate::wait::{until, until_value};
use crate::{bounded, process};

/// A node being described; [`NodeBuilder::start`] makes it real.
#[derive(Debug)]
pub struct NodeBuilder {
    id: String,
    engine: PathBuf,
    kind: &'static str,
    registry: Option<PathBuf>,
    poll_interval: &'static str,
    extra: String,
    firewall: &'static str,
    environment: Vec<(String, String)>,
    host: Option<(String, Ipv6Addr)>,
}

/// A node with its agent; dropped, it ends agent and engine.
#[derive(Debug)]
pub struct Node {
    /// The node's id.
    pub id: String,
    /// Its loopback address.
    pub ip: Ipv4Addr,
    /// Everything it has lies below.
    pub dir: TempDir,
    /// Its registry.
    pub registry: PathBuf,
    environment: Vec<(String, String)>,
    host: Option<String>,
    agent: Option<Child>,
    /// Keeps the address from others.
    _claim: UdpSocket,
}

/// The port by which nodes claim their addresses; nothing else uses it.
const CLAIMS: u16 = 8224;

/// Describes the node `id` of forest `grove`, with this engine.
#[must_use]
pub fn node(id: &str, engine: &Path) -> NodeBuilder {
    NodeBuilder {
        id: id.to_owned(),
        engine: engine.to_owned(),
        kind: "nats-server",
        registry: None,
        poll_interval: "500ms",
        extra: String::new(),
        // Of this very machine no test may change a rule.
        firewall: "{ manage: false }",
        environment: Vec::new(),
        host: None,
    }
}

impl NodeBuilder {
    /// Another kind of engine.
    #[must_use]
    pub fn kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// A registry shared with other nodes.
    #[must_use]
    pub fn registry(mut self, path: impl Into<PathBuf>) -> Self {
        self.registry = Some(path.into());
        self
    }

    /// Another `poll_interval` than that of tests, half a second.
    #[must_use]
    pub fn poll_interval(mut self, interval: &'static str) -> Self {
        self.poll_interval = interval;
        self
    }

    /// More lines for agent.yaml.
    #[must_use]
    pub fn config(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }

    /// Another `firewall:`. Only for a node on a host of its own, or one that finds no nft.
    #[must_use]
    pub fn firewall(mut self, firewall: &'static str) -> Self {
        self.firewall = firewall;
        self
    }

    /// A host of its own: a network namespace and the address it has there; the ports are the standard ones.
    #[must_use]
    pub fn host(mut self, namespace: &str, address: Ipv6Addr) -> Self {
        self.host = Some((namespace.to_owned(), address));
        self
    }

    /// A variable for the agent's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes everything that the agent needs, and does not start it.
    ///
    /// # Panics
    /// If the directory cannot be made.
    #[must_use]
    pub fn prepare(self) -> Node {
        let dir = tempfile::Builder::new().prefix("forest-").tempdir().expect("a temp directory");
        let (ip, claim) = claim_address();
        let registry = self.registry.unwrap_or_else(|| dir.path().join("share/registry.json"));
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (address, listen) = match &self.host {
            Some((_, address)) => (address.to_string(), String::new()),
            None => (ip.to_string(), listen(ip)),
        };
        let config = format!(
            "forest_id: grove\nnode_id: {id}\naddress: \"{address}\"\nregistry: {registry}\npoll_interval: {poll}\n\
             engine:\n  kind: {kind}\n  binary: {engine}\n  data_dir: {data}\n\
             {listen}firewall: {firewall}\nstate_dir: {state}\nruntime_dir: {runtime}\nnode_info: {info}\n{extra}",
            id = self.id,
            registry = registry.display(),
            poll = self.poll_interval,
            kind = self.kind,
            engine = self.engine.display(),
            firewall = self.firewall,
            data = at("jetstream"),
            state = at("state"),
            runtime = at("run"),
            info = at("node-info.json"),
            extra = self.extra,
        );
        fs::write(dir.path().join("agent.yaml"), config).expect("agent.yaml can be written");
        Node {
            id: self.id,
            ip,
            dir,
            registry,
            environment: self.environment,
            host: self.host.map(|(name, _)| name),
            agent: None,
            _claim: claim,
        }
    }

    /// Writes everything and starts the agent.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(self) -> Node {
        let mut node = self.prepare();
        node.start();
        node
    }
}

fn listen(ip: Ipv4Addr) -> String {
    format!(
        "listen: {{ client: \"{ip}:4222\", cluster: \"{ip}:6222\", monitor: \"{ip}:8222\", health: \"{ip}:8223\" }}\n"
    )
}

/// An address that no other node has, of this process or another: who has its claim has it.
fn claim_address() -> (Ipv4Addr, UdpSocket) {
    loop {
        let [a, b, c] = rand::random::<[u8; 3]>();
        // Neither 127.0.x.y, where people's own servers are, nor a network's first or last address.
        let ip = Ipv4Addr::new(127, a.max(1), b, c.clamp(2, 254));
        if let Ok(claim) = UdpSocket::bind((ip, CLAIMS)) {
            return (ip, claim);
        }
    }
}

/// The forest-agent that was built with these tests.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn agent_binary() -> PathBuf {
    built("forest-agent")
}

/// A program of the same build as this one.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let dir = test.ancestors().find(|dir| dir.join(name).is_file());
    dir.unwrap_or_else(|| panic!("no {name} near {}; run `cargo build --workspace`", test.display()))
        .join(name)
}

impl Node {
    /// A path below the node's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command of the agent, with the node's config.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(&agent_binary(), args)
    }

    /// The same of the agent at `binary`.
    #[must_use]
    pub fn command_of(&self, binary: &Path, args: &[&str]) -> Command {
        let mut command = match &self.host {
            None => Command::new(binary),
            Some(host) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", host]).arg(binary);
                command
            }
        };
        command.args(args).arg("--config").arg(self.path("agent.yaml"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command of the agent to its end.
    ///
    /// # Panics
    /// If it cannot be run, or hangs.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        bounded::output(&mut self.command(args))
    }

    /// Starts the agent; its log goes to `agent.log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(&mut self) {
        self.start_with(&agent_binary());
    }

    /// Starts the agent from another file.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_with(&mut self, binary: &Path) {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).expect("agent.log");
        let mut command = self.command_of(binary, &["run"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.agent = Some(child.expect("the agent can be started"));
    }

    /// The agent's pid.
    ///
    /// # Panics
    /// If it was not started.
    #[must_use]
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().expect("the agent was started").id()
    }

    /// Where clients connect.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        (self.ip, 4222).into()
    }

    /// Where its health is.
    #[must_use]
    pub fn health_address(&self) -> SocketAddr {
        (self.ip, 8223).into()
    }

    /// Asks the agent; `None` while nobody answers.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Answer> {
        http::get(self.health_address(), path).ok()
    }

    /// Waits until `path` is answered with `code`. What is well may be doubted for a moment on a loaded machine,
    /// where a look at the engine finds no time.
    #[track_caller]
    pub fn until_code(&self, path: &str, code: u16) -> Answer {
        until(&format!("{path} answers {code}"), || self.get(path).filter(|answer| answer.code == code))
    }

    /// Waits until a command of the agent succeeds, for the same reason.
    #[track_caller]
    pub fn until_succeeds(&self, args: &[&str]) {
        until(&format!("{args:?} succeeds"), || self.run(args).status.success().then_some(()));
    }

    /// The health report, or null.
    #[must_use]
    pub fn health(&self) -> Value {
        if self.host.is_some() {
            let output = self.run(&["status", "--json"]);
            return serde_json::from_slice(&output.stdout).unwrap_or_default();
        }
        self.get("/health").map_or(Value::Null, |answer| answer.json())
    }

    /// One check of the report, or null.
    #[must_use]
    pub fn check(&self, key: &str) -> Value {
        self.health()["checks"][key][0].clone()
    }

    /// Waits until `key` has this reason.
    #[track_caller]
    pub fn until_reason(&self, key: &str, reason: &str) -> Value {
        until_value(&format!("{key} says {reason}"), || self.check(key), |check| check["reason"] == reason)
    }

    /// Waits until the whole report passes, and returns it.
    #[track_caller]
    pub fn until_pass(&self) -> Value {
        until_value(&format!("{} passes", self.id), || self.health(), |health| health["status"] == "pass")
    }

    /// The engine's pid, once it has one.
    #[track_caller]
    pub fn engine_pid(&self) -> u32 {
        until(&format!("{} has an engine", self.id), || {
            self.health()["engine"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
        })
    }

    /// Sends the agent a signal.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.agent_pid(), signal);
    }

    /// Waits for the agent's end; `None` for one that a signal ended.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn ended(&mut self) -> Option<i32> {
        let agent = self.agent.as_mut().expect("the agent was started");
        let status = until("the agent has ended", || agent.try_wait().expect("it can be waited for"));
        self.agent = None;
        status.code()
    }

    /// Ends the agent as systemd would.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Everything that still runs for this node.
    #[must_use]
    pub fn processes(&self) -> Vec<(u32, String)> {
        process::of_directory(self.dir.path())
    }

    /// The agent's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }
}

impl Node {
    /// What a person would look at first, printed where a test fails.
    #[expect(clippy::print_stderr, reason = "the test's own output, shown only when it fails")]
    fn explain(&self) {
        let log = self.log();
        let tail: Vec<_> = log.lines().rev().take(40).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        eprintln!("--- {}: health {:#}\n--- its agent's last lines:\n{tail}", self.id, self.health());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
        }
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        for (pid, _) in self.processes() {
            process::signal(pid, Signal::KILL);
        }
    }
}
