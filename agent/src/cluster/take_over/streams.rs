//! Streams between a server and files: what there is, snapshots, restores. By JetStream's API alone, as any client
//! could.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use forest_core::reason::Reason;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::cluster::leave::api::Api;
use crate::cluster::take_over::journal::{Carried, Extent, Position, Progress};
use crate::cluster::take_over::machine::Found;
use crate::cluster::take_over::obstacles::Told;
use crate::engine::monitor::Unanswered;
use crate::fault::Fault;

/// Small enough for a server's smallest usual payload.
const CHUNK: usize = 128 << 10;
const ASK: Duration = Duration::from_secs(8);
/// A name of the meta group of which nobody has the stream.
const NOT_FOUND: u64 = 404;
/// The next chunk of a snapshot, or the server's word for one of a restore.
const NEXT: Duration = Duration::from_secs(60);
/// After its last chunk a stream is unpacked, read through and, in a cluster, voted for.
const UNPACKED: Duration = Duration::from_secs(600);

/// All streams as STREAM.LIST tells of them.
///
/// # Errors
/// No answer, or a refusal.
pub async fn list(api: &Api) -> Result<Vec<Value>, Unanswered> {
    let mut streams = Vec::new();
    loop {
        let page = api.ask("STREAM.LIST", &json!({"offset": streams.len()})).await?;
        let items = page.get("streams").and_then(Value::as_array).cloned().unwrap_or_default();
        if items.is_empty() {
            return Ok(streams);
        }
        streams.extend(items);
        if number(&page, "/total") <= u64::try_from(streams.len()).unwrap_or(u64::MAX) {
            return Ok(streams);
        }
    }
}

/// What a survey wants to know of a stream.
#[must_use]
pub fn told(stream: &Value) -> Told {
    Told {
        name: name(stream),
        in_memory: stream.pointer("/config/storage").and_then(Value::as_str) == Some("memory"),
        bytes: number(stream, "/state/bytes"),
        // -1: nothing is reserved.
        max_bytes: number(stream, "/config/max_bytes"),
    }
}

fn name(stream: &Value) -> String {
    stream.pointer("/config/name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn extent(state: Option<&Value>) -> Extent {
    state.and_then(|state| serde_json::from_value(state.clone()).ok()).unwrap_or_default()
}

/// The durable consumers of a stream, by name.
///
/// # Errors
/// No answer, or a refusal.
pub async fn positions(api: &Api, stream: &str) -> Result<Vec<Position>, Unanswered> {
    let (mut positions, mut offset) = (Vec::new(), 0);
    loop {
        let page = api.ask(&format!("CONSUMER.LIST.{stream}"), &json!({"offset": offset})).await?;
        let items = page.get("consumers").and_then(Value::as_array).cloned().unwrap_or_default();
        offset += items.len();
        positions.extend(items.iter().filter_map(position));
        if items.is_empty() || number(&page, "/total") <= u64::try_from(offset).unwrap_or(u64::MAX) {
            positions.sort_by(|one, other| one.name.cmp(&other.name));
            return Ok(positions);
        }
    }
}

fn position(consumer: &Value) -> Option<Position> {
    let durable = consumer.pointer("/config/durable_name").and_then(Value::as_str)?;
    Some(Position {
        name: durable.to_owned(),
        ack_floor: number(consumer, "/ack_floor/stream_seq"),
        delivered: number(consumer, "/delivered/stream_seq"),
    })
}

/// Writes the snapshot of a stream, consumers and all, to `dir/file`; durable when this returns.
///
/// # Errors
/// `engine_store` where the server refuses or falls silent, `data_dir` where it cannot be written.
pub async fn snapshot(api: &Api, stream: &Value, dir: &Path, file: &str) -> Result<Carried, Fault> {
    let name = name(stream);
    let silent =
        |why: String| Fault::new(Reason::EngineStore, format!("the snapshot of stream {name}: {why}"));
    let consumers = positions(api, &name).await.map_err(|err| silent(err.to_string()))?;
    let client = api.client();
    let inbox = client.new_inbox();
    let mut chunks = client.subscribe(inbox.clone()).await.map_err(|err| silent(err.to_string()))?;
    let order = json!({"deliver_subject": inbox, "no_consumers": false, "chunk_size": CHUNK, "jsck": true});
    let reply =
        api.ask(&format!("STREAM.SNAPSHOT.{name}"), &order).await.map_err(|err| silent(err.to_string()))?;
    let path = dir.join(file);
    let unwritten =
        |err: std::io::Error| Fault::new(Reason::DataDir, format!("cannot write {}: {err}", path.display()));
    let mut out = tokio::fs::File::create(&path).await.map_err(unwritten)?;
    loop {
        let chunk = timeout(NEXT, chunks.next()).await;
        let chunk = chunk.map_err(|_| silent(format!("nothing came for {} s", NEXT.as_secs())))?;
        let chunk = chunk.ok_or_else(|| silent("the connection closed".to_owned()))?;
        if chunk.payload.is_empty() {
            // New servers say here how it ended.
            match (chunk.status.map(|status| status.as_u16()), chunk.description) {
                (None | Some(204), _) => break,
                (Some(code), why) => return Err(silent(format!("{code} {}", why.unwrap_or_default()))),
            }
        }
        out.write_all(&chunk.payload).await.map_err(unwritten)?;
        if let Some(reply) = chunk.reply {
            client.publish(reply, Bytes::new()).await.map_err(|err| silent(err.to_string()))?;
        }
    }
    out.sync_all().await.map_err(unwritten)?;
    let of = |key: &str| reply.get(key).or_else(|| stream.get(key)).cloned().unwrap_or_default();
    let (config, state) = (of("config"), of("state"));
    let extent = extent(Some(&state));
    let progress = Progress::Waiting;
    Ok(Carried { name, snapshot: file.to_owned(), config, state, extent, consumers, progress })
}

/// Asks for a stream to be restored from `dir`; what came of it, as the server tells.
///
/// # Errors
/// `take_over_failed` with the server's words, `data_dir` where the snapshot cannot be read.
pub async fn restore(api: &Api, stream: &Carried, dir: &Path) -> Result<Extent, Fault> {
    let failed = |err: Unanswered| {
        Fault::new(Reason::TakeOverFailed, format!("stream {} is not restored: {err}", stream.name))
    };
    let order = json!({"config": stream.config, "state": stream.state});
    let reply = api.ask(&format!("STREAM.RESTORE.{}", stream.name), &order).await.map_err(failed)?;
    let subject = reply.get("deliver_subject").and_then(Value::as_str).unwrap_or_default().to_owned();
    let path = dir.join(&stream.snapshot);
    let unread =
        |err: std::io::Error| Fault::new(Reason::DataDir, format!("cannot read {}: {err}", path.display()));
    let mut file = tokio::fs::File::open(&path).await.map_err(unread)?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await.map_err(unread)?;
        let last = chunk.is_empty();
        let deadline = if last { UNPACKED } else { NEXT };
        let reply = api.request(&subject, chunk.into(), deadline).await.map_err(failed)?;
        if last {
            return Ok(extent(reply.get("state")));
        }
    }
}

/// The streams of these names, as the forest has them.
///
/// # Errors
/// No answer, or a refusal.
pub async fn found(api: &Api, names: &BTreeSet<String>) -> Result<BTreeMap<String, Found>, Unanswered> {
    let mut found = BTreeMap::new();
    for name in api.names().await?.into_iter().filter(|name| names.contains(name)) {
        let subject = format!("$JS.API.STREAM.INFO.{name}");
        let info = api.answer(&subject, Bytes::new(), ASK).await?;
        let stream = if number(&info, "/error/code") == NOT_FOUND {
            Found::Half
        } else if info.get("error").is_some_and(|error| !error.is_null()) {
            let why = info.pointer("/error/description").and_then(Value::as_str).unwrap_or("refused");
            return Err(Unanswered { what: subject, why: why.to_owned() });
        } else {
            let consumers = positions(api, &name).await?;
            let consumers = consumers.into_iter().map(|position| position.name).collect();
            Found::There { extent: extent(info.get("state")), consumers }
        };
        found.insert(name, stream);
    }
    Ok(found)
}

/// Deletes a stream.
///
/// # Errors
/// No answer, or a refusal.
pub async fn delete(api: &Api, name: &str) -> Result<(), Unanswered> {
    api.ask(&format!("STREAM.DELETE.{name}"), &Value::Null).await.map(drop)
}
