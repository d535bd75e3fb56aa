//! The inodes that the kernel knows, each held open, so that renames and removals cannot confuse them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Names a file without opening it.
const NAME: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The backing directory is the root; others are known as long as the kernel remembers them.
pub(super) struct Nodes {
    root: Arc<OwnedFd>,
    known: Mutex<HashMap<u64, Node>>,
}

struct Node {
    fd: Arc<OwnedFd>,
    /// How often it was told to the kernel.
    lookups: u64,
}

impl Nodes {
    pub(super) fn new(backing: &Path) -> Result<Self, Errno> {
        let root = rustix::fs::openat(CWD, backing, NAME | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { root: Arc::new(root), known: Mutex::default() })
    }

    /// The O_PATH descriptor of `ino`.
    pub(super) fn get(&self, ino: INodeNo) -> Result<Arc<OwnedFd>, Errno> {
        if ino == INodeNo::ROOT {
            return Ok(Arc::clone(&self.root));
        }
        self.lock().get(&ino.0).map(|node| Arc::clone(&node.fd)).ok_or(Errno::STALE)
    }

    /// Finds `name` and remembers it for the kernel.
    pub(super) fn look_up(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let fd = rustix::fs::openat(self.get(parent)?, name, NAME, Mode::empty())?;
        let attr = attr_of(&fd)?;
        let fresh = || Node { fd: Arc::new(fd), lookups: 0 };
        self.lock().entry(attr.ino.0).or_insert_with(fresh).lookups += 1;
        Ok(attr)
    }

    pub(super) fn forget(&self, ino: INodeNo, lookups: u64) {
        let mut known = self.lock();
        if let Some(node) = known.get_mut(&ino.0) {
            node.lookups = node.lookups.saturating_sub(lookups);
            if node.lookups == 0 {
                known.remove(&ino.0);
            }
        }
    }

    pub(super) fn attr(&self, ino: INodeNo) -> Result<FileAttr, Errno> {
        let mut attr = attr_of(self.get(ino)?.as_ref())?;
        attr.ino = ino;
        Ok(attr)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Node>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn attr_of(fd: &OwnedFd) -> Result<FileAttr, Errno> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(to_attr(&stat))
}

/// FUSE's root is 1, so a backing inode is told as one more than it is.
pub(super) fn node_id(ino: u64) -> INodeNo {
    INodeNo(ino.wrapping_add(1))
}

pub(super) fn kind(mode: u32) -> FileType {
    use rustix::fs::FileType as Kind;
    match Kind::from_raw_mode(mode) {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn to_attr(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: node_id(stat.st_ino),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        crtime: UNIX_EPOCH,
        kind: kind(stat.st_mode),
        perm: u16::try_from(stat.st_mode & 0o7777).unwrap_or(0),
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: u32::try_from(stat.st_rdev).unwrap_or(0),
        blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
        flags: 0,
    }
}

fn time(seconds: i64, nanos: u64) -> SystemTime {
    let nanos = u32::try_from(nanos).unwrap_or(0);
    UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), nanos)
}
