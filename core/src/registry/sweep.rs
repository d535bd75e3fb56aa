//! Clearing away what dead holders left behind in the directory: prepared leases, files that were moved out of
//! one, half-written copies. The standing lease, the queue's file and the last good copies are none of these.

use jiff::Timestamp;

use super::document::join;
use super::door::{Door, DoorError, optional};
use super::lease::{Context, GONE, PREPARED};
use super::restore::NEW;

/// Removes what is older than the limit; under the lease, once an update is done. What fails is left to the
/// next.
pub(super) fn sweep(cx: &Context<'_>) {
    let swept = cx.door.list("").and_then(|names| {
        let ours = |name: &&String| [PREPARED, GONE, NEW].iter().any(|prefix| name.starts_with(prefix));
        names.iter().filter(ours).try_for_each(|name| clear(cx, name))
    });
    if let Err(err) = swept {
        tracing::debug!(%err, "cannot clear away what dead holders left behind");
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
    if name.starts_with(PREPARED) {
        clear_dir(cx.door, name)
    } else {
        optional(cx.door.remove(name)).map(drop)
    }
}

fn is_old(modified: Timestamp, cx: &Context<'_>) -> bool {
    let age = cx.clock.now().duration_since(modified);
    age.try_into().is_ok_and(|age: std::time::Duration| age >= cx.limits.stranded)
}

fn clear_dir(door: &dyn Door, dir: &str) -> Result<(), DoorError> {
    for name in optional(door.list(dir))?.unwrap_or_default() {
        optional(door.remove(&join(dir, &name)))?;
    }
    optional(door.rmdir(dir)).map(drop)
}
