//! The real nats-servers that tests run against: the newest release, and the oldest that is still installed by a
//! distribution.

use std::path::{Path, PathBuf};

/// Variable with the paths, separated by colons; `make test` sets it.
pub const VARIABLE: &str = "FOREST_TEST_NATS";

/// Every nats-server there is to test against.
///
/// # Panics
/// There is none, or one of those named is missing.
#[must_use]
pub fn servers() -> Vec<PathBuf> {
    let found: Vec<_> = match std::env::var_os(VARIABLE) {
        Some(paths) => std::env::split_paths(&paths).collect(),
        None => installed(),
    };
    assert!(!found.is_empty(), "no nats-server to test against: run make tools");
    for path in &found {
        assert!(path.is_file(), "{} is missing: run make tools", path.display());
    }
    found
}

/// The first of [`servers`].
///
/// # Panics
/// As [`servers`].
#[must_use]
pub fn server() -> PathBuf {
    servers().swap_remove(0)
}

fn installed() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let tools = root.join(".tools");
    ["nats-server-2.15.1", "nats-server-debian"]
        .map(|name| tools.join(name))
        .into_iter()
        .filter(|path| path.is_file())
        .collect()
}
