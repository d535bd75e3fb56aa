//! Small files that must survive a power cut or a kill at any instruction: what stands at the path is always
//! the old text or the new one, whole. The one place of this crate where a file is replaced.
//!
//! One writer a path at a time: the temporary name is fixed, so that a killed writer leaves at most one behind,
//! which the next write takes over.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that could not be replaced.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub struct ReplaceError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Puts `text` at `path`, readable and writable by its owner alone (0600), and returns once the disk has it.
///
/// # Errors
/// [`ReplaceError`] with the path and the step that failed; the old file, if any, stands as it was.
pub fn replace(path: &Path, text: &[u8]) -> Result<(), ReplaceError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let temp = dir.join(name);
    write(&temp, text).map_err(failed("write", &temp))?;
    std::fs::rename(&temp, path).map_err(failed("put in place", path))?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync the directory", dir))
}

fn write(temp: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(temp)?;
    file.write_all(text)?;
    file.sync_all()
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReplaceError {
    let path = path.to_owned();
    move |source| ReplaceError { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn replaces_whole_and_private_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        replace(&path, b"one, and longer").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_names_the_path() {
        let err = replace(Path::new("/nonexistent/a.json"), b"").unwrap_err();
        assert_eq!(err.to_string(), "cannot write /nonexistent/.a.json.new");
    }
}
