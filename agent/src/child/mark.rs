//! The mark that a start is under way: a lock taken before the fork, whose descriptor the forked process keeps
//! until its exec closes it.
//!
//! Between fork and exec a process has no token yet. If its agent is killed just then it lives on and executes
//! the program a moment later, unseen by an agent that has looked too early. So the next agent looks only once it
//! has the mark: then every start of the last one has either its token or an end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::time::Instant;

/// How long an exec may take that nobody waits for any more: the program may lie on a slow disk.
const EXEC_WAIT: Duration = Duration::from_secs(10);

/// Holds the mark until it is dropped and every process that was forked meanwhile has come to its exec.
#[derive(Debug)]
pub(super) struct Mark {
    _file: File,
}

/// Takes the mark at `path`; `None`: a start is under way.
#[expect(
    clippy::disallowed_methods,
    reason = "no lock that anybody waits for: it tells whether a descriptor is still open in a forked process"
)]
pub(super) fn take(path: &Path) -> io::Result<Option<Mark>> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Mark { _file: file })),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Waits until no start is under way, but not for ever.
pub(super) async fn clear(path: &Path) {
    let until = Instant::now() + EXEC_WAIT;
    loop {
        match take(path) {
            Ok(Some(_)) => return,
            Ok(None) if Instant::now() < until => tokio::time::sleep(Duration::from_millis(5)).await,
            Ok(None) => {
                tracing::warn!(path = %path.display(), "an earlier agent's start still hangs: not waited for");
                return;
            }
            Err(err) => {
                tracing::warn!(path = %path.display(), %err, "cannot see whether a start is under way");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_start_under_way_is_waited_for_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("children.lock");
        let mark = take(&path).unwrap();
        assert!(mark.is_some() && take(&path).unwrap().is_none());
        let begun = Instant::now();
        clear(&path).await;
        assert!(begun.elapsed() >= EXEC_WAIT);
        drop(mark);
        assert!(take(&path).unwrap().is_some());
    }
}
