//! Putting a document in place: the last steps of an update, and the only ones that write what others read.

use super::document::Files;
use super::door::{Base, DoorError, Kind, Publish, optional};
use super::lease::{Context, Lease};

/// Steps 4 and 5; `false`: the lease was lost, or what stands there is another's. Of the document and its copy the one
/// that is good stays until the other is: where the copy is `restored`, the document comes first, since a holder who
/// dies while a file is replaced may leave none in its place.
pub(super) fn put(
    cx: &Context<'_>,
    lease: &Lease<'_>,
    files: &Files,
    bytes: &[u8],
    base: &Base,
    restored: bool,
) -> Result<bool, DoorError> {
    if !lease.stands()? {
        return Ok(false);
    }
    let (good, json) = (lease.good(), lease.json());
    // Both are staged before either is published: a full disk is met before anything is replaced.
    for staged in [&good, &json] {
        if optional(cx.door.stage(staged, bytes))?.is_none() {
            return Ok(false);
        }
    }
    let mut order = [(&good, &files.last_good, &Base::Any), (&json, &files.file, base)];
    if restored {
        order.reverse();
    }
    for (staged, target, base) in order {
        if !lease.in_time() {
            return Ok(false);
        }
        let publish = Publish { staged, target, bytes, base };
        match published(cx, lease, &publish) {
            Ok(()) => {}
            Err(err) if err.kind == Kind::Changed => return Ok(false),
            Err(err) if err.kind == Kind::NotFound => {
                let lost = optional(cx.door.read(staged))?.is_none();
                return if lost { Ok(false) } else { Err(err) };
            }
            Err(err) if err.kind == Kind::Ambiguous && holds(cx, target, bytes)? => {}
            Err(err) => return Err(err),
        }
    }
    cx.door.sync(&files.file)?;
    holds(cx, &files.file, bytes)
}

/// Publishes; what is refused only for a moment is tried again, for as long as the lease may be used: a server may
/// refuse to touch a file that somebody has open.
fn published(cx: &Context<'_>, lease: &Lease<'_>, publish: &Publish<'_>) -> Result<(), DoorError> {
    let mut backoff = cx.backoff();
    loop {
        match cx.door.publish(publish) {
            Err(err) if may_pass(err.kind) && lease.in_time() => {
                tracing::debug!(%err, "trying again");
                backoff.wait(cx.clock);
            }
            result => return result,
        }
    }
}

/// What a server says while somebody has the file open: that staging was allowed is known.
fn may_pass(kind: Kind) -> bool {
    matches!(kind, Kind::Denied | Kind::Exists | Kind::Other)
}

fn holds(cx: &Context<'_>, path: &str, bytes: &[u8]) -> Result<bool, DoorError> {
    Ok(optional(cx.read(|| cx.door.read(path)))?.is_some_and(|(found, _)| found == bytes))
}
