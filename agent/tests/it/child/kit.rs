//! A place for one child, and waiting with a bound.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use forest_agent::child::{ChildPhase, ChildStatus, Children, Command, Limits, SupervisorHandle};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before the test says that it hangs.
pub(super) const BOUND: Duration = Duration::from_secs(60);

/// A script that lives until it is ended.
pub(super) const LIVES: &str = "echo up; exec sleep 1000";

/// A state directory with a script in it. Dropped, it kills whatever was started in it.
pub(super) struct Place {
    pub(super) dir: tempfile::TempDir,
}

impl Place {
    pub(super) fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir };
        place.script(script);
        place
    }

    /// Puts another script in place of the one that is there, as an upgrade does it.
    pub(super) fn script(&self, body: &str) {
        put_program(&self.program(), &format!("#!/bin/sh\n{body}\n"));
    }

    pub(super) fn program(&self) -> PathBuf {
        self.dir.path().join("script")
    }

    pub(super) fn records(&self) -> PathBuf {
        self.dir.path().join("children.json")
    }

    /// Runs the script. Its working directory tells what belongs to this test.
    pub(super) fn command(&self) -> Command {
        Command::new(self.program()).cwd(self.dir.path())
    }

    /// What the next agent does.
    pub(super) fn supervise(&self) -> SupervisorHandle {
        supervise(self.dir.path())
    }

    /// Leaders of process groups that were started here and live.
    pub(super) fn leaders(&self) -> Vec<i32> {
        let pids = self.pids();
        pids.into_iter().filter(|pid| group(*pid) == Some(*pid)).collect()
    }

    /// All processes that were started here and live.
    pub(super) fn pids(&self) -> Vec<i32> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let here = |pid: &i32| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == self.dir.path())
        };
        pids.filter(here).filter(|pid| alive(*pid)).collect()
    }

    /// Those that have come to their last program, `sleep`: a process in the midst of an exec shows nothing of its
    /// own, and is waited for by the agent for a while only.
    pub(super) fn sleepers(&self) -> Vec<i32> {
        let sleeps = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0")
        };
        self.pids().into_iter().filter(sleeps).collect()
    }

    /// Waits until nothing that was started here is left.
    pub(super) async fn nothing_left(&self) {
        eventually("nothing is left", || self.pids().is_empty()).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for pid in self.pids() {
            signal(pid, Signal::KILL);
        }
    }
}

/// Puts an executable in place of whatever is at `path`. A process of its own writes it: what this one has open for
/// writing every child has open that another test is just starting, and such a file cannot be executed.
pub(super) fn put_program(path: &Path, text: &str) {
    let write = "printf %s \"$3\" >\"$1\" && chmod 755 \"$1\" && mv \"$1\" \"$2\"";
    let temp = path.with_extension("new");
    let mut shell = std::process::Command::new("/bin/sh");
    let status = shell.args(["-c", write, "sh"]).args([&temp, path]).arg(text).status();
    assert!(status.unwrap().success());
}

/// A process that is no agent's child. Dropped, it is killed.
pub(super) struct Stranger(std::process::Child);

impl Stranger {
    pub(super) fn start(command: &mut std::process::Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    pub(super) fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child of `dir`, with limits that make a test short.
pub(super) fn supervise(dir: &Path) -> SupervisorHandle {
    let env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    let children = Children::open(dir, dir, env).unwrap();
    children.supervise("engine", limits()).unwrap()
}

fn limits() -> Limits {
    let mut limits = Limits {
        backoff_first: Duration::from_millis(10),
        backoff_max: Duration::from_millis(50),
        healthy_reset: Duration::from_millis(100),
        grace: Duration::from_secs(6),
        term_patience: Duration::from_millis(100),
        kill_wait: BOUND,
        ..Limits::default()
    };
    limits.log.poll = Duration::from_millis(20);
    limits
}

/// Waits until the status is as `wanted`.
pub(super) async fn wait_for(
    handle: &SupervisorHandle,
    what: &str,
    wanted: impl Fn(&ChildStatus) -> bool,
) -> ChildStatus {
    let mut status = handle.status();
    let found = tokio::time::timeout(BOUND, status.wait_for(|status| wanted(status))).await;
    match found {
        Ok(found) => found.unwrap().clone(),
        Err(_) => panic!("waited for {what}, found {:#?}", handle.status().borrow()),
    }
}

/// Waits until it runs, and gives its pid.
pub(super) async fn running(handle: &SupervisorHandle) -> i32 {
    let runs = |status: &ChildStatus| matches!(status.phase, ChildPhase::Running { .. });
    let status = wait_for(handle, "it runs", runs).await;
    status.pid().unwrap().cast_signed()
}

/// Waits until `condition` holds.
pub(super) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < BOUND, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Lives it? A zombie does not.
pub(super) fn alive(pid: i32) -> bool {
    fields(pid).is_some_and(|fields| fields[0] != "Z")
}

fn group(pid: i32) -> Option<i32> {
    fields(pid)?[2].parse().ok()
}

fn fields(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

pub(super) fn signal(pid: i32, signal: Signal) {
    // It may be gone already.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}
