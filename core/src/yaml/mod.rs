//! Settings files in YAML, read so that every refusal names key, line and column and shows no other line.
//!
//! The text becomes a tree as it stands ([`raw`]); a [`Table`] knows which keys there may be; the programs turn
//! its fields into settings of their own. What is wrong is a [`Problem`], with the file's name a [`ConfigError`].

mod error;
pub mod raw;
mod table;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub use error::{ConfigError, Place, Problem};
pub use table::{Field, Table, Vocabulary};

/// No such file is larger; what is, is some other file. In bytes.
const MAX_FILE: u64 = 1 << 20;

/// The text of the file at `path`.
///
/// # Errors
/// [`ConfigError`] where it cannot be read, is too large to be meant, or is not UTF-8.
pub fn load(path: &Path) -> Result<String, ConfigError> {
    let bytes = read(path).map_err(|err| unreadable(path, &err))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ConfigError::unreadable(path, "is larger than 1 MiB", "name a settings file"));
    }
    String::from_utf8(bytes).map_err(|err| {
        let valid = err.utf8_error().valid_up_to();
        ConfigError::invalid(path, not_utf8(&err.as_bytes()[..valid]))
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, err: &io::Error) -> ConfigError {
    let remedy = match err.kind() {
        io::ErrorKind::PermissionDenied => "run with sudo",
        io::ErrorKind::NotFound => "write it, or name another with --config",
        io::ErrorKind::IsADirectory => "name the file in it with --config",
        _ => "check the file and its disk",
    };
    ConfigError::unreadable(path, format!("cannot be read: {err}"), remedy)
}

/// The place right behind `valid`, the part of the file that is UTF-8.
fn not_utf8(valid: &[u8]) -> Problem {
    let text = String::from_utf8_lossy(valid);
    let line = text.rsplit('\n').next().unwrap_or_default();
    let at = Place { line: text.matches('\n').count() as u64 + 1, column: line.chars().count() as u64 + 1 };
    Problem::of_the_file(at, "not UTF-8 text", "save the file as UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests may run as root, whom no file refuses: the kernel's answer is made up.
    #[test]
    fn no_permission_asks_for_sudo() {
        let err = unreadable(Path::new("/etc/morpheus/agent.yaml"), &io::ErrorKind::PermissionDenied.into());
        let text = "/etc/morpheus/agent.yaml: cannot be read: permission denied; run with sudo";
        assert_eq!(err.to_string(), text);
    }
}
