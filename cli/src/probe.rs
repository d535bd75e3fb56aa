//! Asking nodes how they are: the agent's /health and the engine's /varz, of all nodes at once, with short
//! deadlines. Never through a proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use forest_core::error::innermost;
use forest_core::health::HealthReport;
use forest_core::id::NodeId;
use forest_core::reason::Reason;
use forest_core::registry::Entry;
use forest_core::registry::model::{HEALTH_PORT, MONITOR_PORT};
use futures::future::join_all;
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;

use crate::failure::{Failure, chain};

/// How long one answer may take in all.
const DEADLINE: Duration = Duration::from_secs(2);
/// No answer is larger, in bytes.
const MAX_BODY: usize = 4 << 20;

/// Where a node is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The node.
    pub node: NodeId,
    /// Its address.
    pub ip: IpAddr,
    /// The agent's port.
    pub health_port: u16,
    /// The engine's monitoring port.
    pub monitor_port: u16,
}

impl Target {
    /// A node of this machine, with its standard ports.
    #[must_use]
    pub fn local(node: NodeId, ip: Ipv4Addr) -> Self {
        Self::at(node, ip.into())
    }

    /// Where the node of an entry is asked; `None`: its id or address is none.
    #[must_use]
    pub fn of(entry: &Entry) -> Option<Self> {
        Some(Self {
            node: entry.id.parse().ok()?,
            ip: entry.ip.parse().ok()?,
            health_port: entry.health_port(),
            monitor_port: entry.monitor_port(),
        })
    }

    /// A node with its standard ports.
    #[must_use]
    pub fn at(node: NodeId, ip: IpAddr) -> Self {
        Self { node, ip, health_port: HEALTH_PORT, monitor_port: MONITOR_PORT }
    }
}

/// An agent's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// As it is understood here.
    pub report: HealthReport,
    /// As it came.
    pub body: Value,
}

/// What of an engine's /varz is used.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Varz {
    /// The address that clients are listened for at.
    pub host: String,
    /// The port of clients.
    pub port: u16,
    /// CPU in percent of one core.
    pub cpu: f64,
    /// Resident memory in bytes.
    pub mem: f64,
    /// Open client connections.
    pub connections: u64,
}

impl Varz {
    /// Do clients of other machines get in?
    fn is_open(&self) -> bool {
        self.host != "localhost" && !self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

/// What one node answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// The node.
    pub target: Target,
    /// Its agent, or why that does not answer.
    pub health: Result<Health, String>,
    /// Its engine, or why that does not answer.
    pub varz: Result<Varz, String>,
}

impl Look {
    /// Where this machine's clients connect, if they can.
    #[must_use]
    pub fn client(&self) -> Option<SocketAddr> {
        let varz = self.varz.as_ref().ok()?;
        let ip = self.target.ip;
        (ip.is_loopback() || varz.is_open()).then(|| SocketAddr::new(ip, varz.port))
    }
}

/// The one HTTP client.
#[derive(Debug, Clone)]
pub struct Http(Client);

impl Http {
    /// A client; the TLS provider has to be installed.
    ///
    /// # Errors
    /// [`Failure`] where the system gives none.
    pub fn new() -> Result<Self, Failure> {
        let client = Client::builder().no_proxy().connect_timeout(DEADLINE / 2).timeout(DEADLINE).build();
        client
            .map(Self)
            .map_err(|err| Failure::new(Reason::NotSupported, format!("no HTTP client: {}", chain(&err))))
    }

    /// Asks all nodes at once, agent and engine.
    pub async fn look(&self, targets: &[Target]) -> Vec<Look> {
        join_all(targets.iter().map(|target| async {
            let (health, varz) = futures::join!(self.health(target), self.varz(target));
            Look { target: target.clone(), health, varz }
        }))
        .await
    }

    /// Asks one agent; another one's answer is none.
    ///
    /// # Errors
    /// In words, with the address.
    pub async fn health(&self, target: &Target) -> Result<Health, String> {
        let url = url(target, target.health_port, "health");
        // 503 bears a report too.
        let body: Value = self.get(&url).await?;
        let report =
            HealthReport::deserialize(&body).map_err(|err| format!("{url} is no health report: {err}"))?;
        if report.node_id != target.node.as_str() {
            return Err(format!("{url} is answered by another node, {}", report.node_id.escape_default()));
        }
        Ok(Health { report, body })
    }

    async fn varz(&self, target: &Target) -> Result<Varz, String> {
        self.get(&url(target, target.monitor_port, "varz")).await
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, url: &str) -> Result<T, String> {
        let failed = |err: &reqwest::Error| match err.is_timeout() {
            true => format!("{url} does not answer in {} s", DEADLINE.as_secs()),
            // What lies above the cause repeats the URL.
            false => format!("{url} does not answer: {}", innermost(err)),
        };
        let mut answer = self.0.get(url).send().await.map_err(|err| failed(&err))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|err| failed(&err))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BODY {
                return Err(format!("{url} answers without end"));
            }
        }
        serde_json::from_slice(&body).map_err(|err| format!("{url} does not answer in JSON: {err}"))
    }
}

fn url(target: &Target, port: u16, path: &str) -> String {
    format!("http://{}/{path}", SocketAddr::new(target.ip, port))
}
