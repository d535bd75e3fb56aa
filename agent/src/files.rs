//! Files that are there whole or not at all: written beside their place, synced, then renamed into it.
//!
//! A power cut or a kill at any instruction leaves the old file or the new one; a temporary file that was left
//! behind is cleared away by the next writer of the same file, once its own writer is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use forest_core::registry::Owner;

/// This process, as the names of its temporary files tell.
static WRITER: LazyLock<Owner> = LazyLock::new(|| Owner::current("files"));

/// A step of writing a file that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    /// What was tried, a verb.
    pub action: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { action, path, source }
}

/// A file being written beside its place. Dropped without [`Pending::commit`], nothing of it remains.
#[derive(Debug)]
pub struct Pending {
    file: File,
    temp: PathBuf,
    target: PathBuf,
    mode: u32,
    placed: bool,
}

impl Pending {
    /// Begins a file that will stand at `target` with the permission bits `mode`. Until then only the owner can
    /// read it.
    ///
    /// # Errors
    /// The directory is missing or cannot be written.
    pub fn create(target: &Path, mode: u32) -> Result<Self, FileError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dir = directory_of(target);
        clear_stranded(dir, &name);
        let (pid, start) = (WRITER.pid, WRITER.pid_start);
        let temp = dir.join(format!(".{name}.{pid}-{start}-{:016x}.tmp", rand::random::<u64>()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temp)
            .map_err(failed("create", &temp))?;
        Ok(Self { file, temp, target: target.to_owned(), mode, placed: false })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// The file system is full or ill.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(failed("write", &self.temp))
    }

    /// Puts the file in its place; when this returns, it survives a power cut.
    ///
    /// # Errors
    /// The file system is full or ill; the old file still stands, unless only the directory's sync failed.
    pub fn commit(mut self) -> Result<(), FileError> {
        self.file.sync_all().map_err(failed("sync", &self.temp))?;
        self.place()?;
        let dir = directory_of(&self.target);
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
    }

    fn place(&mut self) -> Result<(), FileError> {
        let mode = fs::Permissions::from_mode(self.mode);
        self.file.set_permissions(mode).map_err(failed("set the mode of", &self.temp))?;
        fs::rename(&self.temp, &self.target).map_err(failed("put in place", &self.target))?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.placed {
            // What stays is cleared by a later process.
            let _ = fs::remove_file(&self.temp);
        }
    }
}

/// Writes `bytes` to `target` with the permission bits `mode`.
///
/// # Errors
/// As [`Pending`]'s steps.
pub fn put(target: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let mut pending = Pending::create(target, mode)?;
    pending.write(bytes)?;
    pending.commit()
}

/// The same, whole for every reader, but not durable: for what is written often and costs nothing to lose. After
/// a power cut the file may be the old one, or empty.
///
/// # Errors
/// As [`Pending`]'s steps.
pub fn put_unsynced(target: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let mut pending = Pending::create(target, mode)?;
    pending.write(bytes)?;
    pending.place()
}

/// Makes `path` and its parents, mode 0700 where they are new.
///
/// # Errors
/// The path, and what stands in the way.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(failed("create the directory", path))
}

/// Makes the directory that is to hold `target`, and its parents: a bare machine has none for our programs.
///
/// # Errors
/// The path, and what stands in the way.
pub fn parent_dir(target: &Path) -> Result<(), FileError> {
    let dir = directory_of(target);
    fs::create_dir_all(dir).map_err(failed("create the directory", dir))
}

fn directory_of(target: &Path) -> &Path {
    match target.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Removes temporary files of `name` whose writers are gone: their pid is nobody's, or another process's by now.
fn clear_stranded(dir: &Path, name: &str) {
    let prefix = format!(".{name}.");
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        let writer = file_name.to_str().and_then(|text| writer_of(text.strip_prefix(&prefix)?));
        if writer.is_some_and(|writer| writer.is_gone(&WRITER)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The process named by `PID-START-RANDOM.tmp`. One of an earlier boot is taken for one of this, and is none.
fn writer_of(name: &str) -> Option<Owner> {
    let (pid, rest) = name.strip_suffix(".tmp")?.split_once('-')?;
    let (start, _) = rest.split_once('-')?;
    Some(Owner { pid: pid.parse().ok()?, pid_start: start.parse().ok()?, ..WRITER.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_the_whole_file_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.conf");
        put(&path, b"one", 0o644).unwrap();
        put(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["x.conf"]);
    }

    #[test]
    fn an_abandoned_file_leaves_nothing_and_a_stranded_one_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.conf");
        let (pid, start) = (WRITER.pid, WRITER.pid_start);
        for gone in [format!("{}-1-0", i32::MAX), format!("{pid}-{}-0", start + 1)] {
            fs::write(dir.path().join(format!(".x.conf.{gone}.tmp")), b"half").unwrap();
        }
        let mut pending = Pending::create(&path, 0o600).unwrap();
        pending.write(b"half").unwrap();
        drop(pending);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn two_writers_of_one_process_leave_each_other_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.conf");
        let mut first = Pending::create(&path, 0o600).unwrap();
        let mut second = Pending::create(&path, 0o600).unwrap();
        first.write(b"first").unwrap();
        second.write(b"second").unwrap();
        second.commit().unwrap();
        first.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(dir.path()), ["x.conf"]);
    }

    #[test]
    fn an_error_names_the_path() {
        let err = put(Path::new("/nowhere/at/all"), b"", 0o600).unwrap_err();
        assert!(err.to_string().starts_with("cannot create /nowhere/at/"), "{err}");
    }
}
