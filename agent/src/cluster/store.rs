//! What a JetStream store on disk is: looked at, and set aside whole where another is to begin; never deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use forest_core::reason::Reason;

use crate::fault::Fault;

/// What a server makes in its store_dir.
const ROOT: &str = "jetstream";
/// Where a server keeps its part of the meta group, below its store_dir.
const META: &str = "jetstream/$SYS/_js_/_meta_";

/// What lies in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Nothing that a server would miss.
    Empty,
    /// A server in cluster mode has begun it, and nothing of a group is in it: one that never arrived, or one
    /// whose last writes a power cut took.
    Begun,
    /// A member's store.
    Clustered,
    /// Streams of a server that was part of no cluster: as a member's store they would be deleted.
    Standalone,
}

/// Looks at the store of a server whose store_dir is `dir`.
///
/// # Errors
/// `data_dir` where it cannot be read: then nobody knows whether it is empty.
pub fn look(dir: &Path) -> Result<Store, Fault> {
    let root = dir.join(ROOT);
    let meta = dir.join(META);
    if fs::exists(&meta).map_err(|err| unreadable(&root, &err))? {
        let joined = holds_bytes(&meta.join("msgs"))? || holds_bytes(&meta.join("snapshots"))?;
        return Ok(if joined { Store::Clustered } else { Store::Begun });
    }
    Ok(if streams(dir)?.is_empty() { Store::Empty } else { Store::Standalone })
}

/// Moves the store of a server that does not run out of the way, to a name that no server looks at; `None`: there is
/// nothing. `why` is part of the name.
///
/// # Errors
/// `data_dir` where it cannot be moved.
pub fn set_aside(dir: &Path, why: &str) -> Result<Option<PathBuf>, Fault> {
    if children(&dir.join(ROOT))?.is_empty() {
        return Ok(None);
    }
    let aside = free_name(dir, why);
    move_to(dir, &aside)?;
    Ok(Some(aside))
}

/// A name for a store that is to be moved aside, which nothing has yet.
#[must_use]
pub fn free_name(dir: &Path, why: &str) -> PathBuf {
    let names = (0..).map(|n| dir.join(format!("{ROOT}.{why}-{n}")));
    names.into_iter().find(|path| !path.exists()).unwrap_or_default()
}

/// Moves the store of a server that does not run to `aside`, beside it; durable when this returns.
///
/// # Errors
/// `data_dir` where it cannot be moved.
pub fn move_to(dir: &Path, aside: &Path) -> Result<(), Fault> {
    let root = dir.join(ROOT);
    let failed = |err: io::Error| {
        let message = format!("cannot move {} to {}: {err}", root.display(), aside.display());
        Fault::new(Reason::DataDir, message)
    };
    fs::rename(&root, aside).map_err(failed)?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

/// The streams in a store, by account; `$SYS`, which is the servers' own, is none.
///
/// # Errors
/// `data_dir` where it cannot be read.
pub fn streams(dir: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, Fault> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = BTreeMap::new();
    for account in children(&dir.join(ROOT))? {
        let streams: BTreeSet<String> =
            children(&account.join("streams"))?.iter().map(|stream| name(stream)).collect();
        if name(&account) != "$SYS" && !streams.is_empty() {
            found.insert(name(&account), streams);
        }
    }
    Ok(found)
}

/// Is there a file in `dir` that says something? The group's log and its snapshots are such files.
fn holds_bytes(dir: &Path) -> Result<bool, Fault> {
    for path in children(dir)? {
        let named =
            path.extension().is_some_and(|extension| extension == "blk") || dir.ends_with("snapshots");
        // A file that is gone again by now was no log.
        if named && fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn children(dir: &Path) -> Result<Vec<PathBuf>, Fault> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            let paths = entries.map(|entry| entry.map(|entry| entry.path()));
            paths.collect::<Result<_, _>>().map_err(|err| unreadable(dir, &err))
        }
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(err) => Err(unreadable(dir, &err)),
    }
}

fn unreadable(path: &Path, err: &io::Error) -> Fault {
    Fault::new(Reason::DataDir, format!("cannot tell what lies in {}: {err}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_four_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(&dir.path().join("nothing")), Ok(Store::Empty));
        fs::create_dir_all(dir.path().join("jetstream/$G/streams")).unwrap();
        assert_eq!(look(dir.path()), Ok(Store::Empty), "an account without streams");
        fs::create_dir(dir.path().join("jetstream/$G/streams/ORDERS")).unwrap();
        assert_eq!(look(dir.path()), Ok(Store::Standalone));
        let found = streams(dir.path()).unwrap();
        assert_eq!(found, [("$G".to_owned(), ["ORDERS".to_owned()].into())].into());
        let log = dir.path().join(META).join("msgs");
        fs::create_dir_all(&log).unwrap();
        fs::write(log.join("1.blk"), "").unwrap();
        fs::write(log.join("index.db"), "x").unwrap();
        assert_eq!(look(dir.path()), Ok(Store::Begun));
        fs::write(log.join("1.blk"), "x").unwrap();
        assert_eq!(look(dir.path()), Ok(Store::Clustered));
    }
}
