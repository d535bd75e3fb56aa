//! Virtual machines, for what only a whole machine shows: cloud-init, systemd, the kernel's CIFS, a power cut.
//!
//! ```text
//!   this process, in namespaces of its own (tools/vm.sh): network, mounts, processes
//!     br0 fd77::1 ── StorageBox: Samba :445 and Apache's WebDAV :443 on one directory
//!      ├─ tap1 ───── guest 1, fd77::11: User-Mode Linux, Debian 12, its disk a copy on write of the image
//!      └─ tap2 ───── guest 2, fd77::12
//! ```
//!
//! The namespaces end with this process, however it ends, and everything in them with them: guests, servers,
//! bridge, and the file system in memory on which all of it lies. Nothing is left but what [`Lab::keep`] saved.

pub mod guest;
pub mod lab;
pub mod storage_box;

pub use guest::{Guest, Host};
pub use lab::Lab;
pub use storage_box::StorageBox;

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Runs `program`, and gives what it printed.
///
/// # Errors
/// It cannot be started, or fails: with what it said.
pub(crate) fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{program} {}` failed: {}", args.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
