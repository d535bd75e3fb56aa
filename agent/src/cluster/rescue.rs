//! Bringing a quorum back that is lost for good. Only ever for a person who knows that the others are dead: two halves
//! of a group that are rescued apart never come together again.

use std::time::{Duration, Instant};

use forest_core::reason::Reason;
use forest_core::secrets::Record;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cluster::sys::{self, SysLink};
use crate::engine::monitor::Unanswered;
use crate::fault::{Fault, chain};
use crate::settings::{EngineKind, Settings};

const ASK: Duration = Duration::from_secs(3);
/// A rescued group elects within seconds.
const ELECTION: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(300);

/// How it was brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescued {
    /// The server was told to go on with fewer.
    ByOrder,
    /// An empty server has the name of a dead one.
    ByStandIn,
}

impl Rescued {
    /// As `--json` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ByOrder => "order",
            Self::ByStandIn => "stand_in",
        }
    }
}

async fn client(settings: &Settings, record: &Record) -> Result<async_nats::Client, Fault> {
    if settings.engine.kind == EngineKind::Nimsforest {
        let message = "NimsForest's server has no system account that could be asked";
        return Err(Fault::new(Reason::NotSupported, message));
    }
    let at = settings.listen.client;
    SysLink::default().client(at, record.in_force().sys, ASK).await.map_err(|err| fault(&err))
}

/// Who leads the group, by the server here; `None`: nobody.
///
/// # Errors
/// The server here does not answer.
pub async fn leader(settings: &Settings, record: &Record) -> Result<Option<String>, Fault> {
    let client = client(settings, record).await?;
    // It may just be electing.
    let until = Instant::now() + ASK;
    loop {
        let group = sys::group(&client, ASK).await.map_err(|err| fault(&err))?;
        if group.is_some() || Instant::now() >= until {
            return Ok(group.map(|group| group.leader));
        }
    }
}

/// Tells the server here to go on by itself; `None`: it is too old to know how.
///
/// # Errors
/// It refuses, or elects nobody.
pub async fn by_order(settings: &Settings, record: &Record) -> Result<Option<Rescued>, Fault> {
    let client = client(settings, record).await?;
    let subject = "$JS.API.META.RESCUE";
    let asked = timeout(ASK, client.request(subject, json!({"quorum_needed": 1}).to_string().into())).await;
    let failed = |why: String| Fault::new(Reason::QuorumLost, format!("{subject}: {why}"));
    let reply: Value = match asked {
        // An old server has nobody who listens there, or nobody who answers.
        Err(_) => return Ok(None),
        Ok(Err(err)) if err.kind() == async_nats::client::RequestErrorKind::NoResponders => return Ok(None),
        Ok(Err(err)) => return Err(failed(chain(&err))),
        Ok(Ok(message)) => serde_json::from_slice(&message.payload).map_err(|err| failed(err.to_string()))?,
    };
    if let Some(error) = reply.get("error").filter(|error| !error.is_null()) {
        return Err(failed(error.get("description").and_then(Value::as_str).unwrap_or("refused").to_owned()));
    }
    let until = Instant::now() + ELECTION;
    while Instant::now() < until {
        if sys::group(&client, ASK).await.map_err(|err| fault(&err))?.is_some() {
            return Ok(Some(Rescued::ByOrder));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(failed(format!("no leader within {} s", ELECTION.as_secs())))
}

fn fault(err: &Unanswered) -> Fault {
    Fault::new(Reason::NatsUnreachable, err.to_string())
}
