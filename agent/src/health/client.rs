//! Asking an agent: the local one for a person, another node's before its entry is taken over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use forest_core::health::HealthReport;
use serde::Deserialize;

use crate::fault::chain;

/// How long an agent may take to answer. It answers from memory.
const DEADLINE: Duration = Duration::from_secs(2);

/// Nobody could be asked: names the URL.
#[derive(Debug, thiserror::Error)]
#[error("no agent answers at {url}: {cause}")]
pub struct NoAnswer {
    url: String,
    cause: String,
}

/// What `/livez` says of who answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// Its forest.
    pub forest_id: String,
    /// Its node.
    pub node_id: String,
    /// Its instance.
    pub instance: String,
}

/// The report of the agent at `address`, whatever its status.
///
/// # Errors
/// [`NoAnswer`], if nothing that speaks our health report answers in time.
pub async fn health(address: SocketAddr) -> Result<HealthReport, NoAnswer> {
    get(address, "health").await
}

/// Who the agent at `address` is.
///
/// # Errors
/// [`NoAnswer`], if no agent answers in time.
pub async fn identity(address: SocketAddr) -> Result<Identity, NoAnswer> {
    get(address, "livez").await
}

/// Where a server that listens on `listen` is reached from this host.
#[must_use]
pub fn local(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // An agent on [::] takes both families; IPv4's loopback is there on every machine, IPv6's is not.
        IpAddr::V6(ip) if ip.is_unspecified() => {
            if bindable(Ipv6Addr::LOCALHOST) {
                Ipv6Addr::LOCALHOST.into()
            } else {
                Ipv4Addr::LOCALHOST.into()
            }
        }
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn bindable(ip: Ipv6Addr) -> bool {
    std::net::UdpSocket::bind((ip, 0)).is_ok()
}

async fn get<T: serde::de::DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T, NoAnswer> {
    let url = format!("http://{address}/{path}");
    let failed = |err: &reqwest::Error| NoAnswer { url: url.clone(), cause: cause(err) };
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|err| failed(&err))?;
    let response = client.get(&url).send().await.map_err(|err| failed(&err))?;
    response.json().await.map_err(|err| failed(&err))
}

/// The innermost cause alone: reqwest's outer layers repeat the URL.
fn cause(err: &reqwest::Error) -> String {
    if err.is_timeout() {
        return format!("no answer within {} s", DEADLINE.as_secs());
    }
    let mut source: &dyn std::error::Error = err;
    while let Some(inner) = source.source() {
        source = inner;
    }
    if err.is_decode() {
        format!("what answers is no forest-agent ({})", chain(source))
    } else {
        source.to_string()
    }
}
