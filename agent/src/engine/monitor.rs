//! The monitoring port of a nats-server, 8222: which questions there are, and their answers.
//!
//! The answers are read tolerantly: a key that a version does not have is its default, a key we do not use is
//! passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::fault::innermost;

/// The most bytes of an answer that are read; /routez of a large forest stays far below.
const MAX_ANSWER: usize = 4 << 20;

/// A question that was not answered as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Unanswered {
    /// What was asked, with the address.
    pub what: String,
    /// What came instead.
    pub why: String,
}

/// /varz: the server in general.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Varz {
    /// Id of this run of the server.
    pub server_id: String,
    /// Its name: the node's id, if it is ours.
    pub server_name: String,
    /// Its version.
    pub version: String,
    /// Address that clients connect to; may be unspecified.
    #[serde(default)]
    pub host: String,
    /// Port that clients connect to; 0 for ever where it is random and was asked for before it was known.
    pub port: u16,
    /// When it last read its configuration, RFC 3339.
    #[serde(default)]
    pub config_load_time: String,
    /// Its cluster; the default on a standalone server.
    #[serde(default)]
    pub cluster: VarzCluster,
    /// Per cent of one core.
    #[serde(default)]
    pub cpu: f64,
    /// Cores of the machine.
    #[serde(default)]
    pub cores: u32,
    /// Resident memory, bytes.
    #[serde(default)]
    pub mem: u64,
    /// Clients connected now.
    #[serde(default)]
    pub connections: u64,
    /// The most clients it takes.
    #[serde(default)]
    pub max_connections: u64,
    /// Clients it had to drop because they did not keep up.
    #[serde(default)]
    pub slow_consumers: u64,
}

/// The cluster in /varz.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VarzCluster {
    /// Its name.
    pub name: String,
}

/// /healthz: the server on itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Healthz {
    /// `ok`, or what is wrong.
    pub status: String,
    /// What is wrong, in words.
    #[serde(default)]
    pub error: String,
}

impl Healthz {
    /// Does it not listen everywhere yet?
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.status != "ok" && self.error.contains("ready for connections")
    }
}

/// /jsz: JetStream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Jsz {
    /// Not enabled.
    pub disabled: bool,
    /// Bytes in memory streams.
    pub memory: u64,
    /// Bytes in file streams.
    pub storage: u64,
    /// Its limits.
    pub config: JszConfig,
    /// How many streams.
    pub streams: u64,
    /// How many consumers.
    pub consumers: u64,
    /// How many messages.
    pub messages: u64,
    /// The meta group; `None` on a standalone server.
    pub meta_cluster: Option<MetaCluster>,
}

/// Limits in /jsz, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct JszConfig {
    /// Of memory streams.
    pub max_memory: u64,
    /// Of file streams.
    pub max_storage: u64,
}

/// The meta group as one server sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MetaCluster {
    /// Name of the leader; empty while there is none.
    pub leader: String,
    /// How many servers make it up.
    pub cluster_size: u64,
    /// The others; only the leader knows them.
    pub replicas: Vec<MetaReplica>,
}

/// A member of the meta group as the leader sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MetaReplica {
    /// Name of the server.
    pub name: String,
    /// Id of the raft peer.
    pub peer: String,
    /// Has it all that the leader has?
    pub current: bool,
    /// Gone for minutes.
    pub offline: bool,
}

/// /routez: connections to the peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Routez {
    /// Each connection; a peer may have several.
    pub routes: Vec<Route>,
}

/// One connection to a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Route {
    /// Number of the connection, never used twice by a server.
    pub rid: u64,
    /// server_id of the peer.
    pub remote_id: String,
    /// server_name of the peer; empty on versions that do not tell it.
    pub remote_name: String,
}

/// Asks one server after another; keeps connections open between two looks.
#[derive(Debug, Clone)]
pub struct Monitor {
    http: Client,
    deadline: Duration,
}

impl Monitor {
    /// A monitor that waits for each answer for `deadline`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(deadline: Duration) -> Result<Self, reqwest::Error> {
        install_crypto();
        let http = Client::builder()
            .no_proxy()
            .timeout(deadline)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, deadline })
    }

    /// How long it waits for each answer.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// /varz of the server at `at`.
    ///
    /// # Errors
    /// No answer in time, or not one of a nats-server.
    pub async fn varz(&self, at: SocketAddr) -> Result<Varz, Unanswered> {
        self.get(at, "/varz").await
    }

    /// /healthz of the server at `at`, of the server itself and of JetStream's being enabled. Its body says what
    /// is wrong, whatever the HTTP status.
    ///
    /// # Errors
    /// As [`Monitor::varz`].
    pub async fn healthz(&self, at: SocketAddr) -> Result<Healthz, Unanswered> {
        self.get(at, "/healthz?js-enabled-only=true").await
    }

    /// /jsz of the server at `at`.
    ///
    /// # Errors
    /// As [`Monitor::varz`].
    pub async fn jsz(&self, at: SocketAddr) -> Result<Jsz, Unanswered> {
        self.get(at, "/jsz").await
    }

    /// /routez of the server at `at`.
    ///
    /// # Errors
    /// As [`Monitor::varz`].
    pub async fn routez(&self, at: SocketAddr) -> Result<Routez, Unanswered> {
        self.get(at, "/routez").await
    }

    async fn get<T: DeserializeOwned>(&self, at: SocketAddr, path: &str) -> Result<T, Unanswered> {
        let url = format!("http://{}{path}", dialable(at));
        let answer = self.read(&url).await;
        let parsed = answer.and_then(|(status, body)| {
            serde_json::from_slice(&body).map_err(|err| match status {
                StatusCode::OK => format!("answers, but not as a nats-server does: {err}"),
                status => format!("answers {status}"),
            })
        });
        parsed.map_err(|why| Unanswered { what: url, why })
    }

    async fn read(&self, url: &str) -> Result<(StatusCode, Vec<u8>), String> {
        let say = |err: reqwest::Error| {
            if err.is_timeout() {
                format!("no answer within {} ms", self.deadline.as_millis())
            } else {
                innermost(&err.without_url())
            }
        };
        let mut response = self.http.get(url).send().await.map_err(say)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(say)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(format!("answers more than {} MiB", MAX_ANSWER >> 20));
            }
        }
        Ok((response.status(), body))
    }
}

/// Where to dial what listens at `listen`: the loopback address in place of the unspecified one.
#[must_use]
pub fn dialable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Makes ring the process's TLS provider; without one, the first client panics. Again is harmless.
pub fn install_crypto() {
    // Fails where one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_old_and_new_versions_are_read() {
        let jsz: Jsz =
            serde_json::from_str(r#"{"disabled":true,"config":{"max_memory":0,"max_storage":0}}"#).unwrap();
        assert!(jsz.disabled && jsz.meta_cluster.is_none());
        let jsz: Jsz = serde_json::from_str(
            r#"{"streams":2,"meta_cluster":{"name":"grove","leader":"n1","cluster_size":3}}"#,
        )
        .unwrap();
        assert_eq!(jsz.meta_cluster.unwrap().cluster_size, 3);
        let routez: Routez =
            serde_json::from_str(r#"{"num_routes":1,"routes":[{"rid":5,"remote_id":"NA","ip":"10.0.0.2"}]}"#)
                .unwrap();
        assert_eq!(routez.routes[0].remote_id, "NA");
        assert_eq!(routez.routes[0].remote_name, "");
        let varz: Varz = serde_json::from_str(
            r#"{"server_id":"NA","server_name":"n1","version":"2.9.10","port":4222,"cpu":0}"#,
        )
        .unwrap();
        assert_eq!((varz.port, varz.mem), (4222, 0));
    }

    #[test]
    fn what_listens_everywhere_is_dialled_on_loopback() {
        for (listen, dial) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("[fd00::2]:3", "[fd00::2]:3")]
        {
            assert_eq!(dialable(listen.parse().unwrap()), dial.parse().unwrap());
        }
    }
}
