//! A child's log file as its follower has it open: read on from a place, set aside when it is full, and the
//! place kept for the next agent.
//!
//! The child holds the file open and cannot be asked to open another, so a full one is copied and then cut to
//! nothing under its hands. That is safe because the child writes with O_APPEND: each write goes to the end as it
//! is then, so after the cut it goes on at 0, leaving no hole. Missing can be only what arrives in the microseconds
//! before the cut.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// The file, and how far it has been read.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    offset: u64,
}

/// How far a file has been followed, as kept beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Which file.
    pub(super) inode: u64,
    /// Everything before this byte was followed.
    pub(super) offset: u64,
}

impl Place {
    /// The kept place of the log at `path`; `None`: none is kept, or it is damaged.
    pub(super) fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(place_path(path)).ok()?).ok()
    }

    /// Keeps it.
    pub(super) fn save(self, path: &Path) -> Result<(), FileError> {
        let text = serde_json::to_vec(&self).unwrap_or_default();
        let path = place_path(path);
        // Synced it would cost the disk a sync a second, and a lost one costs some lines in a log.
        match files::put_unsynced(&path, &text, 0o600) {
            Err(err) if err.source.kind() == io::ErrorKind::NotFound => {
                make_dir_of(&path)?;
                files::put_unsynced(&path, &text, 0o600)
            }
            put => put,
        }
    }
}

fn place_path(log: &Path) -> PathBuf {
    log.with_extension("position")
}

impl LogFile {
    /// Opens or makes the file at `path`, to be read on from the place that was kept: from its end where none
    /// was, from its start where it has been cut since.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open_or_make(path)?;
        let found = file.metadata()?;
        let offset = match Place::load(path) {
            Some(place) if place.inode == found.ino() && place.offset > found.len() => 0,
            Some(place) if place.inode == found.ino() => place.offset,
            _ => found.len(),
        };
        Ok(Self { path: path.to_owned(), file, offset })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How long it is now.
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Where the next read begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next read begins at `offset`.
    pub(super) fn go_to(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Reads on; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;

        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }

    /// The place, with the last `pending` bytes still to be followed.
    pub(super) fn place(&self, pending: u64) -> io::Result<Place> {
        Ok(Place { inode: self.file.metadata()?.ino(), offset: self.offset.saturating_sub(pending) })
    }

    /// Somebody has put another file at the path, and everything is read: goes on with that one. A deleted file
    /// is followed on, for the child still writes to it.
    pub(super) fn follow_replaced(&mut self) -> io::Result<bool> {
        let Ok(found) = std::fs::metadata(&self.path) else {
            return Ok(false);
        };
        let held = self.file.metadata()?;
        let same = (found.dev(), found.ino()) == (held.dev(), held.ino());
        if !same {
            self.file = open_or_make(&self.path)?;
            self.offset = 0;
        }
        Ok(!same)
    }

    /// Copies the last `max` bytes, and up to a quarter more that arrives meanwhile, beside the old files. Tells
    /// where the copy ends.
    pub(super) fn copy(&mut self, max: u64) -> io::Result<u64> {
        // Room for what arrives meanwhile, and an end however fast the child writes on.
        let room = max + max / 4;
        let len = self.len()?;
        let from = if len <= room { 0 } else { len - max };
        self.file.seek(SeekFrom::Start(from))?;
        let copy = self.old(0);
        let copied = with_dir(&copy, OpenOptions::new().write(true).create(true).truncate(true).mode(0o600))
            .and_then(|mut copy| io::copy(&mut (&self.file).take(room), &mut copy));
        if copied.is_err() {
            let _ = std::fs::remove_file(copy);
        }
        Ok(from + copied?)
    }

    /// Makes the copy `<path>.1`, and the older files go one number up, of `files` in all.
    pub(super) fn shift(&mut self, files: u32) -> io::Result<()> {
        for n in (1..files).rev() {
            match std::fs::rename(self.old(n - 1), self.old(n)) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                _ => {}
            }
        }
        Ok(())
    }

    fn old(&self, n: u32) -> PathBuf {
        self.path.with_extension(format!("log.{n}"))
    }

    /// Cuts it to nothing.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.offset = 0;
        Ok(())
    }
}

/// Opens the log at `path`, to be read, and to be written at its end. It is made if need be, its directory too.
pub(in crate::child) fn open_or_make(path: &Path) -> io::Result<File> {
    with_dir(path, OpenOptions::new().read(true).append(true).create(true).mode(0o600))
}

/// A directory that somebody has deleted is made again.
fn with_dir(path: &Path, options: &OpenOptions) -> io::Result<File> {
    match options.open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            make_dir_of(path).map_err(io::Error::other)?;
            options.open(path)
        }
        opened => opened,
    }
}

/// For its owner alone: what a child writes may be a secret.
fn make_dir_of(path: &Path) -> Result<(), FileError> {
    path.parent().map_or(Ok(()), files::private_dir)
}
