//! Files that must survive a power cut or a kill at any instruction: what stands at a path is always the old
//! text or the new one, whole. The one place of this crate where a file is replaced.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// Puts `text` at `path`, for its owner alone (0600), and returns once the disk has it.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let put = || -> io::Result<()> {
        let mut file = NamedTempFile::with_prefix_in(".new.", dir)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|err| err.error)?;
        File::open(dir)?.sync_all()
    };
    put().map_err(|err| Failure::state("write", path, &err))
}

/// Makes the directory at `path` and those above it, for their owner alone.
pub(crate) fn make_dir(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|err| Failure::state("make the directory", path, &err))
}

/// Removes a directory with all that is in it; one that is gone is no failure.
pub(crate) fn remove_dir(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(Failure::state("remove", path, &err)),
        _ => Ok(()),
    }
}
