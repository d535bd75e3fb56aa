//! The door of a file system: a plain directory, or a mounted share.
//!
//! Every call goes relative to one directory descriptor, which the caller has checked, and never by an absolute
//! path: where the share is not mounted, its mountpoint is an ordinary directory that nobody must write into.
//! New files are 0600; a file that is replaced keeps its mode, and its owner and group where that is allowed.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, Dir, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use super::clock::Clock;
use super::door::{Door, DoorError, Kind, MAX_BYTES, Op, Publish, Tag};
use super::flock::{Queue, Turn};
use super::limits::Limits;

/// The file on the share that updaters queue at. Never renamed, replaced or removed.
pub(super) const FLOCK: &str = ".registry.flock";

const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const DIR_MODE: Mode = Mode::from_raw_mode(0o700);

/// How the names of files begin that are being replaced.
pub(super) const OLD: &str = ".registry.old.";

/// What statfs(2) calls the kernel's CIFS client, for SMB 1 and for all later ones.
const CIFS: [u32; 2] = [0xff53_4d42, 0xfe53_4d42];

/// One directory of a file system.
#[derive(Debug)]
pub struct FsDoor {
    dir: OwnedFd,
    shown: PathBuf,
    queue: Option<Arc<Queue>>,
    cifs: OnceLock<bool>,
}

impl FsDoor {
    /// The door of the directory `dir`, which messages call `shown`. `queue` is this
    /// machine's, one for each share, kept by the caller; without it updaters meet at the lease only.
    #[must_use]
    pub fn new(dir: OwnedFd, shown: &Path, queue: Option<Arc<Queue>>) -> Self {
        Self { dir, shown: shown.to_owned(), queue, cifs: OnceLock::new() }
    }

    /// Opens the directory at `path` as it stands now.
    ///
    /// # Errors
    /// [`DoorError`] where it is no directory that can be opened.
    pub fn open(path: &Path, queue: Option<Arc<Queue>>) -> Result<Self, DoorError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| DoorError {
            op: Op::Open,
            path: path.display().to_string(),
            kind: kind(errno),
            source: Box::new(io::Error::from(errno)),
        })?;
        Ok(Self::new(dir, path, queue))
    }

    /// The same door, which replaces files as one on CIFS does, wherever it leads: for tests.
    #[must_use]
    pub fn as_on_cifs(self) -> Self {
        Self { cifs: OnceLock::from(true), ..self }
    }

    /// The name that `target` bears while `staged` takes its place on CIFS. Where one lies and the target does not stand,
    /// the holder of the lease died in between.
    #[must_use]
    pub fn aside(staged: &str, target: &str) -> String {
        format!("{OLD}{}{}", staged.rsplit('/').next().unwrap_or_default(), old_suffix(target))
    }

    fn error(&self, op: Op, path: &str, err: io::Error) -> DoorError {
        DoorError {
            op,
            path: self.shown(path),
            kind: Errno::from_io_error(&err).map_or(Kind::Other, kind),
            source: err.into(),
        }
    }

    fn file(&self, path: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.dir, path, flags, FILE_MODE)?))
    }

    fn whole(&self, path: &str, mode: OFlags) -> Result<(Vec<u8>, Tag), DoorError> {
        let read = || -> io::Result<(u64, Vec<u8>)> {
            let file = self.file(path, mode)?;
            let (size, mut bytes) = (file.metadata()?.len(), Vec::new());
            if size <= MAX_BYTES {
                file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
            }
            Ok((size.max(bytes.len() as u64), bytes))
        };
        let (size, bytes) = read().map_err(|err| self.error(Op::Read, path, err))?;
        if size > MAX_BYTES {
            let source = format!("{size} bytes, and {MAX_BYTES} are the most").into();
            return Err(DoorError { op: Op::Read, path: self.shown(path), kind: Kind::TooBig, source });
        }
        Ok((bytes, Tag::default()))
    }

    fn on_cifs(&self) -> bool {
        let asked = || rustix::fs::fstatfs(&self.dir).is_ok_and(|found| is_cifs(found.f_type));
        *self.cifs.get_or_init(asked)
    }

    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.dir, path, flags, Mode::empty())?)
    }

    /// Writes, and makes durable. An error that a close would tell has been told by the sync before it.
    fn fill(&self, path: &str, flags: OFlags, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.file(path, OFlags::WRONLY | flags)?;
        file.write_all(bytes)?;
        // An empty file is a place kept for later and holds nothing to lose.
        if bytes.is_empty() { Ok(()) } else { file.sync_all() }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        rustix::fs::renameat(&self.dir, from, &self.dir, to)
    }

    fn rename_new(&self, from: &str, to: &str) -> Result<(), Errno> {
        match rustix::fs::renameat_with(&self.dir, from, &self.dir, to, RenameFlags::NOREPLACE) {
            // Not every file system knows the flag. Directories need none, and files go to unique names.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.rename(from, to),
            moved => moved,
        }
    }

    /// Puts `staged` in the place of `target`: at once, but on CIFS. There a client which is refused the rename, because
    /// somebody has the target open, removes the target and tries again; the server then keeps in mind that the
    /// name is to go, and takes away whatever stands there when the last reader closes the old file: the new one too.
    /// So the old file is moved aside first, which is never refused, and the name is free for a moment; for longer where
    /// this process dies in it.
    fn replace(&self, staged: &str, target: &str) -> Result<(), Errno> {
        if !self.on_cifs() {
            return self.rename(staged, target);
        }
        // Who has lost the lease has nothing staged any more, and moves nothing.
        rustix::fs::statat(&self.dir, staged, AtFlags::SYMLINK_NOFOLLOW)?;
        let old = Self::aside(staged, target);
        let stood = match self.rename_new(target, &old) {
            Ok(()) => true,
            Err(Errno::NOENT) => false,
            // An answer that was lost: it may have been done.
            Err(err) => {
                let _ = self.rename_new(&old, target);
                return Err(err);
            }
        };
        let replaced = self.rename_new(staged, target);
        // Put back, unless another document stands there by now.
        let gone = match replaced {
            Ok(()) => true,
            Err(_) => stood && self.rename_new(&old, target) == Err(Errno::EXIST),
        };
        if stood
            && gone
            && let Err(err) = rustix::fs::unlinkat(&self.dir, &old, AtFlags::empty())
        {
            tracing::debug!(%err, old, "cannot remove the file that was replaced");
        }
        replaced
    }

    /// Gives the staged file the owner, group and mode of the one it replaces: others may read it by them.
    /// Servers that keep none are left alone, and so is what is not this process's to give.
    fn keep_access(&self, staged: &str, target: &str) -> Result<(), Errno> {
        let look = |path| rustix::fs::statat(&self.dir, path, AtFlags::SYMLINK_NOFOLLOW);
        let Ok(due) = look(target) else {
            return Ok(());
        };
        let found = look(staged)?;
        if (found.st_uid, found.st_gid) != (due.st_uid, due.st_gid) {
            let (user, group) = (Uid::from_raw(due.st_uid), Gid::from_raw(due.st_gid));
            let given = rustix::fs::chownat(&self.dir, staged, Some(user), Some(group), AtFlags::empty());
            if let Err(err) = given {
                tracing::debug!(%err, target, "cannot keep the file's owner and group");
            }
        }
        let mode = Mode::from(due.st_mode);
        if Mode::from(found.st_mode) != mode
            && let Err(err) = rustix::fs::chmodat(&self.dir, staged, mode, AtFlags::empty())
        {
            tracing::debug!(%err, target, "cannot keep the file's mode");
        }
        Ok(())
    }
}

impl Door for FsDoor {
    fn queue(&self, clock: &dyn Clock, limits: &Limits, label: &str) -> Option<Turn> {
        let open = || self.file(FLOCK, OFlags::RDWR | OFlags::CREATE);
        self.queue.as_ref()?.stand(open, clock, limits, label)
    }

    fn shown(&self, path: &str) -> String {
        self.shown.join(path).display().to_string()
    }

    fn read(&self, path: &str) -> Result<(Vec<u8>, Tag), DoorError> {
        self.whole(path, OFlags::RDONLY)
    }

    /// A CIFS client that finds a file of this name open already, in the same mode, takes that for the one which is to
    /// be opened, also when another machine has replaced it since: readers open for reading, and a holder in
    /// another mode.
    fn read_anew(&self, path: &str) -> Result<(Vec<u8>, Tag), DoorError> {
        if !self.on_cifs() {
            return self.read(path);
        }
        match self.whole(path, OFlags::RDWR) {
            Err(err) if matches!(err.kind, Kind::Denied | Kind::ReadOnly) => self.read(path),
            read => read,
        }
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> Result<(), DoorError> {
        self.fill(path, OFlags::CREATE | OFlags::EXCL, bytes)
            .map_err(|err| self.error(Op::WriteNew, path, err))
    }

    fn mkdir(&self, path: &str) -> Result<(), DoorError> {
        rustix::fs::mkdirat(&self.dir, path, DIR_MODE)
            .map_err(|errno| self.error(Op::Mkdir, path, errno.into()))
    }

    fn move_new(&self, from: &str, to: &str) -> Result<(), DoorError> {
        self.rename_new(from, to)
            .map_err(|errno| self.error(Op::MoveNew, &format!("{from} to {to}"), errno.into()))
    }

    fn rmdir(&self, path: &str) -> Result<(), DoorError> {
        rustix::fs::unlinkat(&self.dir, path, AtFlags::REMOVEDIR)
            .map_err(|errno| self.error(Op::Rmdir, path, errno.into()))
    }

    fn remove(&self, path: &str) -> Result<(), DoorError> {
        rustix::fs::unlinkat(&self.dir, path, AtFlags::empty())
            .map_err(|errno| self.error(Op::Remove, path, errno.into()))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, DoorError> {
        let names = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(self.directory(path)?)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    names.push(name);
                }
            }
            Ok(names)
        };
        names().map_err(|err| self.error(Op::List, path, err))
    }

    fn modified(&self, path: &str) -> Result<Timestamp, DoorError> {
        let stat = rustix::fs::statat(self.dir.as_fd(), path, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.error(Op::Modified, path, errno.into()))?;
        Timestamp::from_second(stat.st_mtime)
            .map_err(|err| self.error(Op::Modified, path, io::Error::other(err)))
    }

    fn stage(&self, path: &str, bytes: &[u8]) -> Result<(), DoorError> {
        self.fill(path, OFlags::TRUNC, bytes).map_err(|err| self.error(Op::Stage, path, err))
    }

    fn publish(&self, publish: &Publish<'_>) -> Result<(), DoorError> {
        let Publish { staged, target, .. } = *publish;
        self.keep_access(staged, target)
            .and_then(|()| self.replace(staged, target))
            .map_err(|errno| self.error(Op::Publish, target, errno.into()))
    }

    /// Not every file system can sync a directory; those that cannot do without.
    fn sync(&self, path: &str) -> Result<(), DoorError> {
        let parent = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let synced = self.directory(parent).and_then(|dir| Ok(rustix::fs::fsync(dir)?));
        match synced {
            Err(err) if !unsupported(&err) => Err(self.error(Op::Sync, parent, err)),
            _ => Ok(()),
        }
    }
}

/// How the names end that `target`'s files bear while they are replaced.
pub(super) fn old_suffix(target: &str) -> String {
    format!(".{}", target.replace('/', "_"))
}

/// The magic number's type differs from machine to machine; it has 32 bits.
fn is_cifs(magic: impl TryInto<i64>) -> bool {
    let magic = magic.try_into().unwrap_or_default();
    CIFS.iter().any(|known| magic & 0xffff_ffff == i64::from(*known))
}

fn unsupported(err: &io::Error) -> bool {
    matches!(Errno::from_io_error(err), Some(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::BADF))
}

fn kind(errno: Errno) -> Kind {
    match errno {
        Errno::NOENT => Kind::NotFound,
        Errno::EXIST => Kind::Exists,
        Errno::NOTEMPTY => Kind::NotEmpty,
        Errno::NOSPC | Errno::DQUOT => Kind::Full,
        Errno::ROFS => Kind::ReadOnly,
        Errno::ACCESS | Errno::PERM => Kind::Denied,
        // A network file system that lost its server, or an answer of it.
        Errno::IO
        | Errno::INTR
        | Errno::AGAIN
        | Errno::TIMEDOUT
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::CONNRESET
        | Errno::CONNABORTED
        | Errno::NOTCONN
        | Errno::PIPE
        | Errno::STALE => Kind::Ambiguous,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests;
