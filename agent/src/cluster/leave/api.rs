//! JetStream's API as a client of the forest's own account meets it: the streams, and what can be asked for them.

use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::time::timeout;

use crate::cluster::leave::streams::{Order, Stream};
use crate::engine::monitor::{Unanswered, dialable};
use crate::engine::nats_config::node_tag;
use crate::fault::chain;

/// An answer takes so long at most: of a list, the servers wait for each other's part themselves.
const ANSWER: Duration = Duration::from_secs(8);

/// A client of the API.
#[derive(Debug)]
pub struct Api {
    client: Client,
    at: SocketAddr,
}

/// Every stream, and the names of those that nobody leads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listed {
    /// With a leader.
    pub streams: Vec<Stream>,
    /// Without, or with two who believe to be it.
    pub missing: Vec<String>,
}

impl Api {
    /// At the server that takes clients at `at`.
    ///
    /// # Errors
    /// It cannot be reached within `deadline`.
    pub async fn connect(at: SocketAddr, deadline: Duration) -> Result<Self, Unanswered> {
        let at = dialable(at);
        let options = ConnectOptions::new()
            .name("forest-agent")
            .connection_timeout(deadline)
            .ignore_discovered_servers();
        let failed = |why| Unanswered { what: format!("connecting to nats://{at}"), why };
        match timeout(deadline, options.connect(format!("nats://{at}"))).await {
            Ok(Ok(client)) => Ok(Self { client, at }),
            Ok(Err(err)) => Err(failed(chain(&err))),
            Err(_) => Err(failed(format!("no answer within {} ms", deadline.as_millis()))),
        }
    }

    /// By a client that is connected to `at`.
    #[must_use]
    pub fn of(client: Client, at: SocketAddr) -> Self {
        Self { client, at }
    }

    /// Its client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Every stream there is.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn list(&self) -> Result<Listed, Unanswered> {
        let mut listed = Listed::default();
        let mut offset = 0;
        loop {
            let page = self.ask("STREAM.LIST", &json!({"offset": offset})).await?;
            let items = page.get("streams").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            listed.streams.extend(items.iter().filter_map(Stream::of));
            let missing = page.get("missing").and_then(Value::as_array).into_iter().flatten();
            listed.missing.extend(missing.filter_map(Value::as_str).map(str::to_owned));
            offset += items.len();
            let total = page
                .get("total")
                .and_then(Value::as_u64)
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or_default();
            if items.is_empty() || offset >= total {
                break;
            }
        }
        // An old server leaves out what nobody leads, and lists twice what two believe to lead.
        let names = self.names().await?;
        let led = |name: &String| listed.streams.iter().filter(|stream| stream.name == *name).count() == 1;
        listed.missing.extend(names.into_iter().filter(|name| !led(name)));
        listed.missing.sort();
        listed.missing.dedup();
        listed.streams.retain(|stream| !listed.missing.contains(&stream.name));
        Ok(listed)
    }

    /// The names of all streams, as the meta group knows them.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn names(&self) -> Result<Vec<String>, Unanswered> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let page = self.ask("STREAM.NAMES", &json!({"offset": names.len()})).await?;
            let found = page.get("streams").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let before = names.len();
            names.extend(found.iter().filter_map(Value::as_str).map(str::to_owned));
            let total = page.get("total").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
            if names.len() == before || names.len() >= total.unwrap_or_default() {
                return Ok(names);
            }
        }
    }

    /// Asks for what `stream` needs; `original` is its placement before it was pinned.
    ///
    /// # Errors
    /// No answer, or a refusal in the server's words.
    pub async fn order(
        &self,
        stream: &Stream,
        order: &Order,
        goes: &str,
        original: &Value,
    ) -> Result<(), Unanswered> {
        let name = &stream.name;
        let update = format!("STREAM.UPDATE.{name}");
        let (subject, body) = match order {
            Order::Settled | Order::Wait => return Ok(()),
            Order::StepDown => (format!("STREAM.LEADER.STEPDOWN.{name}"), Value::Null),
            Order::Lower(count) => (update, stream.with("num_replicas", (*count).into())),
            Order::GiveUp => (format!("STREAM.PEER.REMOVE.{name}"), json!({"peer": goes})),
            Order::Pin(node) => (update, stream.with("placement", json!({"tags": [node_tag(node)]}))),
            Order::Unpin => (update, stream.with("placement", original.clone())),
        };
        self.ask(&subject, &body).await.map(drop)
    }

    /// One question.
    ///
    /// # Errors
    /// No answer, or a refusal in the server's words.
    pub async fn ask(&self, subject: &str, body: &Value) -> Result<Value, Unanswered> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.request(&format!("$JS.API.{subject}"), body.into(), ANSWER).await
    }

    /// Sends `payload` to `subject`.
    ///
    /// # Errors
    /// No answer within `deadline`, or a refusal in the server's words.
    pub async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Value, Unanswered> {
        let reply = self.answer(subject, payload, deadline).await?;
        match reply.get("error") {
            Some(error) if !error.is_null() => {
                let why = error.get("description").and_then(Value::as_str).unwrap_or("refused").to_owned();
                Err(Unanswered { what: self.what(subject), why })
            }
            _ => Ok(reply),
        }
    }

    fn what(&self, subject: &str) -> String {
        format!("{subject} at nats://{}", self.at)
    }

    /// The same, a refusal being an answer too.
    ///
    /// # Errors
    /// No answer within `deadline`.
    pub async fn answer(
        &self,
        subject: &str,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Value, Unanswered> {
        let failed = |why| Unanswered { what: self.what(subject), why };
        let asked = timeout(deadline, self.client.request(subject.to_owned(), payload)).await;
        let message = asked
            .map_err(|_| failed(format!("no answer within {} s", deadline.as_secs())))?
            .map_err(|err| failed(chain(&err)))?;
        // A part of something larger is answered by nothing.
        if message.payload.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&message.payload).map_err(|err| failed(err.to_string()))
    }
}
