//! The processes of a node, found in /proc by what only they have: an agent and its commands by the path of its
//! settings, a child of it by the agent's mark and a path of the node in its environment or command line. No file is needed for
//! it, so nothing escapes that a killed agent, or a killed morpheus, has left behind.
//!
//! A process is held by a pidfd, opened before it is looked at: no signal ever meets another one.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::layout::NodeDir;

/// What every child of an agent has in its environment.
const CHILD_MARK: &[u8] = b"FOREST_AGENT_CHILD=";
/// How often a process that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A living process.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    fd: OwnedFd,
}

/// The agents of a node: one, or none.
#[must_use]
pub fn agents(node: &NodeDir) -> Vec<Process> {
    let config = node.config();
    find(|pid| {
        let arguments = read(pid, "cmdline");
        let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
        arguments
            .windows(3)
            .any(|three| three == [b"run".as_slice(), b"--config", config.as_os_str().as_bytes()])
    })
}

/// What was asked of a node's agent by a command of its own and goes on, though whoever asked is gone: a `leave` that
/// follows its node out.
#[must_use]
pub fn commands(node: &NodeDir) -> Vec<Process> {
    let config = node.config();
    find(|pid| {
        let arguments = read(pid, "cmdline");
        let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
        let of_node = |two: &[&[u8]]| two == [b"--config".as_slice(), config.as_os_str().as_bytes()];
        arguments.windows(2).any(of_node) && !arguments.contains(&b"run".as_slice())
    })
}

/// What the agents of a node have started: engine and witness, and what those have started.
#[must_use]
pub fn children(node: &NodeDir) -> Vec<Process> {
    let mut inside = node.path().as_os_str().as_bytes().to_owned();
    inside.push(b'/');
    find(|pid| {
        let environment = read(pid, "environ");
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(CHILD_MARK))
            && (contains(&environment, &inside) || contains(&read(pid, "cmdline"), &inside))
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A process that is gone, or not ours to look into, has nothing to read; nor has a zombie.
fn read(pid: i32, file: &str) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn find(is_it: impl Fn(i32) -> bool) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pid = |name: &OsStr| name.to_str()?.parse::<i32>().ok();
    let pids = entries.flatten().filter_map(|entry| pid(&entry.file_name()));
    pids.filter(|pid| is_it(*pid))
        .filter_map(|pid| {
            Some(Process { pid, fd: pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()? })
        })
        // Once more, now that the pidfd holds it.
        .filter(|process| is_it(process.pid))
        .collect()
}

impl Process {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// The kernel's, where it may not be asked; one that is gone is no failure.
    pub fn term(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Asks it to execute its successor.
    ///
    /// # Errors
    /// As for [`Self::term`].
    pub fn hup(&self) -> io::Result<()> {
        self.signal(Signal::HUP)
    }

    /// The file that it executes; `None` where that cannot be seen.
    #[must_use]
    pub fn executable(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok()
    }

    /// Is `path` the name by which it was started?
    #[must_use]
    pub fn is_started_as(&self, path: &Path) -> bool {
        read(self.pid, "cmdline").split(|byte| *byte == 0).next() == Some(path.as_os_str().as_bytes())
    }

    /// Ends it.
    ///
    /// # Errors
    /// As for [`Self::term`].
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    fn is_gone(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Waits for its end; `false`: it lives on after `limit`.
    pub async fn gone_within(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while !self.is_gone() {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::layout::Layout;
    use super::*;

    #[tokio::test]
    async fn a_nodes_processes_are_found_ended_and_no_others() {
        let layout = Layout::new("/tmp/morpheus process test".into());
        let node = |n| layout.node(&"grove".parse().unwrap(), &format!("grove-node-{n}").parse().unwrap());
        let (one, ten) = (node(1), node(10));
        let sleeper = |script: &str, arguments: &[&OsStr]| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh"]).args(arguments).stdin(Stdio::piped());
            command
        };
        // `read` is the shell's own and waits for its standard input, which ends with the test.
        let wait = "read line; :";
        let config = ten.config();
        let mut agent =
            sleeper(wait, &[OsStr::new("run"), OsStr::new("--config"), config.as_os_str()]).spawn().unwrap();
        let mut child =
            sleeper(wait, &[ten.runtime().as_os_str()]).env("FOREST_AGENT_CHILD", "a.b").spawn().unwrap();
        let mut other = sleeper(wait, &[ten.runtime().as_os_str()]).spawn().unwrap();
        let leave = ["leave", "--json", "--config"].map(OsStr::new);
        let mut command = sleeper(wait, &leave).arg(config.as_os_str()).spawn().unwrap();

        let pids =
            |found: &[Process]| found.iter().map(|process| process.pid.unsigned_abs()).collect::<Vec<_>>();
        // A process that is just being executed has no command line for a moment.
        let until = Instant::now() + Duration::from_secs(60);
        let all = |node| [agents(node), children(node), commands(node)];
        while all(&ten).map(|found| pids(&found))
            != [agent.id(), child.id(), command.id()].map(|pid| vec![pid])
        {
            assert!(Instant::now() < until, "{:?}", all(&ten));
            std::thread::yield_now();
        }
        assert!(all(&one).iter().all(Vec::is_empty));
        for found in all(&ten) {
            found[0].term().unwrap();
            assert!(found[0].gone_within(Duration::from_secs(60)).await);
        }
        assert!(all(&ten).iter().all(Vec::is_empty), "a zombie is no process of a node");
        other.kill().unwrap();
        for process in [&mut agent, &mut child, &mut command, &mut other] {
            process.wait().unwrap();
        }
    }
}
