//! The test kit: morpheus with a home of its own, whose processes end with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A hang detector, not a figure.
const LONG: Duration = Duration::from_secs(60);

/// A home directory, and what runs below it.
pub(crate) struct Home(TempDir);

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The JSON it printed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }

    /// The same, after a look at the exit code.
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self(TempDir::with_prefix("morpheus.").expect("a temporary directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The local mode's directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.path().join(".local/state/morpheus/local")
    }

    /// morpheus with these arguments and nothing of the tester's environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_morpheus"));
        command.args(arguments).env_clear().current_dir(self.path());
        command.env("HOME", self.path()).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&self.command(arguments).output().expect("morpheus runs"))
    }

    /// `plant local` with stand-ins, and these arguments more.
    pub(crate) fn plant(&self, arguments: &[&str]) -> Command {
        let agent = Path::new(env!("CARGO_BIN_EXE_morpheus")).with_file_name("examples").join("fake-agent");
        assert!(agent.exists(), "{} is missing: `cargo test -p morpheus` builds it", agent.display());
        let mut command = self.command(&["plant", "local", "--engine-binary", "/bin/sh", "--agent-binary"]);
        command.arg(agent).args(arguments);
        command
    }

    pub(crate) fn planted(&self, arguments: &[&str]) -> Said {
        said(&mut self.plant(arguments))
    }

    /// The pids whose command line or environment has `part` of a path below this home.
    pub(crate) fn pids(&self, part: &str) -> Vec<i32> {
        let mark = self.path().join(".local/state").join("morpheus/local").join(part);
        let mark = mark.to_str().expect("a plain path").trim_end_matches('/').to_owned();
        let holds = |pid: i32, file: &str| {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&mark)
        };
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| holds(*pid, "cmdline") || holds(*pid, "environ")).collect()
    }

    /// The pids of a node's agents.
    pub(crate) fn agents(&self, forest: &str) -> Vec<i32> {
        let is_agent = |pid: &i32| {
            let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&text).contains("\0run\0--config\0")
        };
        self.pids(&format!("forests/{forest}/")).into_iter().filter(is_agent).collect()
    }

    /// The registry.
    pub(crate) fn registry(&self) -> Value {
        let text =
            std::fs::read_to_string(self.state().join("registry.json")).unwrap_or_else(|_| "{}".to_owned());
        serde_json::from_str(&text).expect("the registry parses at every moment")
    }

    /// Nothing of `forest` is left: no process, directory, record or entry.
    pub(crate) fn has_nothing_of(&self, forest: &str) {
        assert_eq!(self.pids(&format!("forests/{forest}")), [0; 0]);
        assert!(!self.state().join("forests").join(forest).exists());
        let registry = self.registry();
        assert_eq!((registry["forests"].get(forest), registry["nodes"].get(forest)), (None, None));
        let left = std::fs::read_dir(self.state()).expect("the state").flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        assert!(!left.contains(&format!(".{forest}.lock")), "{left:?}");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in self.pids("") {
            kill(pid);
        }
    }
}

pub(crate) fn said(command: &mut Command) -> Said {
    Said::of(&command.output().expect("morpheus runs"))
}

/// Kills one process.
pub(crate) fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // It may be gone.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Waits for `condition`, with a bound.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// Kills a running command as a power cut would, and reaps it.
pub(crate) fn cut(mut child: Child) {
    child.kill().expect("it can be killed");
    child.wait().expect("it can be reaped");
}
