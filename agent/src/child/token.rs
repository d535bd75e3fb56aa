//! The mark that every child carries in its environment, so that a later agent finds it in /proc without any
//! file: `FOREST_AGENT_CHILD=<prefix>.<nonce>`. The prefix follows from state_dir and the child's name alone;
//! the nonce tells one start from the next. Children of a child inherit the mark.

use std::path::Path;

use sha2::{Digest, Sha256};

/// The variable's name.
pub(super) const VARIABLE: &str = "FOREST_AGENT_CHILD";

/// The part of a token that all starts of child `name` under `state_dir` share.
pub(super) fn prefix(state_dir: &Path, name: &str) -> String {
    use std::os::unix::ffi::OsStrExt;

    // One directory has one prefix, however its path is spelled.
    let dir = std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    let mut sha = Sha256::new();
    sha.update(dir.as_os_str().as_bytes());
    sha.update([0]);
    sha.update(name);
    format!("{:x}", sha.finalize())[..16].to_owned()
}

/// A token that no other start has.
pub(super) fn fresh(prefix: &str) -> String {
    format!("{prefix}.{:016x}", rand::random::<u64>())
}

/// The token of that prefix in the text of a /proc/PID/environ.
pub(super) fn find(environ: &[u8], prefix: &str) -> Option<String> {
    let entries = environ.split(|byte| *byte == 0);
    let mut entries = entries.filter_map(|entry| std::str::from_utf8(entry).ok());
    entries.find_map(|entry| {
        let token = entry.strip_prefix(VARIABLE)?.strip_prefix('=')?;
        let (start, _) = token.split_once('.')?;
        (start == prefix).then(|| token.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_in_an_environment_by_its_prefix_alone() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = prefix(dir.path(), "engine");
        let token = fresh(&prefix);
        let environ = format!("A=\u{fffd}\0{VARIABLE}={token}\0B=2\0");
        assert_eq!(find(environ.as_bytes(), &prefix), Some(token));
        let other = super::prefix(dir.path(), "witness");
        assert_eq!(find(environ.as_bytes(), &other), None);
        assert_eq!(find(b"", &prefix), None);
    }
}
