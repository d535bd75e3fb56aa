//! Clearing away what dead holders left behind in the directory: prepared leases, files that were moved out of
//! one, half-written copies. The standing lease, the queue's file and the last good copies are none of these.

use jiff::Timestamp;

use super::document::join;
use super::door::{Door, DoorError, optional};
use super::fs::OLD;
use super::lease::{Context, GONE, PREPARED};
use super::restore::NEW;

/// Removes what is older than the limit; under the lease, once an update is done. What fails holds up nothing
/// else, and is left to the next.
pub(super) fn sweep(cx: &Context<'_>) {
    let names = cx.door.list("").unwrap_or_default();
    let ours = |name: &&String| [PREPARED, GONE, NEW, OLD].iter().any(|prefix| name.starts_with(prefix));
    for name in names.iter().filter(ours) {
        if let Err(err) = clear(cx, name) {
            tracing::debug!(%err, name, "cannot clear away what a dead holder left behind");
        }
    }
}

fn clear(cx: &Context<'_>, name: &str) -> Result<(), DoorError> {
    let Some(modified) = optional(cx.door.modified(name))? else {
        return Ok(());
    };
    if !is_old(modified, cx) {
        return Ok(());
    }
    tracing::info!(name, "clearing away what a dead holder left behind");
    clear_any(cx.door, name)
}

fn is_old(modified: Timestamp, cx: &Context<'_>) -> bool {
    let age = cx.clock.now().duration_since(modified);
    age.try_into().is_ok_and(|age: std::time::Duration| age >= cx.limits.stranded)
}

/// Doors say in many ways that they remove no directory as a file: what can be listed is one.
fn clear_any(door: &dyn Door, path: &str) -> Result<(), DoorError> {
    match optional(door.remove(path)) {
        Err(err) if door.list(path).is_err() => Err(err),
        Err(_) => clear_dir(door, path),
        Ok(_) => Ok(()),
    }
}

fn clear_dir(door: &dyn Door, dir: &str) -> Result<(), DoorError> {
    for name in optional(door.list(dir))?.unwrap_or_default() {
        clear_any(door, &join(dir, &name))?;
    }
    optional(door.rmdir(dir)).map(drop)
}
