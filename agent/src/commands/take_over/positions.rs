//! Where the consumers of a restored stream stand. nats-server 2.9.10 was seen, once in some fifty take-overs, to have one
//! at the beginning again; a restore once more sets it right.

use std::collections::{BTreeMap, BTreeSet};

use forest_core::reason::Reason;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{PAUSE, SETTLES, TakeOver, unanswered};
use crate::cluster::leave::api::Api;
use crate::cluster::take_over::journal::{Carried, Journal, Position, Progress};
use crate::cluster::take_over::machine::Found;
use crate::cluster::take_over::streams;
use crate::commands::Failure;
use crate::commands::output::explain;
use crate::fault::Fault;

/// So often in all a stream is restored once more.
const TRIES: u32 = 5;

impl TakeOver<'_> {
    /// A stream is restored once its consumers are where they were; else it is taken away, to be restored once more.
    pub(super) async fn verify(&self, api: &Api, journal: &mut Journal, name: &str) -> Result<(), Failure> {
        let Some(stream) = journal.streams.iter().find(|stream| stream.name == name) else { return Ok(()) };
        let behind = behind(api, stream).await;
        if behind.is_empty() {
            return self.progress(journal, name, Progress::Restored);
        }
        let behind = behind.join(", ");
        if self.undone.get() >= TRIES {
            let message = format!(
                "stream {name} is restored, and these of its consumers are not where they were: {behind}"
            );
            return Err(Fault::new(Reason::TakeOverFailed, message).into());
        }
        explain(&format!("consumers of {name} are not where they were ({behind}): it is restored once more"));
        self.undone.set(self.undone.get() + 1);
        self.progress(journal, name, Progress::Undoing)
    }

    /// Takes away a restored stream that holds exactly what its snapshot does. First nobody can write to it any more:
    /// what was acknowledged meanwhile would be lost with it. Where something was, it stays.
    pub(super) async fn undo(&self, api: &Api, journal: &mut Journal, name: &str) -> Result<(), Failure> {
        let Some(stream) = journal.streams.iter().find(|stream| stream.name == name) else { return Ok(()) };
        let hears = stream.config.get("subjects").and_then(serde_json::Value::as_array);
        // A mirror, and what has sources alone, gets again what it got meanwhile.
        let hears = hears.is_some_and(|subjects| !subjects.is_empty());
        let update = format!("STREAM.UPDATE.{name}");
        if hears {
            let mut deaf = stream.config.clone();
            deaf["subjects"] = json!([format!("take-over.{name}")]);
            api.ask(&update, &deaf).await.map_err(|err| unanswered(&err))?;
        }
        let found = streams::found(api, &BTreeSet::from([name.to_owned()])).await;
        let found = found.map_err(|err| unanswered(&err))?;
        if !is_as_noted(stream, &found) {
            explain(&format!("{name} was written to meanwhile: it stays as it is"));
            if hears {
                api.ask(&update, &stream.config).await.map_err(|err| unanswered(&err))?;
            }
            return self.progress(journal, name, Progress::Begun);
        }
        streams::delete(api, name).await.map_err(|err| unanswered(&err))
    }
}

fn is_as_noted(stream: &Carried, found: &BTreeMap<String, Found>) -> bool {
    let noted = &stream.extent;
    match found.get(&stream.name) {
        Some(Found::There { extent, .. }) => {
            (extent.messages, extent.last_seq, &extent.last_ts)
                == (noted.messages, noted.last_seq, &noted.last_ts)
        }
        _ => false,
    }
}

/// The consumers that do not come to be where they were, or further: they follow their stream after a moment.
async fn behind(api: &Api, stream: &Carried) -> Vec<String> {
    let until = Instant::now() + SETTLES;
    loop {
        let found = streams::positions(api, &stream.name).await;
        let missing: Vec<String> = match &found {
            Ok(found) => {
                let stands = |noted: &&Position| {
                    found.iter().any(|now| now.name == noted.name && now.ack_floor >= noted.ack_floor)
                };
                let missing = stream.consumers.iter().filter(|noted| !stands(noted));
                missing.map(|noted| noted.name.clone()).collect()
            }
            Err(_) => vec!["all, for they cannot be asked for".to_owned()],
        };
        if missing.is_empty() || Instant::now() >= until {
            return missing;
        }
        sleep(PAUSE).await;
    }
}
