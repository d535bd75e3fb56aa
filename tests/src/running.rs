//! A process that a test started: its log, its end, and the promise that nothing of it outlives the test.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use forest_agent::child::Command;
use forest_core::health::LastExit;
use rustix::process::{Pid, Signal};
use tokio::time::{Instant, sleep};

/// A bound on waiting that only a hang reaches.
pub const HANG: Duration = Duration::from_secs(60);

/// A child in a process group of its own, its output in a file. Dropped, the whole group is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command` with nothing of this process's environment but PATH, its output appended to `log`.
    ///
    /// # Errors
    /// The log cannot be opened or the program not be started.
    pub fn start(command: &Command, log: &Path) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = std::process::Command::new(&command.program)
            .args(&command.args)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(command.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&command.cwd)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Every line of its log so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }

    /// Sends `signal` to the process, not to its group.
    ///
    /// # Panics
    /// It has been reaped already.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the child has not been reaped");
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// It does not end within [`HANG`].
    pub async fn ended(&mut self) -> LastExit {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for a child") {
                return LastExit { code: status.code(), signal: status.signal(), time: String::new() };
            }
            assert!(begun.elapsed() < HANG, "still running:\n{}", self.lines().join("\n"));
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Does it still run?
    ///
    /// # Panics
    /// The system cannot tell.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("wait for a child").is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // Gone already: as it should be.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
