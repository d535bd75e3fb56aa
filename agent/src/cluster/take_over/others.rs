//! Servers that still run on a store, found in /proc: one that goes on would write past the snapshots.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A process that has to do with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its pid.
    pub pid: u32,
    /// Its command line.
    pub command: String,
}

/// Processes that have a file of the store in `data_dir` open, and servers that were started with that directory, or
/// with a configuration that names it. Of other users' processes only root sees all.
#[must_use]
pub fn on(data_dir: &Path) -> Vec<Other> {
    let real = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    let own = std::process::id();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own).filter_map(|pid| look(pid, &real, data_dir)).collect()
}

fn look(pid: u32, real: &Path, named: &Path) -> Option<Other> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let arguments = fs::read(proc.join("cmdline")).unwrap_or_default();
    let arguments: Vec<&[u8]> =
        arguments.split(|byte| *byte == 0).filter(|argument| !argument.is_empty()).collect();
    let serves = arguments.first().is_some_and(|program| program.ends_with(b"nats-server"));
    let names = |text: &[u8]| [real, named].iter().any(|path| mentions(text, path.as_os_str().as_bytes()));
    let is_it = has_open(&proc, &real.join("jetstream"))
        || serves
            && (arguments.iter().skip(1).any(|argument| names(argument))
                || configuration(&proc, &arguments).is_some_and(|text| names(&text)));
    let words = arguments.iter().map(|argument| String::from_utf8_lossy(argument).into_owned());
    is_it.then(|| Other { pid, command: words.collect::<Vec<_>>().join(" ") })
}

/// Who has but a directory open, looks: the agent does.
fn has_open(proc: &Path, dir: &Path) -> bool {
    let open = fs::read_dir(proc.join("fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|path| path.starts_with(dir) && path.is_file())
}

/// The text of the configuration that a server was started with.
fn configuration(proc: &Path, arguments: &[&[u8]]) -> Option<Vec<u8>> {
    let flag =
        arguments.iter().position(|argument| [&b"-c"[..], b"--config", b"-config"].contains(argument))?;
    let file = Path::new(std::ffi::OsStr::from_bytes(arguments.get(flag + 1)?));
    let cwd = fs::read_link(proc.join("cwd")).unwrap_or_default();
    fs::read(cwd.join(file)).ok()
}

/// `path` is in `text`, as a whole: `/srv/nats` is not in `/srv/nats-2`.
fn mentions(text: &[u8], path: &[u8]) -> bool {
    let ends =
        |next: Option<&u8>| next.is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"-_.".contains(byte));
    text.windows(path.len()).enumerate().any(|(at, window)| window == path && ends(text.get(at + path.len())))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_path_is_mentioned_as_a_whole() {
        assert!(mentions(b"store_dir: \"/srv/nats\"", b"/srv/nats"));
        assert!(mentions(b"--store_dir=/srv/nats/", b"/srv/nats"));
        assert!(!mentions(b"store_dir: /srv/nats-2", b"/srv/nats") && !mentions(b"", b"/srv/nats"));
    }

    #[test]
    fn who_has_a_file_of_it_open_is_found_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("jetstream")).unwrap();
        let file = fs::File::create(dir.path().join("jetstream/1.blk")).unwrap();
        // What other tests start has this file open too, until it is executed.
        let found = |pid: u32| on(dir.path()).into_iter().find(|other| other.pid == pid);
        assert_eq!(found(std::process::id()), None);
        let mut holder = Command::new("sh")
            .args(["-c", "read line; :", "holder"])
            .stdin(Stdio::piped())
            .stdout(file)
            .spawn()
            .unwrap();
        // A process that is just being executed has no command line for a moment.
        let until = Instant::now() + Duration::from_secs(60);
        while !found(holder.id()).is_some_and(|seen| seen.command.ends_with("holder")) {
            assert!(Instant::now() < until, "{:?}", found(holder.id()));
            std::thread::yield_now();
        }
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(found(holder.id()), None);
    }
}
