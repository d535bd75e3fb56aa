//! The rotation of a forest's credentials: what is recorded while they are replaced, stage by stage, and which of
//! the old and the new ones hold at each. Pure.
//!
//! ```text
//!   (none) ──begin──► offered ──► accepted ──► done ──begin──► offered, of the next epoch
//!
//!   stage      routes are taken by   routes are dialed by   user of $SYS
//!   offered    old                   old and new            old
//!   accepted   new                   old and new            new
//!   done       new                   new                    new
//! ```
//!
//! A server takes routes by one password alone, so two stages that follow each other have to get on: whoever dials by
//! both gets in at either, and whoever is a stage behind, with nothing but a kept copy, too. Hence the next stage is
//! recorded only once every node has carried out the one before. `done` is the record without the old ones; that a
//! rotation was begun stays in it until all nodes are through, so that nobody begins another before. The user of
//! the system account is asked for by a node's own agent alone, so that both change at once, and a running server is
//! told of one change in all.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Credentials, Record, Secrets, credentials};
use crate::registry::Corrupt;
use crate::time::rfc3339;

/// How far a rotation has come. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// New credentials are there, beside the old ones.
    Offered,
    /// Routes are taken by the new password alone, and the system account has the new user alone.
    Accepted,
    /// The old credentials are gone from the record.
    Done,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Offered, Self::Accepted, Self::Done];

    /// The word for JSON and people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Accepted => "accepted",
            Self::Done => "done",
        }
    }

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage > self)
    }
}

/// Which rotation, and how far. Forests that were never rotated are done with epoch 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Progress {
    /// Counts the rotations of the forest.
    pub epoch: u64,
    /// How far it is.
    pub stage: Stage,
}

impl Progress {
    /// No rotation was ever begun.
    pub const NONE: Self = Self { epoch: 0, stage: Stage::Done };
}

/// A rotation that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// How far it is; never done.
    pub progress: Progress,
    /// How servers will know each other.
    pub route: Credentials,
    /// Who will be the user of the system account.
    pub sys: Credentials,
}

/// The credentials that hold now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce<'a> {
    /// By what a server takes routes, and dials them.
    pub accept: &'a Credentials,
    /// By what it dials them, too.
    pub beside: Option<&'a Credentials>,
    /// The user of the system account.
    pub sys: &'a Credentials,
}

impl Record {
    /// How far the last rotation is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match &self.rotation {
            Some(rotation) => rotation.progress,
            None => Progress { epoch: self.rotations, stage: Stage::Done },
        }
    }

    /// The credentials that hold now.
    #[must_use]
    pub fn in_force(&self) -> InForce<'_> {
        let old = InForce { accept: &self.route, beside: None, sys: &self.sys };
        match &self.rotation {
            None => old,
            Some(Rotation { progress, route, sys }) => match progress.stage {
                Stage::Offered => InForce { beside: Some(route), ..old },
                Stage::Accepted | Stage::Done => InForce { accept: route, beside: Some(&self.route), sys },
            },
        }
    }
}

impl Secrets {
    /// A rotation begins; `None` where one is under way, a node leaves or joins, or there is no forest.
    #[must_use]
    pub fn begin_rotation(&self, now: Timestamp) -> Option<Self> {
        let record = self.record()?;
        if record.is_rotating || record.leaving.is_some() || record.joining.is_some() {
            return None;
        }
        let epoch = record.rotations + 1;
        let (route, sys) = (Credentials::generate("route"), Credentials::generate("agent"));
        let mut text = self.text.clone();
        text.insert(
            "rotation".to_owned(),
            json!({
                "epoch": epoch,
                "stage": Stage::Offered.word(),
                "since": rfc3339(now),
                "route": route.json(),
                "sys": sys.json(),
            }),
        );
        Self::of(text).ok()
    }

    /// The rotation that has come to `from`, with all nodes, goes on, or is over; `None` where it is elsewhere by now.
    #[must_use]
    pub fn advance_rotation(&self, from: Progress) -> Option<Self> {
        let record = self.record().filter(|record| record.is_rotating && record.progress() == from)?;
        let mut text = self.text.clone();
        let Some(stage) = from.stage.next() else {
            text.insert("rotation".to_owned(), Value::Null);
            return Self::of(text).ok();
        };
        if let (Stage::Done, Some(rotation)) = (stage, &record.rotation) {
            for (key, value) in [("route", &rotation.route), ("sys", &rotation.sys)] {
                replace(&mut text, key, value);
            }
            text.insert("rotations".to_owned(), from.epoch.into());
        }
        let rotation = text.get_mut("rotation").and_then(Value::as_object_mut)?;
        rotation.insert("stage".to_owned(), stage.word().into());
        if stage == Stage::Done {
            rotation.retain(|key, _| key != "route" && key != "sys");
        }
        Self::of(text).ok()
    }
}

/// Other keys of the credentials stay.
fn replace(text: &mut Map<String, Value>, key: &str, credentials: &Credentials) {
    match (text.get_mut(key).and_then(Value::as_object_mut), credentials.json()) {
        (Some(old), Value::Object(new)) => old.extend(new),
        (None, new) => _ = text.insert(key.to_owned(), new),
        _ => {}
    }
}

pub(super) fn read(text: &Map<String, Value>) -> Result<(u64, Option<Rotation>, bool), Corrupt> {
    let number = |value: Option<&Value>, place: &str| match value {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_u64().ok_or_else(|| Corrupt(format!("{place} is not a whole number"))),
    };
    let rotations = number(text.get("rotations"), "rotations")?;
    let value = match text.get("rotation") {
        None | Some(Value::Null) => return Ok((rotations, None, false)),
        Some(value) => value,
    };
    let stage = value.get("stage").and_then(Value::as_str);
    let stage = Stage::ALL.into_iter().find(|known| Some(known.word()) == stage);
    let stage = stage.ok_or_else(|| Corrupt("rotation.stage is no stage of a rotation".to_owned()))?;
    if stage == Stage::Done {
        return Ok((rotations, None, true));
    }
    let epoch = number(value.get("epoch"), "rotation.epoch")?;
    let rotation = Rotation {
        progress: Progress { epoch, stage },
        route: credentials(value.get("route"), "rotation.route")?,
        sys: credentials(value.get("sys"), "rotation.sys")?,
    };
    Ok((rotations, Some(rotation), true))
}

#[cfg(test)]
mod tests;
