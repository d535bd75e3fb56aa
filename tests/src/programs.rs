//! Executables that a test makes. Each is written by a process of its own: what this process has open for writing
//! is open as well in every child that another thread is just starting, and the kernel executes no file that
//! anybody has open for writing ("text file busy").

use std::path::Path;
use std::process::Command;

/// Puts a script in place of whatever is at `path`.
///
/// # Panics
/// If it cannot be written.
pub fn script(path: &Path, text: &str) {
    put(path, "printf %s \"$3\" >\"$1\" && chmod 755 \"$1\" && mv \"$1\" \"$2\"", text.as_ref());
}

/// Puts a copy of the executable `from` in place of whatever is at `path`.
///
/// # Panics
/// If it cannot be copied.
pub fn copy(from: &Path, path: &Path) {
    put(path, "cp \"$3\" \"$1\" && chmod 755 \"$1\" && mv \"$1\" \"$2\"", from.as_ref());
}

fn put(path: &Path, commands: &str, argument: &std::ffi::OsStr) {
    let temp = path.with_added_extension("new");
    let mut shell = Command::new("/bin/sh");
    let status = shell.args(["-c", commands, "sh"]).args([&temp, path]).arg(argument).status();
    assert!(status.expect("a shell").success(), "{} cannot be written", path.display());
}
