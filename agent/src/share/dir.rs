//! Directories as descriptors: a path may lead elsewhere a moment later, a descriptor may not.
//!
//! With a share, I/O goes relative to a descriptor of the mountpoint whose mount was verified: where nothing is
//! mounted, the mountpoint is an ordinary local directory and must never be written. All of this blocks when
//! the file system hangs: run it in a [`super::lane::Lane`].

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use forest_core::reason::Reason;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::errno;
use super::mountinfo::{self, Mount};
use crate::fault::Fault;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Why there is no descriptor.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// No mount begins at the path, or another one hides it.
    #[error("nothing is mounted at {path}")]
    NotMounted {
        /// The mountpoint.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("failed to {verb} {path}")]
    Io {
        /// What was tried: "open".
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: Errno,
    },
}

impl DirError {
    /// As a fault of the share.
    #[must_use]
    pub fn into_fault(self) -> Fault {
        let reason = match &self {
            Self::NotMounted { .. } => Reason::ShareNotMounted,
            Self::Io { source, .. } => match *source {
                Errno::ACCESS | Errno::PERM => Reason::SharePermission,
                Errno::NOENT | Errno::NOTDIR => Reason::ShareNotFound,
                errno if errno::is_dead(errno) => Reason::ShareDead,
                _ => Reason::ShareMountFailed,
            },
        };
        let message = match &self {
            Self::NotMounted { .. } => self.to_string(),
            Self::Io { source, .. } => format!("{self}: {}", errno::name(*source)),
        };
        Fault::new(reason, message)
    }
}

/// An open directory on the share, or of a plain file system.
#[derive(Debug)]
pub struct ShareDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl ShareDir {
    /// The root of the mount that stands at `mountpoint`, verified by its id; whatever type it has.
    ///
    /// # Errors
    /// Nothing is mounted there; it cannot be opened.
    pub fn mounted(mountpoint: &Path) -> Result<Self, DirError> {
        let mount = mount_at(mountpoint)?;
        Self::of_mount(mountpoint, &mount)
    }

    /// The root of `mount`, which was seen at `mountpoint`.
    ///
    /// # Errors
    /// Another mount, or none, is there by now; it cannot be opened.
    pub fn of_mount(mountpoint: &Path, mount: &Mount) -> Result<Self, DirError> {
        let fd = rustix::fs::openat(CWD, mountpoint, DIRECTORY, Mode::empty())
            .map_err(|source| failed("open", mountpoint, source))?;
        // The mount's id is the kernel's own: the share's server is not asked.
        let stat =
            rustix::fs::statx(&fd, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::MNT_ID)
                .map_err(|source| failed("find the mount of", mountpoint, source))?;
        if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 || stat.stx_mnt_id != mount.id {
            let path = mountpoint.to_owned();
            return Err(DirError::NotMounted { path });
        }
        let path = mountpoint.to_owned();
        Ok(Self { fd, path })
    }

    /// The plain directory `path`, made with mode 0700 if it is missing, its parents too.
    ///
    /// # Errors
    /// It can be neither made nor opened.
    pub fn plain(path: &Path) -> Result<Self, DirError> {
        create(path)?;
        let fd = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
            .map_err(|source| failed("open", path, source))?;
        let path = path.to_owned();
        Ok(Self { fd, path })
    }

    /// The directory `relative` below this one, never outside and never on another mount.
    ///
    /// # Errors
    /// It cannot be opened; with EXDEV: the way leads out.
    pub fn below(&self, relative: &Path) -> Result<Self, DirError> {
        let path = self.path.join(relative);
        let name = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let way = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(&self.fd, name, DIRECTORY, Mode::empty(), way)
            .map_err(|source| failed("open", &path, source))?;
        Ok(Self { fd, path })
    }

    /// Where it was found, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the file system itself: its figures, and one read of the directory.
    ///
    /// # Errors
    /// What it answers.
    pub fn probe(&self) -> Result<(), DirError> {
        rustix::fs::fstatfs(&self.fd).map_err(|source| failed("ask", &self.path, source))?;
        let list = |source| failed("list", &self.path, source);
        let mut entries = Dir::read_from(&self.fd).map_err(list)?;
        entries.read().transpose().map_err(list)?;
        Ok(())
    }
}

impl AsFd for ShareDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<ShareDir> for OwnedFd {
    fn from(dir: ShareDir) -> Self {
        dir.fd
    }
}

/// The mount that one sees at `mountpoint`.
///
/// # Errors
/// There is none, or /proc cannot be read.
pub fn mount_at(mountpoint: &Path) -> Result<Mount, DirError> {
    let table = "/proc/self/mountinfo";
    let text = fs::read(table).map_err(|err| failed("read", Path::new(table), raw(&err)))?;
    let mounts = mountinfo::parse(&text);
    mountinfo::topmost(&mounts, &real(mountpoint))
        .cloned()
        .ok_or_else(|| DirError::NotMounted { path: mountpoint.to_owned() })
}

/// Makes `path` with mode 0700 if it is missing.
///
/// # Errors
/// It cannot be made.
pub fn create(path: &Path) -> Result<(), DirError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|err| failed("make the directory", path, raw(&err)))
}

/// mountinfo knows real paths only. Reading the links asks the file systems on the way, not the one mounted at
/// its end.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn raw(err: &io::Error) -> Errno {
    Errno::from_io_error(err).unwrap_or(Errno::IO)
}

fn failed(verb: &'static str, path: &Path, source: Errno) -> DirError {
    let path = path.to_owned();
    DirError::Io { verb, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_plain_directory_is_made_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let plain = ShareDir::plain(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        plain.probe().unwrap();
        ShareDir::plain(&path).unwrap();
    }

    #[test]
    fn an_unmounted_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let err = ShareDir::mounted(dir.path()).unwrap_err();
        assert!(matches!(&err, DirError::NotMounted { path } if path == dir.path()));
        assert_eq!(err.into_fault().reason, Reason::ShareNotMounted);
    }

    #[test]
    fn a_mount_is_opened_only_under_its_own_id() {
        let mut proc = mount_at(Path::new("/proc")).unwrap();
        let dir = ShareDir::mounted(Path::new("/proc")).unwrap();
        dir.probe().unwrap();
        proc.id += 1;
        let other = ShareDir::of_mount(Path::new("/proc"), &proc);
        assert!(matches!(other, Err(DirError::NotMounted { .. })));
    }

    #[test]
    fn a_mountpoint_may_be_a_symbolic_link() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink("/proc", &link).unwrap();
        assert_eq!(ShareDir::mounted(&link).unwrap().path(), link);
    }

    #[test]
    fn below_never_leaves_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("in/deep")).unwrap();
        symlink("/", dir.path().join("in/out")).unwrap();
        let inside = ShareDir::plain(&dir.path().join("in")).unwrap();
        assert_eq!(inside.below(Path::new("deep")).unwrap().path(), dir.path().join("in/deep"));
        inside.below(Path::new("")).unwrap().probe().unwrap();
        for way in ["..", "out", "/"] {
            let err = inside.below(Path::new(way)).unwrap_err();
            assert!(matches!(err, DirError::Io { source: Errno::XDEV, .. }), "{way}: {err:?}");
        }
        let root = ShareDir::plain(Path::new("/")).unwrap();
        assert!(root.below(Path::new("proc")).is_err(), "another mount");
    }
}
