//! The file system's requests, each passed on to the backing directory unless the gate is shut.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{AtFlags, Mode, OFlags, StatVfs};
use rustix::io::Errno as SysErrno;

use super::gate::Gate;
use super::handles::{self, Handle, Handles};
use super::nodes::Nodes;

/// Nothing is to be remembered.
const TTL: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);
/// Reads and writes come straight here, not to the page cache.
const DIRECT: FopenFlags = FopenFlags::FOPEN_DIRECT_IO;

type Answer<T> = Result<T, SysErrno>;

pub(super) struct Mirror {
    gate: Arc<Gate>,
    nodes: Nodes,
    handles: Handles,
}

impl Mirror {
    pub(super) fn new(backing: &Path, gate: Arc<Gate>) -> Result<Self, SysErrno> {
        Ok(Self { gate, nodes: Nodes::new(backing)?, handles: Handles::default() })
    }

    fn open_file(&self, ino: INodeNo, flags: i32) -> Answer<FileHandle> {
        let fd = handles::reopen(&*self.nodes.get(ino)?, access(flags))?;
        Ok(self.handles.add(Handle::File(Arc::new(File::from(fd)))))
    }

    fn make_file(
        &self,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        flags: i32,
    ) -> Answer<(FileAttr, FileHandle)> {
        let flags = access(flags) | OFlags::CREATE | (bits(flags) & OFlags::EXCL) | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.nodes.get(parent)?, name, flags, Mode::from_raw_mode(mode))?;
        let handle = self.handles.add(Handle::File(Arc::new(File::from(fd))));
        Ok((self.nodes.look_up(parent, name)?, handle))
    }

    fn make_dir(&self, parent: INodeNo, name: &OsStr, mode: u32) -> Answer<FileAttr> {
        rustix::fs::mkdirat(self.nodes.get(parent)?, name, Mode::from_raw_mode(mode))?;
        self.nodes.look_up(parent, name)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, flags: AtFlags) -> Answer<()> {
        rustix::fs::unlinkat(self.nodes.get(parent)?, name, flags)
    }

    fn rename_to(&self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr), flags: RenameFlags) -> Answer<()> {
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        rustix::fs::renameat_with(self.nodes.get(from.0)?, from.1, self.nodes.get(to.0)?, to.1, flags)
    }

    fn change(&self, ino: INodeNo, change: &Change) -> Answer<FileAttr> {
        let node = self.nodes.get(ino)?;
        if let Some(size) = change.size {
            rustix::fs::ftruncate(handles::reopen(&node, OFlags::WRONLY)?, size)?;
        }
        if let Some(mode) = change.mode {
            let fd = handles::reopen(&node, OFlags::RDONLY)?;
            rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?;
        }
        self.nodes.attr(ino)
    }

    fn read_at(&self, handle: FileHandle, offset: u64, size: u32) -> Answer<Vec<u8>> {
        let file = self.handles.file(handle)?;
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        let mut filled = 0;
        while filled < data.len() {
            let at = offset + u64::try_from(filled).unwrap_or(0);
            match file.read_at(&mut data[filled..], at).map_err(|err| sys(&err))? {
                0 => break,
                more => filled += more,
            }
        }
        data.truncate(filled);
        Ok(data)
    }

    fn write_at(&self, handle: FileHandle, offset: u64, data: &[u8]) -> Answer<u32> {
        let file = self.handles.file(handle)?;
        file.write_all_at(data, offset).map_err(|err| sys(&err))?;
        u32::try_from(data.len()).map_err(|_| SysErrno::INVAL)
    }

    fn sync(&self, handle: FileHandle) -> Answer<()> {
        self.handles.file(handle)?.sync_all().map_err(|err| sys(&err))
    }

    fn sync_dir(&self, ino: INodeNo) -> Answer<()> {
        let fd = handles::reopen(&*self.nodes.get(ino)?, OFlags::RDONLY | OFlags::DIRECTORY)?;
        rustix::fs::fsync(fd)
    }

    fn figures(&self) -> Answer<StatVfs> {
        let fd = handles::reopen(&*self.nodes.get(INodeNo::ROOT)?, OFlags::RDONLY)?;
        rustix::fs::fstatvfs(fd)
    }
}

/// What a setattr request asks for; times and owners stay the backing file's own.
struct Change {
    size: Option<u64>,
    mode: Option<u32>,
}

fn bits(flags: i32) -> OFlags {
    OFlags::from_bits_retain(flags.cast_unsigned())
}

/// Offsets are absolute, so O_APPEND must not reach the backing file; the kernel has truncated it by itself.
fn access(flags: i32) -> OFlags {
    bits(flags) & OFlags::ACCMODE
}

fn sys(err: &std::io::Error) -> SysErrno {
    SysErrno::from_io_error(err).unwrap_or(SysErrno::IO)
}

fn fuse(errno: SysErrno) -> Errno {
    Errno::from_i32(errno.raw_os_error())
}

/// Passes the gate, asks, and answers with what came of it.
macro_rules! answer {
    ($self:ident, $reply:ident, $ask:expr, $value:pat => $good:expr) => {
        match $self.gate.pass().and_then(|()| $ask) {
            Ok($value) => $good,
            Err(errno) => $reply.error(fuse(errno)),
        }
    };
}

impl Filesystem for Mirror {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(self, reply, self.nodes.look_up(parent, name), attr => reply.entry(&TTL, &attr, GENERATION));
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        self.nodes.forget(ino, lookups);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(self, reply, self.nodes.attr(ino), attr => reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change { size, mode };
        answer!(self, reply, self.change(ino, &change), attr => reply.attr(&TTL, &attr));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let mode = mode & !umask;
        answer!(self, reply, self.make_dir(parent, name, mode), attr => reply.entry(&TTL, &attr, GENERATION));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self, reply, self.remove(parent, name, AtFlags::empty()), () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self, reply, self.remove(parent, name, AtFlags::REMOVEDIR), () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let ask = || self.rename_to((parent, name), (newparent, newname), flags);
        answer!(self, reply, ask(), () => reply.ok());
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let mode = mode & !umask;
        answer!(self, reply, self.make_file(parent, name, mode, flags),
            (attr, handle) => reply.created(&TTL, &attr, GENERATION, handle, DIRECT));
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        answer!(self, reply, self.open_file(ino, flags.0), handle => reply.opened(handle, DIRECT));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(self, reply, self.read_at(handle, offset, size), data => reply.data(&data));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        answer!(self, reply, self.write_at(handle, offset, data), size => reply.written(size));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        answer!(self, reply, Ok(()), () => reply.ok());
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(self, reply, self.sync(handle), () => reply.ok());
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.handles.close(handle);
        reply.ok();
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let ask = || handles::list(&*self.nodes.get(ino)?);
        answer!(self, reply, ask(), entries =>
            reply.opened(self.handles.add(Handle::Dir(Arc::new(entries))), FopenFlags::empty()));
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        answer!(self, reply, self.handles.dir(handle), entries => {
            for (next, (ino, kind, name)) in (1..).zip(entries.iter()).skip(usize::try_from(offset).unwrap_or(0)) {
                if reply.add(*ino, next, *kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.handles.close(handle);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(self, reply, self.sync_dir(ino), () => reply.ok());
    }

    fn statfs(&self, request: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.gate.hold(request.pid());
        let narrow = |figure: u64| u32::try_from(figure).unwrap_or(u32::MAX);
        answer!(self, reply, self.figures(), stat => reply.statfs(
            stat.f_blocks, stat.f_bfree, stat.f_bavail, stat.f_files, stat.f_ffree,
            narrow(stat.f_bsize), narrow(stat.f_namemax), narrow(stat.f_frsize),
        ));
    }
}
