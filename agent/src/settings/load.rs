//! Reading agent.yaml: the one place here that touches a file, and it only reads.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::{ConfigError, Place, Problem};
use super::{Settings, raw, validate};

/// No agent.yaml is larger; what is, is some other file. In bytes.
const MAX_FILE: u64 = 1 << 20;

impl Settings {
    /// Reads and checks the file at `path`. Nothing else is looked at: neither the environment nor whether the
    /// paths in it exist.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not YAML, or holds anything that is not valid; see [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = read(path).map_err(|err| unreadable(path, &err))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(ConfigError::unreadable(path, "is larger than 1 MiB", "name an agent.yaml"));
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, path),
            Err(err) => Err(ConfigError::invalid(path, not_utf8(&bytes[..err.valid_up_to()]))),
        }
    }

    /// Checks `text`; `path` is for the messages alone.
    ///
    /// # Errors
    ///
    /// If the text is not YAML or holds anything that is not valid; see [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        raw::read(text)
            .and_then(|node| validate::settings(&node))
            .map_err(|problem| ConfigError::invalid(path, problem))
    }
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
        insta::assert_snapshot!(err, @"/etc/morpheus/agent.yaml: cannot be read: permission denied; run with sudo");
    }
}
