//! Streams with a replica on the witness, which is small and goes one day. Servers of ours never place one there
//! (`unique_tag`); NimsForest cannot be told so. What is found is led by a real node, then moved to one that has
//! no replica of it; where there are not as many real nodes as replicas, it gets as many as there are nodes.

use std::net::SocketAddr;
use std::time::Duration;

use async_nats::Client;
use forest_core::reason::Reason;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::engine::monitor::{Unanswered, dialable};
use crate::fault::{Fault, chain};

/// The account of clients that give no name, which NimsForest's are; only theirs can be changed from outside.
const ANONYMOUS: &str = "$G";
const DEADLINE: Duration = Duration::from_secs(5);
/// How long one stream may take to come to stand as it was told to.
const SETTLE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);

/// A stream with a replica on the witness.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stray {
    /// Its account.
    pub account: String,
    /// Its name.
    pub stream: String,
}

/// Every stream on the server `name`, asked through the system account.
///
/// # Errors
/// No answer, or not one of a server.
pub async fn on(client: &Client, name: &str, deadline: Duration) -> Result<Vec<Stray>, Unanswered> {
    #[derive(Deserialize)]
    struct Reply {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        #[serde(default)]
        account_details: Vec<Account>,
    }
    #[derive(Deserialize)]
    struct Account {
        name: String,
        #[serde(default)]
        stream_detail: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let question = json!({"server_name": name, "accounts": true, "streams": true});
    let reply: Reply = ask(client, "$SYS.REQ.SERVER.PING.JSZ", &question, deadline).await?;
    let found = reply.data.account_details.into_iter().flat_map(|account| {
        let of = account.name;
        account
            .stream_detail
            .into_iter()
            .map(move |Named { name }| Stray { account: of.clone(), stream: name })
    });
    let mut found: Vec<_> = found.collect();
    found.sort();
    Ok(found)
}

/// What STREAM.INFO tells.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Info {
    config: Map<String, Value>,
    cluster: Placed,
    error: Option<Refusal>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Placed {
    leader: Option<String>,
    replicas: Vec<Replica>,
}

#[derive(Debug, Clone, Deserialize)]
struct Replica {
    name: String,
    #[serde(default)]
    current: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    description: String,
}

/// What is to be done next about one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Next {
    /// The witness has none of it.
    Done,
    /// Nobody leads, or who is to lead is not current: it comes by itself.
    Wait,
    /// Only the witness has it: so many replicas are asked for, that a real node gets one.
    Raise(u64),
    /// The witness leads it.
    StepDown,
    /// There are real nodes without it: one of them takes the witness's place.
    Replace,
    /// As many replicas as there are real nodes.
    Lower(u64),
}

impl Info {
    fn replicas(&self) -> u64 {
        self.config.get("num_replicas").and_then(Value::as_u64).unwrap_or(1)
    }

    /// `nodes`: how many real nodes there are; `wanted`: replicas as they were asked for at first.
    fn next(&self, witness: &str, nodes: u64, wanted: u64) -> Next {
        let Some(leader) = self.cluster.leader.as_deref().filter(|leader| !leader.is_empty()) else {
            return Next::Wait;
        };
        let replicas = &self.cluster.replicas;
        let leads = leader == witness;
        if !leads && replicas.iter().all(|replica| replica.name != witness) {
            return if self.replicas() > wanted { Next::Lower(wanted) } else { Next::Done };
        }
        let real_is_current = !leads || replicas.iter().any(|replica| replica.current);
        match (replicas.is_empty(), real_is_current) {
            (true, _) => Next::Raise(self.replicas() + 1),
            (false, false) => Next::Wait,
            (false, true) if leads => Next::StepDown,
            // The leader is kept, and it is a real node.
            (false, true) if self.replicas() > wanted.min(nodes) => Next::Lower(wanted.min(nodes)),
            (false, true) => Next::Replace,
        }
    }
}

/// Brings `stray` off the server `witness`, by an anonymous client of the engine at `at`; what was done, in words.
///
/// # Errors
/// `stream_on_witness`: it is another account's, the server refuses, or it does not come to stand in time.
pub async fn clear(at: SocketAddr, stray: &Stray, witness: &str, nodes: usize) -> Result<String, Fault> {
    let Stray { account, stream } = stray;
    let fault = |why: String| {
        Fault::new(
            Reason::StreamOnWitness,
            format!("stream {stream} has a replica on the witness {witness}: {why}"),
        )
    };
    if account != ANONYMOUS {
        return Err(fault(format!("it is of the account {account}, whose users alone can move it")));
    }
    let client = async_nats::ConnectOptions::new().name("forest-agent").ignore_discovered_servers();
    let client = timeout(DEADLINE, client.connect(format!("nats://{}", dialable(at)))).await;
    let client = client.map_err(|_| fault("the engine takes no client".to_owned()))?;
    let client = client.map_err(|err| fault(chain(&err)))?;
    let until = Instant::now() + SETTLE;
    let nodes = u64::try_from(nodes).unwrap_or(u64::MAX);
    let (mut asked_for, mut said) = (None, Vec::new());
    loop {
        let told = match info(&client, stream).await {
            Ok(info) => {
                let wanted = *asked_for.get_or_insert(info.replicas());
                let next = info.next(witness, nodes, wanted);
                if next == Next::Done {
                    let how = if said.is_empty() { "it was gone".to_owned() } else { said.join(", ") };
                    return Ok(format!("stream {stream} is off the witness: {how}"));
                }
                carry_out(&client, stream, witness, &info, next).await.map(|words| said.extend(words))
            }
            Err(err) => Err(err),
        };
        if Instant::now() >= until {
            return Err(fault(
                told.err().map_or("it does not come off it in time".to_owned(), |err| err.to_string()),
            ));
        }
        sleep(LOOK).await;
    }
}

/// Carries out one change; the same is not said twice, for it is asked for only once it did not show.
async fn carry_out(
    client: &Client,
    stream: &str,
    witness: &str,
    info: &Info,
    next: Next,
) -> Result<Option<String>, Unanswered> {
    let (subject, body, words) = match next {
        Next::Done | Next::Wait => return Ok(None),
        Next::StepDown => {
            (format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}"), json!({}), "a real node leads it".to_owned())
        }
        Next::Replace => (
            format!("$JS.API.STREAM.PEER.REMOVE.{stream}"),
            json!({"peer": witness}),
            "another node took the witness's place".to_owned(),
        ),
        Next::Raise(count) | Next::Lower(count) => {
            let mut config = info.config.clone();
            config.insert("num_replicas".to_owned(), count.into());
            let words = format!("num_replicas {} became {count}", info.replicas());
            (format!("$JS.API.STREAM.UPDATE.{stream}"), Value::Object(config), words)
        }
    };
    let reply: Info = ask(client, &subject, &body, DEADLINE).await?;
    match reply.error {
        Some(refusal) => Err(Unanswered { what: subject, why: refusal.description }),
        None => Ok(Some(words)),
    }
}

async fn info(client: &Client, stream: &str) -> Result<Info, Unanswered> {
    let subject = format!("$JS.API.STREAM.INFO.{stream}");
    let info: Info = ask(client, &subject, &json!({}), DEADLINE).await?;
    match info.error {
        Some(refusal) => Err(Unanswered { what: subject, why: refusal.description }),
        None => Ok(info),
    }
}

async fn ask<T: DeserializeOwned>(
    client: &Client,
    subject: &str,
    body: &Value,
    deadline: Duration,
) -> Result<T, Unanswered> {
    let failed = |why: String| Unanswered { what: subject.to_owned(), why };
    let asked = timeout(deadline, client.request(subject.to_owned(), body.to_string().into())).await;
    let message = asked.map_err(|_| failed(format!("no answer within {} ms", deadline.as_millis())))?;
    let message = message.map_err(|err| failed(chain(&err)))?;
    serde_json::from_slice(&message.payload).map_err(|err| failed(err.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(replicas: u64, leader: &str, others: &[(&str, bool)]) -> Info {
        let others: Vec<_> =
            others.iter().map(|(name, current)| json!({"name": name, "current": current})).collect();
        let leader = (!leader.is_empty()).then_some(leader);
        serde_json::from_value(json!({
            "config": {"name": "S", "num_replicas": replicas},
            "cluster": {"leader": leader, "replicas": others},
        }))
        .unwrap()
    }

    #[test]
    fn each_case_has_its_way() {
        for (replicas, leader, others, nodes, wanted, next) in [
            (2, "n1", &[("n2", true)][..], 2, 2, Next::Done),
            (2, "", &[("w", true)], 2, 2, Next::Wait),
            (2, "n1", &[("w", true)], 2, 2, Next::Replace),
            (2, "n1", &[("w", true)], 1, 2, Next::Lower(1)),
            (3, "n1", &[("w", true), ("n2", true)], 2, 3, Next::Lower(2)),
            (2, "w", &[("n1", true)], 1, 2, Next::StepDown),
            (2, "w", &[("n1", false)], 1, 2, Next::Wait),
            // An R1 stream that lies on the witness alone goes by way of R2.
            (1, "w", &[], 1, 1, Next::Raise(2)),
            (2, "w", &[("n1", false)], 1, 1, Next::Wait),
            (2, "w", &[("n1", true)], 1, 1, Next::StepDown),
            (2, "n1", &[("w", true)], 1, 1, Next::Lower(1)),
            (1, "n1", &[], 1, 1, Next::Done),
        ] {
            let info = info(replicas, leader, others);
            assert_eq!(info.next("w", nodes, wanted), next, "{info:?}");
        }
    }

    proptest! {
        #[test]
        fn a_real_node_with_all_of_it_is_never_given_up(
            replicas in 1u64..4, leads: bool, current: bool, others in 0usize..3, nodes in 1u64..4,
        ) {
            let others: Vec<_> = ["n1", "n2", "n3"][..others].iter().map(|name| (*name, current)).collect();
            let found = if leads { info(replicas, "w", &others) } else { info(replicas, "n0", &others) };
            match found.next("w", nodes, replicas) {
                // What takes a replica away does so only while a real node leads, which is kept.
                Next::Lower(count) => prop_assert!(!leads && count >= 1),
                Next::Replace => prop_assert!(!leads),
                Next::StepDown => prop_assert!(leads && current),
                Next::Done | Next::Wait | Next::Raise(_) => {}
            }
        }
    }
}
