//! What is next in a take-over, decided from its journal and what is seen. Pure.
//!
//! The rules: the store is moved only when every snapshot is whole and durable; a name for it is chosen before, so
//! that a store of that name is the one that was moved. A stream that the forest has, and was not asked for by this
//! take-over, is somebody else's and never touched; nor is one that holds messages which the snapshot cannot account
//! for. Measured on 2.9.10 and 2.15.1: a restore that was cut short leaves a name without a stream, which must be
//! deleted before another restore.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::store::Store;
use crate::cluster::take_over::journal::{Carried, Extent, Journal, Progress, Stage};

/// A stream of the forest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A name, and nobody who knows the stream: a restore that goes on, or was cut short.
    Half,
    /// It is there.
    There {
        /// What is in it.
        extent: Extent,
        /// Names of its consumers.
        consumers: BTreeSet<String>,
    },
}

/// Everything that the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// What was noted.
    pub journal: Option<&'a Journal>,
    /// What lies where the engine's store should be.
    pub store: Store,
    /// Is there anything where the store is to be moved to?
    pub aside_stands: bool,
    /// The forest's streams; `None`: not asked yet.
    pub streams: Option<&'a BTreeMap<String, Found>>,
}

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// There is no standalone store, and none was being taken over.
    Nothing,
    /// It was done before.
    Already,
    /// All snapshots are made, and then the store is moved aside.
    Read,
    /// It has been; that is noted.
    Moved,
    /// The forest is asked for its streams.
    Ask,
    /// This stream is restored.
    Restore(String),
    /// This one was restored in part: it is deleted, unless it comes to be whole by itself, then restored.
    Replace(String),
    /// This one was restored, and that is noted.
    Accept(String),
    /// This one was restored with consumers that are not where they were: it is taken away, unless it was written to.
    Undo(String),
    /// All streams are there, but those of these names: the forest has others, with so many messages before theirs end.
    Conflict(Vec<(String, u64)>),
    /// All are restored.
    Finish,
    /// The store is gone from its place, and not to where it was to go.
    Gone,
    /// Another standalone store was begun since.
    Another,
}

/// Decides.
#[must_use]
pub fn next(world: &World<'_>) -> Next {
    let standalone = world.store == Store::Standalone;
    let Some(journal) = world.journal else {
        return if standalone { Next::Read } else { Next::Nothing };
    };
    match journal.stage {
        Stage::Done if standalone => Next::Read,
        Stage::Done => Next::Already,
        Stage::Moving if world.aside_stands => Next::Moved,
        Stage::Reading | Stage::Moving if standalone => Next::Read,
        Stage::Reading | Stage::Moving => Next::Gone,
        Stage::Restoring if standalone => Next::Another,
        Stage::Restoring => restoring(journal, world.streams),
    }
}

fn restoring(journal: &Journal, streams: Option<&BTreeMap<String, Found>>) -> Next {
    let mut open = journal.streams.iter().filter(|stream| stream.progress != Progress::Restored).peekable();
    if open.peek().is_none() {
        return Next::Finish;
    }
    let Some(streams) = streams else { return Next::Ask };
    let mut conflicts = Vec::new();
    for stream in open {
        let name = stream.name.clone();
        match (stream.progress, streams.get(&name)) {
            (_, None) => return Next::Restore(name),
            (Progress::Begun, Some(found)) if is_whole(stream, found) => return Next::Accept(name),
            (Progress::Begun | Progress::Undoing, Some(found)) if last_seq(found) == 0 => {
                return Next::Replace(name);
            }
            (Progress::Undoing, Some(_)) => return Next::Undo(name),
            (_, Some(found)) => conflicts.push((name, last_seq(found))),
        }
    }
    Next::Conflict(conflicts)
}

fn is_whole(stream: &Carried, found: &Found) -> bool {
    let Found::There { extent, consumers } = found else { return false };
    // Of a stream in which nothing was, its consumers alone tell that it is the one.
    let has_all = || stream.consumers.iter().all(|position| consumers.contains(&position.name));
    extent.continues(&stream.extent) && (stream.extent.messages > 0 || has_all())
}

fn last_seq(found: &Found) -> u64 {
    match found {
        Found::Half => 0,
        Found::There { extent, .. } => extent.last_seq,
    }
}

#[cfg(test)]
mod tests;
