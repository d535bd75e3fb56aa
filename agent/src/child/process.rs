//! One process, held by a pidfd: its end is awaited and signals are sent without ever meeting another process
//! that got the same pid.
//!
//! It does not rest on `std::process::Child`: after an exec of the agent its children are still its children,
//! and nobody has the `Child` any more. Of a process that another parent has reaped (the agent that started it
//! died) only the end is known, not the code.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::record::ProcessId;

/// How a process ended; both `None` where nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Exit {
    /// Its exit code.
    pub(super) code: Option<i32>,
    /// The signal that ended it.
    pub(super) signal: Option<i32>,
}

/// What /proc/PID/stat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// One letter; `Z`: a zombie.
    pub(super) state: char,
    /// The parent.
    pub(super) parent: i32,
    /// The process group.
    pub(super) group: i32,
    /// Clock ticks since boot.
    pub(super) start_time: u64,
}

/// Reads /proc/PID/stat.
pub(super) fn stat(pid: i32) -> io::Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown form of stat"))
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The second field is the program's name in brackets and may hold anything, brackets too.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

/// The id of this boot.
pub(super) fn boot_id() -> io::Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

/// A pidfd of `pid`.
pub(super) fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// KILL, through a pidfd. One that is gone is no failure.
pub(super) fn kill(fd: impl AsFd) -> io::Result<()> {
    match pidfd_send_signal(fd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

/// Is the process behind `fd` gone, or gone within `wait`? A zombie is gone.
pub(super) fn gone(fd: impl AsFd, wait: std::time::Duration) -> bool {
    let wait = Timespec::try_from(wait).ok();
    let fd = fd.as_fd();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], wait.as_ref()).is_ok_and(|ready| ready > 0)
}

/// A living child.
#[derive(Debug)]
pub(super) struct Process {
    id: ProcessId,
    fd: AsyncFd<OwnedFd>,
    own: bool,
}

impl Process {
    /// Takes over the process `id`, whose pidfd is `fd`. Called within a tokio runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, which this workspace forbids; an OwnedFd keeps what that one asks for"
    )]
    pub(super) fn new(id: ProcessId, fd: OwnedFd) -> io::Result<Self> {
        let own = !matches!(peek(&fd), Err(rustix::io::Errno::CHILD));
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self { id, fd, own })
    }

    /// Its pid.
    pub(super) fn pid(&self) -> u32 {
        self.id.pid.unsigned_abs()
    }

    /// Waits for its end. It stays a zombie, and its pid its own, until [`Process::bury`]. Cancel-safe.
    pub(super) async fn exited(&self) -> Exit {
        loop {
            let ready = self.fd.readable().await;
            if gone(self.fd.get_ref(), std::time::Duration::ZERO) {
                return peek(self.fd.get_ref()).ok().flatten().unwrap_or_default();
            }
            if let Ok(mut ready) = ready {
                ready.clear_ready();
            }
        }
    }

    /// Asks it, and not its group, to end.
    pub(super) fn term(&self) -> io::Result<()> {
        match pidfd_send_signal(self.fd.get_ref(), Signal::TERM) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    /// Kills it, and its group where that is safe: only an own child's pid, and so its group's, cannot have been
    /// given to others. What an adopted one leaves behind is found by its token.
    pub(super) fn kill(&self) -> io::Result<()> {
        kill(self.fd.get_ref())?;
        self.kill_group();
        Ok(())
    }

    /// After [`Process::exited`]: kills what is left of its group, and reaps it.
    pub(super) fn bury(self) {
        self.kill_group();
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // Not ours: its parent reaps it.
        let _ = waitid(WaitId::PidFd(self.fd.get_ref().as_fd()), options);
    }

    fn kill_group(&self) {
        if let Some(group) = Pid::from_raw(self.id.pid).filter(|_| self.own) {
            // Nobody left in it is the usual case.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// How it ended, leaving it a zombie; `Ok(None)`: it lives; ECHILD: not our child.
fn peek(fd: &OwnedFd) -> rustix::io::Result<Option<Exit>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::PidFd(fd.as_fd()), options)?;
    Ok(status.map(|status| Exit { code: status.exit_status(), signal: status.terminating_signal() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_program_with_a_nasty_name() {
        let fields: Vec<String> = (3..=22).map(|n| n.to_string()).collect();
        let text = format!("7 (a) R 1 (b)) S {}", fields[1..].join(" "));
        let expected = Stat { state: 'S', parent: 4, group: 5, start_time: 22 };
        assert_eq!(parse_stat(&text), Some(expected));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn this_process_is_alive_and_nobodys_child_of_ours() {
        let pid = std::process::id().cast_signed();
        assert!(stat(pid).unwrap().start_time > 0);
        let fd = open(pid).unwrap();
        assert!(!gone(&fd, std::time::Duration::ZERO));
        assert_eq!(peek(&fd), Err(rustix::io::Errno::CHILD));
    }
}
