//! One long-lived client connection to the engine, by which the agent sees what a client sees.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions};
use futures::StreamExt;
use serde::Deserialize;
use tokio::time::timeout;

use crate::engine::monitor::{Unanswered, dialable};
use crate::fault::chain;

const RECONNECT_DELAY: Duration = Duration::from_millis(250);

/// The connection. It reconnects by itself, and is replaced where the engine listens elsewhere.
#[derive(Debug, Default)]
pub struct Link {
    connected: Option<(SocketAddr, Client)>,
}

/// What a round trip showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundTrip {
    /// From publishing a message to receiving it.
    pub rtt: Duration,
    /// Who answered.
    pub server_name: String,
}

/// JetStream's API answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiAnswer {
    /// How many streams the account has.
    pub streams: u64,
}

impl Link {
    /// Sends a message to itself through the server that listens at `at`.
    ///
    /// # Errors
    /// No connection, or nothing came back within `deadline`.
    pub async fn round_trip(&mut self, at: SocketAddr, deadline: Duration) -> Result<RoundTrip, Unanswered> {
        let at = dialable(at);
        let client = self.client(at, deadline).await?;
        let trip = timeout(deadline, echo(&client)).await;
        let rtt = answered(trip, || format!("round trip through nats://{at}"), deadline)?;
        Ok(RoundTrip { rtt, server_name: client.server_info().server_name })
    }

    /// Asks JetStream's API by the connection of the last round trip.
    ///
    /// # Errors
    /// No connection, no answer within `deadline`, or an error for an answer.
    pub async fn api(&self, deadline: Duration) -> Result<ApiAnswer, Unanswered> {
        let Some((at, client)) = &self.connected else {
            return Err(Unanswered { what: "$JS.API".to_owned(), why: "no client connection".to_owned() });
        };
        ask(*at, client, "$JS.API.INFO", deadline).await?;
        let names = ask(*at, client, "$JS.API.STREAM.NAMES", deadline).await?;
        Ok(ApiAnswer { streams: names.total })
    }

    async fn client(&mut self, at: SocketAddr, deadline: Duration) -> Result<Client, Unanswered> {
        if let Some((connected_to, client)) = &self.connected
            && *connected_to == at
        {
            return match client.connection_state() {
                State::Connected => Ok(client.clone()),
                State::Pending | State::Disconnected => {
                    Err(unconnected(at, "not connected; reconnecting".to_owned()))
                }
            };
        }
        self.connected = None;
        let connecting = options(deadline).connect(format!("nats://{at}"));
        let client = match timeout(deadline, connecting).await {
            Ok(Ok(client)) => client,
            Ok(Err(err)) => return Err(unconnected(at, chain(&err))),
            Err(_) => return Err(unconnected(at, silent(deadline))),
        };
        self.connected = Some((at, client.clone()));
        Ok(client)
    }
}

fn options(deadline: Duration) -> ConnectOptions {
    ConnectOptions::new()
        .name("forest-agent")
        .connection_timeout(deadline)
        .ignore_discovered_servers()
        .max_reconnects(None)
        .reconnect_delay_callback(|_| RECONNECT_DELAY)
}

fn unconnected(at: SocketAddr, why: String) -> Unanswered {
    Unanswered { what: format!("connecting to nats://{at}"), why }
}

fn silent(deadline: Duration) -> String {
    format!("no answer within {} ms", deadline.as_millis())
}

fn answered<T>(
    outcome: Result<Result<T, String>, tokio::time::error::Elapsed>,
    what: impl FnOnce() -> String,
    deadline: Duration,
) -> Result<T, Unanswered> {
    outcome.unwrap_or_else(|_| Err(silent(deadline))).map_err(|why| Unanswered { what: what(), why })
}

/// The client's flush only empties its buffers, so a message to oneself is what proves the way there and back.
async fn echo(client: &Client) -> Result<Duration, String> {
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.map_err(|err| chain(&err))?;
    let begun = Instant::now();
    client.publish(inbox, "".into()).await.map_err(|err| chain(&err))?;
    client.flush().await.map_err(|err| chain(&err))?;
    match replies.next().await {
        Some(_) => Ok(begun.elapsed()),
        None => Err("the subscription ended".to_owned()),
    }
}

#[derive(Debug, Deserialize)]
struct ApiReply {
    #[serde(default)]
    total: u64,
    error: Option<ApiError>,
}

#[derive(Debug, Deserialize)]
struct ApiError {
    code: u32,
    #[serde(default)]
    description: String,
}

async fn ask(
    at: SocketAddr,
    client: &Client,
    subject: &'static str,
    deadline: Duration,
) -> Result<ApiReply, Unanswered> {
    let asked = timeout(deadline, request(client, subject)).await;
    answered(asked, || format!("{subject} at nats://{at}"), deadline)
}

async fn request(client: &Client, subject: &'static str) -> Result<ApiReply, String> {
    let message = client.request(subject, "".into()).await.map_err(|err| chain(&err))?;
    let reply: ApiReply =
        serde_json::from_slice(&message.payload).map_err(|err| format!("answers what is no reply: {err}"))?;
    match reply.error {
        Some(ApiError { code, description }) => Err(format!("answers {code}: {description}")),
        None => Ok(reply),
    }
}
