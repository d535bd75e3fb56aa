//! Finds what an earlier agent left running, and clears away what a dead child left running.
//!
//! A record of this boot whose pid has the recorded start time is the child; is that process gone, then so is the
//! child, and what bears its token is left over from it. Everything else (a record without a pid, because the
//! agent died in between; a damaged or lost file) is resolved by reading /proc/*/environ for the child's token.
//! A process without the token is never touched, whatever its pid.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::process::{self, Stat};
use super::record::{ProcessId, Record};
use super::token;

/// How long the killed leftovers of a child may take to be gone before the next one is started regardless.
const LEFTOVERS_WAIT: Duration = Duration::from_secs(5);

/// How many milliseconds a process may be in the midst of an exec: few, but the machine may be a loaded one.
const EXEC_LOOKS: u32 = 500;

/// A child that lives already.
#[derive(Debug)]
pub(super) struct Adopted {
    /// The process.
    pub(super) id: ProcessId,
    /// Its pidfd.
    pub(super) fd: OwnedFd,
    /// Its token.
    pub(super) token: String,
    /// The digest of its command; `None` where no record tells.
    pub(super) command: Option<String>,
}

/// A process with a token of ours in its environment.
struct Bearer {
    id: ProcessId,
    fd: OwnedFd,
    stat: Stat,
    token: String,
}

/// The living child of that token prefix, if any; other starts of it still alive are killed. Blocks for some
/// milliseconds.
pub(super) fn adopt(record: Option<&Record>, prefix: &str) -> Option<Adopted> {
    let adopted = match record.map_or(Recorded::Unknown, recorded) {
        Recorded::Lives(adopted) => Some(adopted),
        Recorded::Gone(dead) => by_token(None, prefix, |token| token != dead),
        Recorded::Unknown => by_token(record, prefix, |_| true),
    };
    let token = adopted.as_ref().map(|adopted| adopted.token.as_str());
    clear(prefix, |bearer| Some(bearer) != token);
    adopted
}

/// Kills whatever still carries `token`: what a child that is gone has left behind.
pub(super) fn sweep(token: &str) {
    let prefix = token.split('.').next().unwrap_or_default();
    clear(prefix, |bearer| bearer == token);
}

/// What a record tells.
enum Recorded<'a> {
    Lives(Adopted),
    /// The process ended; whatever bears this token is not it.
    Gone(&'a str),
    /// Of another boot, or from before the process was known.
    Unknown,
}

fn recorded(record: &Record) -> Recorded<'_> {
    let Some(id) = record.process.filter(|_| process::boot_id().is_ok_and(|boot| boot == record.boot_id))
    else {
        return Recorded::Unknown;
    };
    // In this order: the pidfd is then of the process whose start time is read, or of one that is gone.
    let fd = process::open(id.pid);
    let stat = match process::stat(id.pid) {
        Ok(stat) => stat,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Recorded::Gone(&record.token),
        Err(_) => return Recorded::Unknown,
    };
    let ours = stat.parent == std::process::id().cast_signed();
    if stat.start_time != id.start_time || (stat.state == 'Z' && !ours) {
        return Recorded::Gone(&record.token);
    }
    fd.map_or(Recorded::Unknown, |fd| {
        Recorded::Lives(Adopted {
            id,
            fd,
            token: record.token.clone(),
            command: Some(record.command.clone()),
        })
    })
}

/// Of all bearers of a token that `may` be the child's the leader of its group, for a child's own children inherit the token; of several the oldest.
fn by_token(record: Option<&Record>, prefix: &str, may: impl Fn(&str) -> bool) -> Option<Adopted> {
    let leaders = bearers(prefix).into_iter().filter(|b| b.stat.group == b.id.pid && may(&b.token));
    let leader = leaders.min_by_key(|bearer| bearer.stat.start_time)?;
    let record = record.filter(|record| record.token == leader.token);
    Some(Adopted {
        id: leader.id,
        fd: leader.fd,
        token: leader.token,
        command: record.map(|record| record.command.clone()),
    })
}

/// Kills bearers until none is left, for a dying parent may have just made another.
fn clear(prefix: &str, unwanted: impl Fn(&str) -> bool) {
    let until = Instant::now() + LEFTOVERS_WAIT;
    loop {
        let mut left = bearers(prefix);
        left.retain(|bearer| unwanted(&bearer.token));
        if left.is_empty() || Instant::now() >= until {
            return;
        }
        for bearer in &left {
            tracing::warn!(pid = bearer.id.pid, "killing a process that a child left behind");
            if let Err(err) = process::kill(&bearer.fd) {
                tracing::warn!(pid = bearer.id.pid, %err, "cannot kill it");
            }
        }
        for bearer in &left {
            process::gone(&bearer.fd, until.saturating_duration_since(Instant::now()));
        }
    }
}

fn bearers(prefix: &str) -> Vec<Bearer> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter_map(|name| name.parse::<i32>().ok());
    pids.filter_map(|pid| bearer(pid, prefix)).collect()
}

/// Processes come and go while /proc is read: whatever fails here is gone, or not ours to look into.
fn bearer(pid: i32, prefix: &str) -> Option<Bearer> {
    token::find(&environ(pid)?, prefix)?;
    let fd = process::open(pid).ok()?;
    let stat = process::stat(pid).ok()?;
    // Read once more, now that the pidfd holds the process.
    let token = token::find(&environ(pid)?, prefix)?;
    let start_time = stat.start_time;
    let id = ProcessId { pid, start_time };
    Some(Bearer { id, fd, stat, token })
}

/// The environment. That of a process in the midst of an exec is empty, so one is not believed at first sight.
fn environ(pid: i32) -> Option<Vec<u8>> {
    let mut empty = 0;
    for _ in 0..EXEC_LOOKS {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        // Arguments are empty then, too. A kernel thread or a zombie, with neither, has no executable.
        std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let in_exec = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?.is_empty();
        empty += u32::from(!in_exec);
        if !environ.is_empty() || empty > 2 {
            return Some(environ);
        }
        process::gone(process::open(pid).ok()?, Duration::from_millis(1));
    }
    None
}
