//! Processes of a test: looked at through /proc, signalled by pid, and ended with the test.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// Does a process with this pid run? A zombie does not.
#[must_use]
pub fn runs(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// Its state letter, `None` once it is gone.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// How many threads it has.
#[must_use]
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Sends a signal; a process that is gone is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// All processes whose command line or environment names `dir`: what a test's agents left behind.
#[must_use]
pub fn of_directory(dir: &Path) -> Vec<(u32, String)> {
    let name = dir.to_string_lossy().into_owned();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id() && runs(*pid))
        .filter_map(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let named = command.contains(&name) || String::from_utf8_lossy(&environment).contains(&name);
            named.then_some((pid, command))
        })
        .collect()
}
