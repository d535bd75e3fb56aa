//! Starts processes, all from one thread that lives as long as anyone may ask: what the kernel ties to a child's
//! parent (the parent-death signal) it ties to the thread that forked, and tokio's threads come and go. And a
//! program on a file system that hangs blocks this thread alone.
//!
//! A child gets a process group of its own, /dev/null for stdin, and its log file for the rest, opened with
//! O_APPEND. It keeps nothing of the agent open, so that neither notices the other's death.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use super::command::Command;
use super::log;
use super::mark;
use super::process;
use super::record::{ProcessId, Record, Records};
use super::token;
use crate::signals::unblocked;

/// Why a command cannot be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnErrorKind {
    /// The program is not there.
    Missing,
    /// The program is a directory or another thing that is no file.
    NotAFile,
    /// The program's file has no right to be executed.
    NotExecutable,
    /// The file is no program for this machine.
    WrongFormat,
    /// The interpreter or the loader that the program names is not there.
    InterpreterMissing,
    /// The system refuses it otherwise: a mount with noexec, a security module.
    Permission,
    /// The file is being written.
    Busy,
    /// The working directory is not there.
    WorkingDirectory,
    /// The log file cannot be opened.
    Log,
    /// The system refuses it for want of memory, processes or the like.
    Other,
}

/// A command that could not be started, said in full: the same text goes to the log and to /health.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpawnError {
    /// Which kind of failure.
    pub kind: SpawnErrorKind,
    /// Names the file and what the system said; a fragment for a person.
    pub message: String,
}

/// One order to the thread.
pub(super) struct Launch {
    /// The child's name in the records.
    pub(super) name: String,
    /// What to start.
    pub(super) command: Command,
    /// The token it will carry.
    pub(super) token: String,
    /// Where its output goes.
    pub(super) log: PathBuf,
}

/// A process that was started.
#[derive(Debug)]
pub(super) struct Started {
    /// The process.
    pub(super) id: ProcessId,
    /// Its pidfd.
    pub(super) fd: OwnedFd,
}

type Reply = oneshot::Sender<Result<Started, SpawnError>>;

/// The thread's handle. The thread ends with the last of them, after the orders it has.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    orders: mpsc::Sender<(Launch, Reply)>,
}

impl Spawner {
    /// Starts the thread. `base` is what every child has in its environment.
    pub(super) fn start(
        records: Arc<Records>,
        mark: PathBuf,
        base: Vec<(OsString, OsString)>,
    ) -> io::Result<Self> {
        let thread = Thread { records, mark, base };
        let (orders, inbox) = mpsc::channel::<(Launch, Reply)>();
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for (launch, reply) in inbox {
                // Nobody waits any more: the child is in the records, and the next agent's.
                let _ = reply.send(thread.start(&launch));
            }
        })?;
        Ok(Self { orders })
    }

    /// Orders a start. The answer comes even if nobody waits for it; then the child is recorded, and lives.
    pub(super) fn launch(&self, launch: Launch) -> oneshot::Receiver<Result<Started, SpawnError>> {
        let (reply, answer) = oneshot::channel();
        // A failed send drops the reply, which is an answer too.
        let _ = self.orders.send((launch, reply));
        answer
    }
}

/// What the thread works with.
struct Thread {
    records: Arc<Records>,
    mark: PathBuf,
    base: Vec<(OsString, OsString)>,
}

impl Thread {
    /// Records, spawns, records again: a kill between any two leaves a child that its token finds.
    fn start(&self, launch: &Launch) -> Result<Started, SpawnError> {
        let mut record = Record {
            token: launch.token.clone(),
            boot_id: process::boot_id().unwrap_or_default(),
            command: launch.command.digest(),
            process: None,
        };
        self.records.set(&launch.name, Some(record.clone()));
        let started = self.spawn(launch);
        record.process = started.as_ref().ok().map(|started| started.id);
        self.records.set(&launch.name, started.is_ok().then_some(record));
        started
    }

    fn spawn(&self, launch: &Launch) -> Result<Started, SpawnError> {
        let command = &launch.command;
        let log = log::open_or_make(&launch.log).map_err(|err| SpawnError {
            kind: SpawnErrorKind::Log,
            message: format!("cannot open the log {}: {err}", launch.log.display()),
        })?;
        let log2 = log.try_clone().map_err(|err| refused(command, &err))?;
        // Held by the child as well, until its exec; without it only a kill at this very moment goes unseen.
        let _mark = mark::take(&self.mark)
            .inspect_err(|err| tracing::warn!(path = %self.mark.display(), %err, "cannot mark a start"));
        let mut process = std::process::Command::new(&command.program);
        process
            .args(&command.args)
            .env_clear()
            .envs(self.base.iter().cloned())
            .envs(command.env.iter().cloned())
            .env(token::VARIABLE, &launch.token)
            .current_dir(&command.cwd)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log2)
            .process_group(0);
        let child = unblocked(|| process.spawn()).flatten().map_err(|err| refused(command, &err))?;
        hold(child).map_err(|err| refused(command, &err))
    }
}

/// A pidfd in place of the `Child`. It is not reaped before its pidfd says so, so the pid is its own all the while.
fn hold(mut child: std::process::Child) -> io::Result<Started> {
    let pid = child.id().cast_signed();
    let held = process::open(pid).and_then(|fd| Ok((fd, process::stat(pid)?.start_time)));
    match held {
        Ok((fd, start_time)) => Ok(Started { id: ProcessId { pid, start_time }, fd }),
        Err(err) => {
            // Out of descriptors, say. One that cannot be watched must not live beside the next.
            let _ = child.kill().and_then(|()| child.wait());
            Err(err)
        }
    }
}

fn refused(command: &Command, err: &io::Error) -> SpawnError {
    let kind = kind(command, err);
    let program = command.program.display();
    let message = match kind {
        SpawnErrorKind::Missing => format!("{program} is not there"),
        SpawnErrorKind::NotAFile => format!("{program} is not a file"),
        SpawnErrorKind::NotExecutable => format!("{program} is not executable: chmod +x it"),
        SpawnErrorKind::WrongFormat => format!("{program} is no program for this machine"),
        SpawnErrorKind::InterpreterMissing => format!("the interpreter that {program} names is not there"),
        SpawnErrorKind::WorkingDirectory => {
            format!("the working directory {} cannot be entered: {err}", command.cwd.display())
        }
        _ => format!("cannot start {program}: {err}"),
    };
    SpawnError { kind, message }
}

/// The error alone does not say whether program, interpreter or directory is meant.
fn kind(command: &Command, err: &io::Error) -> SpawnErrorKind {
    use rustix::io::Errno;

    if !command.cwd.is_dir() {
        return SpawnErrorKind::WorkingDirectory;
    }
    let found = std::fs::metadata(&command.program);
    let mode = found.as_ref().map_or(0, |found| found.permissions().mode());
    match (Errno::from_io_error(err), found) {
        (Some(Errno::NOENT), Ok(_)) => SpawnErrorKind::InterpreterMissing,
        (Some(Errno::NOENT | Errno::NOTDIR), _) => SpawnErrorKind::Missing,
        (Some(Errno::ACCESS), Ok(found)) if !found.is_file() => SpawnErrorKind::NotAFile,
        (Some(Errno::ACCESS), Ok(_)) if mode & 0o111 == 0 => SpawnErrorKind::NotExecutable,
        (Some(Errno::ACCESS | Errno::PERM), _) => SpawnErrorKind::Permission,
        (Some(Errno::NOEXEC), _) => SpawnErrorKind::WrongFormat,
        (Some(Errno::TXTBSY), _) => SpawnErrorKind::Busy,
        _ => SpawnErrorKind::Other,
    }
}
