//! Asks a running engine how it is: its monitoring port, and a client's round trip. Judging the answers is
//! [`crate::engine::verdict`]'s.

use std::net::SocketAddr;
use std::time::Duration;

use forest_core::id::NodeId;

use crate::engine::client::{ApiAnswer, Link, RoundTrip};
use crate::engine::monitor::{Healthz, Jsz, Monitor, Routez, Unanswered, Varz};

/// Where the engine is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its server_name.
    pub node: NodeId,
    /// Its monitoring address; an unspecified one is asked on loopback.
    pub monitor: SocketAddr,
    /// Its client address; `None`: as /varz tells (NimsForest takes a random port).
    pub client: Option<SocketAddr>,
}

/// All answers of one look.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineObservation {
    /// The server_name that was expected.
    pub node: NodeId,
    /// The server in general.
    pub varz: Result<Varz, Unanswered>,
    /// The server on itself.
    pub healthz: Result<Healthz, Unanswered>,
    /// JetStream.
    pub jsz: Result<Jsz, Unanswered>,
    /// Connections to peers.
    pub routez: Result<Routez, Unanswered>,
    /// A client's round trip.
    pub round_trip: Result<RoundTrip, Unanswered>,
    /// JetStream's API, asked by that client.
    pub api: Result<ApiAnswer, Unanswered>,
}

/// Looks at one engine again and again, over connections that it keeps.
#[derive(Debug)]
pub struct Probe {
    monitor: Monitor,
    link: Link,
}

impl Probe {
    /// A probe that waits for each answer for `deadline`; a look takes at most some five times that.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(deadline: Duration) -> Result<Self, reqwest::Error> {
        Ok(Self { monitor: Monitor::new(deadline)?, link: Link::default() })
    }

    /// Asks everything. Cancel safe.
    ///
    /// /varz only once the server listens: it keeps the client port of the first answer, and asked before a random
    /// port is known it would say 0 for as long as it runs.
    pub async fn look(&mut self, target: &Target) -> EngineObservation {
        let at = target.monitor;
        let healthz = self.monitor.healthz(at).await;
        let varz = async {
            match &healthz {
                Ok(health) if health.is_starting() => Err(starting(&health.error)),
                Ok(_) => self.monitor.varz(at).await,
                Err(err) => Err(err.clone()),
            }
        };
        // What does not answer one question is not asked the others: a look at it would take too long.
        let answers = || healthz.as_ref().map(|_| at).map_err(Clone::clone);
        let jsz = async { self.monitor.jsz(answers()?).await };
        let routez = async { self.monitor.routez(answers()?).await };
        let (varz, jsz, routez) = tokio::join!(varz, jsz, routez);
        let (round_trip, api) = match client_address(target, &varz) {
            Some(address) => self.ask_as_client(address).await,
            None => (Err(not_asked()), Err(not_asked())),
        };
        EngineObservation { node: target.node.clone(), varz, healthz, jsz, routez, round_trip, api }
    }

    async fn ask_as_client(
        &mut self,
        address: SocketAddr,
    ) -> (Result<RoundTrip, Unanswered>, Result<ApiAnswer, Unanswered>) {
        let deadline = self.monitor.deadline();
        let round_trip = self.link.round_trip(address, deadline).await;
        let api = match &round_trip {
            Ok(_) => self.link.api(deadline).await,
            Err(err) => Err(err.clone()),
        };
        (round_trip, api)
    }
}

/// `None` where the right server does not answer: then nobody knows the port, or it is somebody else's.
fn client_address(target: &Target, varz: &Result<Varz, Unanswered>) -> Option<SocketAddr> {
    let varz = varz.as_ref().ok().filter(|varz| varz.server_name == target.node.as_str())?;
    Some(target.client.unwrap_or_else(|| {
        let host = varz.host.parse().unwrap_or(target.monitor.ip());
        SocketAddr::new(host, varz.port)
    }))
}

fn starting(error: &str) -> Unanswered {
    Unanswered { what: "/healthz".to_owned(), why: error.to_owned() }
}

fn not_asked() -> Unanswered {
    Unanswered {
        what: "client round trip".to_owned(),
        why: "not tried, because the monitoring port does not answer as our server".to_owned(),
    }
}
