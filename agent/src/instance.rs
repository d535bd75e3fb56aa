//! What an installation is known by: a random id in `<state_dir>/instance`, made once.
//!
//! The path of a state directory is the same in every container of one host, and a machine-id may be missing or
//! that of an image. This id is neither: it tells which processes are this installation's children.

use std::io;
use std::path::Path;

use crate::files::{FileError, put};

/// The id of the installation in `state_dir`, 16 hexadecimal digits. Where there is none it is made if `writes`,
/// durable and readable for its owner alone; else `None`.
///
/// # Errors
/// The file cannot be read or written.
pub fn of(state_dir: &Path, writes: bool) -> Result<Option<String>, FileError> {
    let path = state_dir.join("instance");
    match std::fs::read_to_string(&path) {
        Ok(text) if is_id(text.trim()) => return Ok(Some(text.trim().to_owned())),
        Ok(_) => tracing::warn!(path = %path.display(), "damaged, and so no id"),
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {}
        Err(source) => return Err(FileError { action: "read", path, source }),
    }
    if !writes {
        return Ok(None);
    }
    let id = format!("{:016x}", rand::random::<u64>());
    put(&path, id.as_bytes(), 0o600)?;
    Ok(Some(id))
}

fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn made_once_and_kept_and_not_by_those_who_only_look() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of(dir.path(), false).unwrap(), None);
        assert!(!dir.path().join("instance").exists());
        let id = of(dir.path(), true).unwrap();
        assert!(id.as_deref().is_some_and(is_id));
        assert_eq!((of(dir.path(), true).unwrap(), of(dir.path(), false).unwrap()), (id.clone(), id.clone()));
        let mode = std::fs::metadata(dir.path().join("instance")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        for damaged in [&b""[..], b"0123", b"\xff\xfe", b"0123456789abcdeg"] {
            std::fs::write(dir.path().join("instance"), damaged).unwrap();
            assert_eq!(of(dir.path(), false).unwrap(), None);
            assert_ne!(of(dir.path(), true).unwrap(), id);
        }
        assert!(of(Path::new("/nowhere"), true).is_err());
    }
}
