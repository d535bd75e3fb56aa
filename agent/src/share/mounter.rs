//! The system calls of the share step behind a small trait, so that tests can put any answer in their place.
//! Every method may block, without end on a hanging share: call them in a lane.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::cifs::Request;
use super::dir::{self, DirError, ShareDir};
use super::mountinfo::Mount;

/// What the share step asks of the kernel.
pub trait Mounter: Send + Sync {
    /// The mount that one sees at `mountpoint`.
    ///
    /// # Errors
    /// There is none, or the table of mounts cannot be read.
    fn mount_at(&self, mountpoint: &Path) -> Result<Mount, DirError>;

    /// Does `mount`, seen at `mountpoint`, answer?
    ///
    /// # Errors
    /// What it answers instead.
    fn probe(&self, mountpoint: &Path, mount: &Mount) -> Result<(), DirError>;

    /// Makes the mountpoint's directory if it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    fn create(&self, mountpoint: &Path) -> Result<(), DirError>;

    /// mount(2).
    ///
    /// # Errors
    /// What the kernel answers.
    fn mount(&self, request: &Request) -> Result<(), Errno>;

    /// umount2(2), lazily: it does not wait for a dead server.
    ///
    /// # Errors
    /// What the kernel answers.
    fn detach(&self, mountpoint: &Path) -> Result<(), Errno>;

    /// Has the kernel a cifs file system, or a module of it? `true` if that cannot be told.
    fn has_cifs(&self) -> bool;
}

/// The kernel itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

impl Mounter for Kernel {
    fn mount_at(&self, mountpoint: &Path) -> Result<Mount, DirError> {
        dir::mount_at(mountpoint)
    }

    fn probe(&self, mountpoint: &Path, mount: &Mount) -> Result<(), DirError> {
        ShareDir::of_mount(mountpoint, mount)?.probe()
    }

    fn create(&self, mountpoint: &Path) -> Result<(), DirError> {
        dir::create(mountpoint)
    }

    fn mount(&self, request: &Request) -> Result<(), Errno> {
        // The kernel loads the module by itself.
        rustix::mount::mount(
            request.source.as_str(),
            &request.target,
            "cifs",
            request.flags,
            request.expose_data(),
        )
    }

    fn detach(&self, mountpoint: &Path) -> Result<(), Errno> {
        rustix::mount::unmount(mountpoint, UnmountFlags::DETACH)
    }

    fn has_cifs(&self) -> bool {
        let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let modules = fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).ok();
        knows_cifs(&filesystems, modules.as_deref())
    }
}

/// `filesystems`: /proc/filesystems; `modules`: modules.dep, if this machine shows it.
fn knows_cifs(filesystems: &str, modules: Option<&str>) -> bool {
    let loaded = filesystems.lines().any(|line| line.split_whitespace().next_back() == Some("cifs"));
    let is_cifs = |line: &str| {
        let path = line.split(':').next().unwrap_or_default();
        path.rsplit('/').next().is_some_and(|file| file.starts_with("cifs.ko"))
    };
    loaded || modules.is_none_or(|text| text.lines().any(is_cifs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cifs_is_loaded_or_a_module_or_cannot_be_told() {
        let loaded = "nodev\tproc\n\text4\nnodev\tcifs\n";
        let without = "nodev\tproc\n\text4\n";
        let module = "kernel/fs/smb/client/cifs.ko.xz: kernel/fs/netfs/netfs.ko.xz\n";
        let other = "kernel/fs/ext4.ko: kernel/fs/smb/client/cifs.ko\nkernel/fs/cifs_old.ko:\n";
        assert!(knows_cifs(loaded, None));
        assert!(knows_cifs(loaded, Some("")));
        assert!(knows_cifs(without, Some(module)));
        assert!(knows_cifs(without, None));
        assert!(!knows_cifs(without, Some("")));
        assert!(!knows_cifs(without, Some(other)));
    }
}
