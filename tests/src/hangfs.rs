//! A file system that hangs or dies on command: it mirrors a directory, through FUSE, as a network share would.
//!
//! Nothing is cached: every access asks the file system. While it hangs, requests wait, as those to a lost server
//! do, and whoever waits can be killed; `fail_with` makes it answer every request with one errno, as a dead share
//! does. flock(2) is the kernel's own, local to this machine. Needs root and /dev/fuse, but neither libfuse nor
//! fusermount.
//!
//! Only the process that serves a file system cannot be killed while that hangs; should it come to that,
//! `umount -f` on the mountpoint lets it go.

mod gate;
mod handles;
mod mirror;
mod nodes;

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Context;
use fuser::{BackgroundSession, Config, Session, SessionACL};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use gate::{Gate, State};
use mirror::Mirror;

/// A mounted file system; dropped, it lets go of all that hangs (with EIO) and is unmounted.
pub struct HangFs {
    mountpoint: PathBuf,
    gate: Arc<Gate>,
    /// The root, which leads there also when somebody has unmounted it.
    root: Arc<OwnedFd>,
    hold: Mutex<Option<JoinHandle<()>>>,
    _session: BackgroundSession,
}

impl HangFs {
    /// Mounts a mirror of the directory `backing` at the directory `mountpoint`.
    ///
    /// # Errors
    /// `backing` cannot be opened, or FUSE cannot be mounted (no root, no /dev/fuse).
    pub fn mount(backing: &Path, mountpoint: &Path) -> anyhow::Result<Self> {
        let mountpoint =
            mountpoint.canonicalize().with_context(|| format!("no mountpoint {}", mountpoint.display()))?;
        let gate = Arc::new(Gate::default());
        let mirror = Mirror::new(backing, Arc::clone(&gate))
            .with_context(|| format!("failed to open {}", backing.display()))?;
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.n_threads = Some(1);
        let device = connect(&mountpoint)
            .with_context(|| format!("failed to mount a FUSE file system at {}", mountpoint.display()))?;
        let serve = || -> anyhow::Result<_> {
            let session = Session::from_fd(mirror, device, SessionACL::All, config)?.spawn()?;
            let root = rustix::fs::openat(CWD, &mountpoint, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            Ok((session, root))
        };
        let served = serve().with_context(|| format!("failed to serve {}", mountpoint.display()));
        if served.is_err() {
            let _ = unmount(&mountpoint, UnmountFlags::DETACH);
        }
        let (session, root) = served?;
        Ok(Self { mountpoint, gate, root: Arc::new(root), hold: Mutex::default(), _session: session })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// From now on requests wait.
    pub fn hang(&self) {
        if self.gate.state() == State::Hanging {
            return;
        }
        self.change(State::Serving);
        let (gate, root) = (Arc::clone(&self.gate), Arc::clone(&self.root));
        let hold = thread::spawn(move || {
            gate.set(State::Holding(rustix::thread::gettid()));
            // Answered when the state changes again; the answer is nobody's concern.
            let _ = rustix::fs::fstatfs(&root);
        });
        self.gate.until_hanging();
        *self.lock() = Some(hold);
    }

    /// From now on every request fails with `errno`, those that wait too.
    pub fn fail_with(&self, errno: i32) {
        self.change(State::Failing(errno));
    }

    /// From now on requests are served, those that wait too.
    pub fn resume(&self) {
        self.change(State::Serving);
    }

    fn change(&self, state: State) {
        self.gate.set(state);
        let hold = self.lock().take();
        if let Some(hold) = hold {
            // It cannot panic.
            let _ = hold.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HangFs {
    fn drop(&mut self) {
        self.fail_with(rustix::io::Errno::IO.raw_os_error());
        // Lazily: a file that is still open must not keep the mount. A failure means that it is gone already.
        let _ = unmount(&self.mountpoint, UnmountFlags::DETACH);
    }
}

/// Mounts a FUSE file system; what it is asked comes out of the descriptor. Fuser's own mount would, when it is
/// dropped, unmount whatever lies below ours.
fn connect(mountpoint: &Path) -> anyhow::Result<OwnedFd> {
    let device = rustix::fs::openat(CWD, "/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("failed to open /dev/fuse")?;
    let data = CString::new(format!(
        "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions",
        device.as_raw_fd(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    ))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("hangfs", mountpoint, "fuse", flags, data.as_c_str())?;
    Ok(device)
}

#[cfg(test)]
mod tests;
