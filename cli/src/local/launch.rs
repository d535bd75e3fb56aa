//! Starting an agent that outlives the terminal: in a session of its own, its output in a file.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use forest_core::reason::Reason;

use super::layout::NodeDir;
use super::record::Programs;
use crate::failure::Failure;

/// Variables that would tell the agent of a service manager or of other settings than its own.
const NOT_INHERITED: [&str; 4] = ["JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "FOREST_AGENT_CONFIG"];

/// Makes the node's own link lead to the agent at `program`; whole at any moment.
///
/// # Errors
/// [`Failure`] where it cannot be made.
pub fn link(program: &Path, node: &NodeDir) -> Result<(), Failure> {
    let link = node.agent();
    if std::fs::read_link(&link).is_ok_and(|found| found == program) {
        return Ok(());
    }
    let new = link.with_extension("new");
    let failed = |err: std::io::Error| Failure::state("make", &link, &err);
    match std::fs::remove_file(&new) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(failed(err)),
        _ => {}
    }
    std::os::unix::fs::symlink(program, &new).map_err(failed)?;
    std::fs::rename(&new, &link).map_err(failed)
}

/// Starts the agent of a node. The process is the agent's from its first moment, by way of `morpheus detach`.
///
/// # Errors
/// [`Failure`] where the log cannot be opened or nothing be started.
pub fn start(programs: &Programs, node: &NodeDir) -> Result<Child, Failure> {
    link(&programs.agent, node)?;
    let path = node.agent_log();
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let log = log.map_err(|err| Failure::state("open", &path, &err))?;
    let copy = log.try_clone().map_err(|err| Failure::state("open", &path, &err))?;
    let failed =
        |err| Failure::new(Reason::AgentStart, format!("cannot start {}: {err}", programs.agent.display()));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    command
        .arg("detach")
        .arg(node.agent())
        .args([OsStr::new("run"), OsStr::new("--config"), node.config().as_os_str()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(copy)
        .spawn()
        .map_err(failed)
}

/// Leaves the terminal's session and becomes `program`. Only comes back where that fails; 127 as in a shell.
#[must_use]
pub fn become_program(program: &OsStr, arguments: &[OsString]) -> ExitCode {
    // A leader of its group cannot leave, and has none to leave from.
    let _ = rustix::process::setsid();
    let err = Command::new(program).args(arguments).exec();
    let _ = writeln!(std::io::stderr(), "cannot execute {}: {err}", program.to_string_lossy());
    ExitCode::from(127)
}
