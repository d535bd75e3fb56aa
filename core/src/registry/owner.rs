//! Who holds a lease: enough to name the process to a person, and to know on the same machine that it is gone.
//! Reads /proc and nothing else.

use std::fmt;
use std::fs;
use std::sync::LazyLock;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

/// What tells this program from the one that this process was before an exec: both have the same number and start.
static IMAGE: LazyLock<String> = LazyLock::new(|| format!("{:016x}", rand::random::<u64>()));

/// One process of one boot of one machine. What could not be found out is empty or 0, and then never counts
/// as known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// What the process calls itself, such as `forest-agent grove-node-1`.
    #[serde(rename = "owner")]
    pub label: String,
    /// The machine's host name.
    pub host: String,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// The process.
    pub pid: u32,
    /// When it began, in clock ticks since boot: tells it from a later process of the same number.
    pub pid_start: u64,
    /// The namespace the number is valid in, such as `pid:[4026531836]`.
    pub pid_ns: String,
    /// The program the process runs, by an id that each exec makes anew. Only the process itself can compare it.
    pub image: String,
}

impl Owner {
    /// This process, under the name `label`.
    #[must_use]
    pub fn current(label: &str) -> Self {
        let pid = std::process::id();
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let pid_ns = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self {
            label: label.to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot_id: boot_id.trim().to_owned(),
            pid,
            pid_start: start_of(pid).unwrap_or_default(),
            pid_ns: pid_ns.to_string_lossy().into_owned(),
            image: IMAGE.clone(),
        }
    }

    /// Is the process, or the program it ran, certainly gone, as far as `here`, a process of this moment, can tell? Only for the same
    /// boot and the same namespace of process numbers; a process that cannot be looked at is not gone.
    #[must_use]
    pub fn is_gone(&self, here: &Owner) -> bool {
        let known = !self.boot_id.is_empty() && !self.pid_ns.is_empty() && self.pid_start != 0;
        if !known || self.boot_id != here.boot_id || self.pid_ns != here.pid_ns {
            return false;
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return false;
        };
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        if start_of(self.pid).is_some_and(|start| start != self.pid_start) {
            return true;
        }
        // This process, but before an exec?
        let same = (self.pid, self.pid_start) == (here.pid, here.pid_start);
        same && !self.image.is_empty() && self.image != here.image
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} (pid {})", self.label, self.host, self.pid)
    }
}

/// Field 22 of /proc/PID/stat; the command's name before it may hold anything, up to the last parenthesis.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_is_not_gone() {
        let me = Owner::current("test");
        assert!(me.pid_start > 0 && !me.boot_id.is_empty() && me.pid_ns.starts_with("pid:["));
        assert!(!me.is_gone(&me));
    }

    #[test]
    fn a_reaped_child_and_a_reused_number_are_gone() {
        let me = Owner::current("test");
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = Owner { pid: child.id(), ..me.clone() };
        assert!(dead.is_gone(&me));
        let reused = Owner { pid_start: me.pid_start + 1, ..me.clone() };
        assert!(reused.is_gone(&me));
    }

    #[test]
    fn the_program_before_an_exec_is_gone() {
        let me = Owner::current("test");
        let before = Owner { image: "0123456789abcdef".into(), ..me.clone() };
        assert!(before.is_gone(&me));
        assert!(!Owner { image: String::new(), ..me.clone() }.is_gone(&me), "an unknown one");
    }

    #[test]
    fn nothing_is_known_of_another_boot_or_namespace() {
        let me = Owner::current("test");
        let dead = Owner { pid_start: me.pid_start + 1, ..me.clone() };
        assert!(!Owner { boot_id: "other".into(), ..dead.clone() }.is_gone(&me));
        assert!(!Owner { pid_ns: "pid:[1]".into(), ..dead.clone() }.is_gone(&me));
        assert!(!Owner::default().is_gone(&Owner::default()));
    }
}
