//! Looking for a text in every file of a directory: secrets that should be in none.

use std::fs;
use std::path::Path;

/// The files below `dir`, links not followed, in which one of `texts` stands.
///
/// # Panics
/// If the system does not tell what an entry is.
#[must_use]
pub fn files_with(dir: &Path, texts: &[&str]) -> Vec<String> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("what it is"));
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_file() {
                // One that is gone meanwhile has nothing.
                let bytes = fs::read(&path).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes);
                found
                    .extend(texts.iter().any(|part| text.contains(part)).then(|| path.display().to_string()));
            }
        }
    }
    found
}
