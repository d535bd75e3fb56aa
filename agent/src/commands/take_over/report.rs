//! What is told of a take-over that is done.

use forest_core::time::rfc3339;
use serde_json::{Value, json};

use crate::cluster::take_over::journal::{Carried, Journal};
use crate::settings::Settings;

/// As `--json` has it.
pub(super) fn json(settings: &Settings, done: Option<&Journal>) -> Value {
    let streams = done.map(|journal| &journal.streams[..]).unwrap_or_default();
    let streams: Vec<Value> = streams
        .iter()
        .map(|stream| {
            let consumers: Vec<&str> =
                stream.consumers.iter().map(|position| position.name.as_str()).collect();
            let (messages, bytes) = (stream.extent.messages, stream.extent.bytes);
            json!({"name": stream.name, "messages": messages, "bytes": bytes, "consumers": consumers})
        })
        .collect();
    json!({
        "forest_id": settings.forest.as_str(), "node_id": settings.node.as_str(),
        "status": if done.is_some() { "taken_over" } else { "nothing_to_do" },
        "streams": streams,
        "left_behind": done.map(|journal| journal.left_behind.clone()).unwrap_or_default(),
        "kept_at": done.map(|journal| journal.aside.display().to_string()),
        "outage_seconds": done.and_then(Journal::outage),
        "error": null,
    })
}

/// For a person.
pub(super) fn text(settings: &Settings, done: Option<&Journal>) -> String {
    let Some(journal) = done else {
        return format!(
            "there is nothing to take over: {} holds no streams of a standalone server",
            settings.engine.data_dir.display()
        );
    };
    let streams = &journal.streams;
    let sum = |of: fn(&Carried) -> u64| streams.iter().map(of).sum::<u64>();
    let consumers: usize = streams.iter().map(|stream| stream.consumers.len()).sum();
    let mut text = format!(
        "{} took over {} with {} ({} MiB) and {}",
        settings.node,
        counted(streams.len() as u64, "stream"),
        counted(sum(|stream| stream.extent.messages), "message"),
        sum(|stream| stream.extent.bytes).div_ceil(1 << 20),
        counted(consumers as u64, "durable consumer"),
    );
    if let Some(outage) = journal.outage() {
        text.push_str(&format!("\nthey were away for {outage:.1} s, since {}", rfc3339(journal.begun)));
    }
    if !journal.left_behind.is_empty() {
        text.push_str(&format!("\nleft behind: {}", journal.left_behind.join(", ")));
    }
    text.push_str(&format!(
        "\nthe old store is kept at {}: delete it once you are sure",
        journal.aside.display()
    ));
    text
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
