//! What is open: files, and directories with the list that was taken when they were opened.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{FileHandle, FileType, INodeNo};
use rustix::fs::{CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::nodes;

/// One name in a directory.
pub(super) type Entry = (INodeNo, FileType, OsString);

#[derive(Clone)]
pub(super) enum Handle {
    File(Arc<File>),
    Dir(Arc<Vec<Entry>>),
}

/// Handles by number.
#[derive(Default)]
pub(super) struct Handles {
    open: Mutex<HashMap<u64, Handle>>,
    last: AtomicU64,
}

impl Handles {
    pub(super) fn add(&self, handle: Handle) -> FileHandle {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, handle);
        FileHandle(number)
    }

    pub(super) fn file(&self, handle: FileHandle) -> Result<Arc<File>, Errno> {
        match self.lock().get(&handle.0) {
            Some(Handle::File(file)) => Ok(Arc::clone(file)),
            _ => Err(Errno::BADF),
        }
    }

    pub(super) fn dir(&self, handle: FileHandle) -> Result<Arc<Vec<Entry>>, Errno> {
        match self.lock().get(&handle.0) {
            Some(Handle::Dir(entries)) => Ok(Arc::clone(entries)),
            _ => Err(Errno::BADF),
        }
    }

    pub(super) fn close(&self, handle: FileHandle) {
        self.lock().remove(&handle.0);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Handle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens what the O_PATH descriptor `node` names.
pub(super) fn reopen(node: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", node.as_raw_fd());
    rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
}

/// All names in the directory `node`.
pub(super) fn list(node: &OwnedFd) -> Result<Vec<Entry>, Errno> {
    let fd = reopen(node, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let entry = |found: Result<rustix::fs::DirEntry, Errno>| {
        let found = found?;
        let kind = nodes::kind(found.file_type().as_raw_mode());
        let name = OsString::from_vec(found.file_name().to_bytes().to_vec());
        Ok((nodes::node_id(found.ino()), kind, name))
    };
    Dir::new(fd)?.map(entry).collect()
}
