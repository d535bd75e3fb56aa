//! One command at a time works on a forest.

use std::path::Path;

use forest_core::id::ForestId;
use forest_core::reason::Reason;
use forest_core::registry::{InstanceError, InstanceLock};

use super::layout::Layout;
use crate::failure::{Failure, chain};

/// The right to work on a forest, until it is dropped or the process ends.
#[derive(Debug)]
pub struct ForestLock(#[expect(dead_code, reason = "held for its drop")] InstanceLock);

/// Takes the lock of `forest`.
///
/// # Errors
/// [`Failure`] naming the process that has it.
pub fn acquire(layout: &Layout, forest: &ForestId) -> Result<ForestLock, Failure> {
    let path = layout.lock(forest);
    loop {
        match InstanceLock::acquire(&path) {
            Ok(lock) if is_ours(&path) => return Ok(ForestLock(lock)),
            // Whoever had it has removed the file in between.
            Ok(_) => {}
            Err(InstanceError::Held { pid, .. }) => {
                let who = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
                let message = format!("another morpheus{who} is at work on forest {forest}: wait for it");
                return Err(Failure::new(Reason::Busy, message));
            }
            Err(err) => return Err(Failure::new(Reason::LocalState, chain(&err))),
        }
    }
}

/// Does the file at `path` bear our sign? One that was locked after its removal is not there, or another's.
fn is_ours(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == std::process::id().to_string())
}

/// Removes the file of a lock that is held, for good.
///
/// # Errors
/// [`Failure`] where it cannot be removed.
pub fn remove(layout: &Layout, forest: &ForestId, held: ForestLock) -> Result<(), Failure> {
    let path = layout.lock(forest);
    let removed = std::fs::remove_file(&path).map_err(|err| Failure::state("remove", &path, &err));
    drop(held);
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_command_learns_who_is_at_work() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, grove) = (Layout::new(dir.path().to_owned()), "grove".parse().unwrap());
        let lock = acquire(&layout, &grove).unwrap();
        let err = acquire(&layout, &grove).unwrap_err();
        assert!(err.reason == Reason::Busy && err.message.contains(&std::process::id().to_string()), "{err}");
        acquire(&layout, &"elm".parse().unwrap()).unwrap();
        remove(&layout, &grove, lock).unwrap();
        assert!(!layout.lock(&grove).exists());
        acquire(&layout, &grove).unwrap();
    }
}
