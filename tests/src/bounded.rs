//! Commands that a test runs to their end: bounded, so that one that hangs fails its test and shows what it said.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crate::wait::pause;

/// So long a whole command may take; only one that hangs reaches it.
const LIMIT: Duration = Duration::from_secs(600);

/// A command that runs, its output kept. Dropped, it is killed.
#[derive(Debug)]
pub struct Started {
    child: Child,
    said: [File; 2],
    what: String,
}

impl Started {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn new(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        let said = [(); 2].map(|()| tempfile::tempfile().expect("a file for its output"));
        let [out, err] = said.each_ref().map(|file| Stdio::from(file.try_clone().expect("its descriptor")));
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|err| panic!("{what}: {err}"));
        Self { child, said, what }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with -9; how it ended, which may have been sooner.
    ///
    /// # Panics
    /// If the system does not let us.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it is gone")
    }

    /// How it has ended, if it has.
    ///
    /// # Panics
    /// If the system cannot tell.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child")
    }

    /// What it has said so far, and how it has ended, once it has.
    ///
    /// # Panics
    /// If it does not end in ten minutes.
    #[must_use]
    #[track_caller]
    pub fn ended(mut self) -> Output {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.has_ended() {
                let [stdout, stderr] = self.said();
                return Output { status, stdout, stderr };
            }
            if begun.elapsed() >= LIMIT {
                let [out, err] = self.said().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                panic!("{} hangs, having said\n{out}\n{err}", self.what);
            }
            pause();
        }
    }

    fn said(&mut self) -> [Vec<u8>; 2] {
        self.said.each_mut().map(|file| {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("its output is read");
            bytes
        })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be run, or does not end in ten minutes.
#[must_use]
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    Started::new(command).ended()
}
