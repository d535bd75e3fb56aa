//! The only module with locks: the queue of updaters, and the one agent of a state directory. Both are flocks:
//! they end with the last descriptor of the open file, so also with the death of the process.
//!
//! A lock is polled, never waited for in the kernel, where no deadline reaches. CIFS answers EACCES for a lock
//! that is held, others EAGAIN or EWOULDBLOCK: all three mean the same here.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::clock::{Backoff, Clock, SystemClock};
use super::limits::Limits;

/// Tries once; `false`: another holds it.
#[expect(clippy::disallowed_methods, reason = "the one place where locks are taken")]
fn try_lock(file: &File) -> io::Result<bool> {
    match fs2::FileExt::try_lock_exclusive(file) {
        Ok(()) => Ok(true),
        Err(err) => match Errno::from_io_error(&err) {
            Some(Errno::ACCESS | Errno::AGAIN) => Ok(false),
            _ => Err(err),
        },
    }
}

/// Writes into a locked file who holds it; only a help for people, so a failure is none.
fn sign(file: &mut File, label: &str) {
    let signed = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(label.as_bytes()));
    if let Err(err) = signed {
        tracing::debug!(%err, "cannot write into a lock file who holds it");
    }
}

/// Who holds a lock, as far as the file can be read: CIFS denies it.
fn signature(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(200).read_to_string(&mut text));
    if read.is_err() || text.is_empty() { "unknown".to_owned() } else { text.trim().to_owned() }
}

/// The queue before the lease: a lock on a file of this machine, then one on a file of the share.
///
/// On CIFS a second opener of the share's lock file on the same host drops the first one's lock in silence, so
/// the share's file is opened only under the local lock. The queue is an order and no exclusion: whoever does
/// not get it in time goes on to the lease without.
#[derive(Debug)]
pub struct Queue {
    local: PathBuf,
    out_until: Mutex<Duration>,
}

/// A place at the head of the queue; dropping it lets the next one in.
#[derive(Debug)]
pub struct Turn {
    // Dropped in this order: the share's file must be closed before the next of this host opens it.
    _share: Locked,
    _local: Locked,
}

/// A locked file; dropped, it is unlocked, then closed.
#[derive(Debug)]
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // By name, not by closing alone: a child that was just forked may still have the descriptor.
        if let Err(err) = fs2::FileExt::unlock(&self.0) {
            tracing::debug!(%err, "cannot unlock a lock file of the registry's queue");
        }
    }
}

impl Queue {
    /// A queue whose first lock is the file at `local`, on this machine and one for each share. It is made when
    /// first stood in, its directory too.
    #[must_use]
    pub fn new(local: PathBuf) -> Self {
        Self { local, out_until: Mutex::new(Duration::ZERO) }
    }

    /// Stands in the queue; `share` opens the lock file on the share. `None`: not had in time, or left out.
    pub(super) fn stand(
        &self,
        share: impl FnOnce() -> io::Result<File>,
        clock: &dyn Clock,
        limits: &Limits,
        label: &str,
    ) -> Option<Turn> {
        let begun = clock.boottime();
        if begun < *self.out_until.lock().unwrap_or_else(PoisonError::into_inner) {
            return None;
        }
        let until = begun + limits.queue_wait;
        let open = || {
            if let Some(dir) = self.local.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            }
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&self.local)
        };
        let local = self.lock(open, until, clock, limits, label)?;
        let share = self.lock(share, until, clock, limits, label)?;
        Some(Turn { _share: share, _local: local })
    }

    fn lock(
        &self,
        open: impl FnOnce() -> io::Result<File>,
        until: Duration,
        clock: &dyn Clock,
        limits: &Limits,
        label: &str,
    ) -> Option<Locked> {
        match poll(open, until, clock, limits) {
            Ok(Ok(mut file)) => {
                sign(&mut file, label);
                return Some(Locked(file));
            }
            Ok(Err(holder)) => {
                tracing::warn!(holder, "the registry's queue was not had in time, going on without it");
            }
            Err(err) => tracing::warn!(%err, "the registry's queue cannot be used, going on without it"),
        }
        *self.out_until.lock().unwrap_or_else(PoisonError::into_inner) = clock.boottime() + limits.queue_out;
        None
    }
}

/// The locked file, or who held it until the end.
fn poll(
    open: impl FnOnce() -> io::Result<File>,
    until: Duration,
    clock: &dyn Clock,
    limits: &Limits,
) -> io::Result<Result<File, String>> {
    let mut file = open()?;
    let mut backoff = Backoff::new(limits.retry_min, limits.retry_max);
    while !try_lock(&file)? {
        if clock.boottime() >= until {
            return Ok(Err(signature(&mut file)));
        }
        backoff.wait(clock);
    }
    Ok(Ok(file))
}

/// How long an exec may take that nobody waits for any more: the program may lie on a slow disk.
const EXEC_WAIT: Duration = Duration::from_secs(10);
const EXEC_PAUSE: Duration = Duration::from_millis(5);

/// The lock that only one agent of a state directory has, with its pid in the file.
///
/// Across an exec it travels as standard input: [`Self::hand_over`] before, [`Self::from_inherited`] after. Any
/// other descriptor of it closes on exec, so no spawned child ever has it.
#[derive(Debug)]
pub struct InstanceLock {
    file: File,
    path: PathBuf,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another process has it.
    #[error("{} is held by {}", .path.display(), .pid.map_or("an unknown process".to_owned(), |pid| format!("pid {pid}")))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who has it, where the file tells.
        pid: Option<u32>,
    },
    /// The file cannot be opened or locked.
    #[error("cannot lock {}", .path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl InstanceLock {
    /// Takes the lock at `path`, whose file is made if need be and never removed. Where its holder is gone, and a
    /// child that it was just starting has the descriptor until its exec, that is waited for.
    ///
    /// # Errors
    /// [`InstanceError::Held`] names the process that has it.
    pub fn acquire(path: &Path) -> Result<Self, InstanceError> {
        let until = SystemClock.boottime() + EXEC_WAIT;
        loop {
            let open =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
            match Self::lock(open.map_err(|source| io_error(path, source))?, path) {
                Err(InstanceError::Held { pid: Some(pid), .. })
                    if is_gone(pid) && SystemClock.boottime() < until =>
                {
                    SystemClock.sleep(EXEC_PAUSE);
                }
                taken => return taken,
            }
        }
    }

    /// The lock that this process had before its exec, if standard input is it; standard input is then
    /// /dev/null again.
    ///
    /// # Errors
    /// [`InstanceError`] as for [`Self::acquire`].
    pub fn from_inherited(path: &Path) -> Result<Option<Self>, InstanceError> {
        let inherited = || -> io::Result<Option<File>> {
            let Some(file) = same_file(rustix::stdio::stdin().as_fd(), path)? else {
                return Ok(None);
            };
            rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
            Ok(Some(file))
        };
        match inherited().map_err(|source| io_error(path, source))? {
            Some(file) => Self::lock(file, path).map(Some),
            None => Ok(None),
        }
    }

    fn lock(mut file: File, path: &Path) -> Result<Self, InstanceError> {
        let path = path.to_owned();
        match try_lock(&file) {
            Ok(true) => {
                sign(&mut file, &format!("{}\n", std::process::id()));
                Ok(Self { file, path })
            }
            Ok(false) => Err(InstanceError::Held { pid: signature(&mut file).parse().ok(), path }),
            Err(source) => Err(InstanceError::Io { path, source }),
        }
    }

    /// The lock as standard input of the program that is about to be executed. This process keeps its own
    /// descriptor, so that a failed exec loses nothing.
    ///
    /// # Errors
    /// [`InstanceError::Io`] where no descriptor is left.
    pub fn hand_over(&self) -> Result<OwnedFd, InstanceError> {
        let copy = self.file.try_clone().map_err(|source| io_error(&self.path, source))?;
        Ok(copy.into())
    }
}

/// Does no process have this number? A zombie has it still.
fn is_gone(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

fn io_error(path: &Path, source: io::Error) -> InstanceError {
    InstanceError::Io { path: path.to_owned(), source }
}

/// A descriptor of its own for `fd`, if that is the file at `path`.
fn same_file(fd: impl AsFd, path: &Path) -> io::Result<Option<File>> {
    let file = File::from(rustix::io::fcntl_dupfd_cloexec(fd, 3)?);
    let (ours, named) = match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(named)) => (ours, named),
        (_, Err(err)) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        (Err(err), _) | (_, Err(err)) => return Err(err),
    };
    Ok(((ours.dev(), ours.ino()) == (named.dev(), named.ino())).then_some(file))
}

#[cfg(test)]
mod tests;
