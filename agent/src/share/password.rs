//! The share's password: read from a file that only its owner can read, and handed on as a secret.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use forest_core::reason::Reason;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::fault::Fault;

/// What cifs takes, in bytes.
const LONGEST: usize = 512;

/// Reads the password in `path`, without its last newline.
///
/// # Errors
/// `share_password_file`, with the command that helps: missing, unreadable, readable to others, empty, too long,
/// or not text.
pub fn read(path: &Path) -> Result<SecretString, Fault> {
    let fault = |problem: &str| {
        let message = format!("the share's password file {} {problem}", path.display());
        Fault::new(Reason::SharePasswordFile, message)
    };
    let failed = |err: &io::Error| match err.kind() {
        io::ErrorKind::NotFound => fault("is missing: write the password into it, mode 0600"),
        _ => fault(&format!("cannot be read: {err}")),
    };
    let file = open(path).map_err(|err| failed(&err))?;
    let meta = file.metadata().map_err(|err| failed(&err))?;
    if !meta.is_file() {
        return Err(fault("is not a plain file"));
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let problem = format!("can be read by others (mode {mode:04o}): chmod 600 {}", path.display());
        return Err(fault(&problem));
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 64));
    let limit = u64::try_from(LONGEST + 3).unwrap_or(u64::MAX);
    (&file).take(limit).read_to_end(&mut bytes).map_err(|err| failed(&err))?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(fault("is empty: write the password into it"));
    }
    if line.len() > LONGEST {
        return Err(fault(&format!("holds more than the {LONGEST} bytes that cifs takes")));
    }
    match std::str::from_utf8(line) {
        Ok(text) if !text.contains(['\0', '\n']) => Ok(SecretString::from(text)),
        _ => Err(fault("does not hold one line of UTF-8 text")),
    }
}

/// Without waiting: opening a FIFO would block.
fn open(path: &Path) -> io::Result<File> {
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    File::options().read(true).custom_flags(nonblock).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn given(content: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("storagebox.password");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn problem(content: &[u8], mode: u32) -> String {
        let (_dir, path) = given(content, mode);
        let fault = read(&path).unwrap_err();
        assert_eq!(fault.reason, Reason::SharePasswordFile);
        assert!(fault.message.contains(path.to_str().unwrap()));
        assert!(!fault.message.contains("s3cret"));
        fault.message
    }

    #[test]
    fn reads_all_but_the_last_newline() {
        for (content, password) in
            [("s3cret\n", "s3cret"), ("s3cret", "s3cret"), ("s3cret\r\n", "s3cret"), (" a,b,, \n", " a,b,, ")]
        {
            let (_dir, path) = given(content.as_bytes(), 0o600);
            assert_eq!(read(&path).unwrap().expose_secret(), password);
        }
    }

    #[test]
    fn refuses_what_others_can_read_and_says_the_command() {
        for mode in [0o640, 0o604, 0o644, 0o660] {
            let message = problem(b"s3cret\n", mode);
            assert!(
                message.contains(&format!("mode {mode:04o}")) && message.contains("chmod 600 /"),
                "{message}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_password() {
        assert!(problem(b"", 0o600).contains("is empty"));
        assert!(problem(b"\n", 0o600).contains("is empty"));
        assert!(problem(b"s3cret\nmore\n", 0o600).contains("one line"));
        assert!(problem(b"s3cret\0", 0o600).contains("one line"));
        assert!(problem(b"\xff\xfe", 0o600).contains("UTF-8"));
        assert!(problem(&[b'x'; 513], 0o600).contains("512"));
        assert!(problem(&[b'x'; 9000], 0o600).contains("512"));
    }

    #[test]
    fn names_a_missing_file_a_directory_and_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let missing = read(&dir.path().join("no")).unwrap_err();
        assert!(missing.message.contains("is missing"), "{missing}");
        assert!(read(dir.path()).unwrap_err().message.contains("not a plain file"));
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(read(&fifo).unwrap_err().message.contains("not a plain file"));
    }
}
