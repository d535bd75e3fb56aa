//! The rules of docs/ARCHITECTURE.md, checked on the text of the workspace.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folder of a crate, and what it must not depend on.
const IMPORT_RULE: [(&str, &[&str]); 4] = [
    ("core", &["forest-agent", "morpheus", "forest-tests", "tokio", "reqwest", "axum"]),
    ("agent", &["morpheus", "forest-tests"]),
    ("cli", &["forest-agent", "forest-tests"]),
    ("cloud-init", &["forest-agent", "morpheus", "forest-tests", "tokio", "reqwest", "axum"]),
];

/// The one module that may lock a file.
const LOCKS: &str = "core/src/registry/flock.rs";

#[test]
fn crates_import_only_what_they_may() {
    for (folder, forbidden) in IMPORT_RULE {
        let Ok(manifest) = fs::read_to_string(root().join(folder).join("Cargo.toml")) else {
            assert_eq!(folder, "cli", "a crate is missing");
            continue;
        };
        let dependencies = dependencies(&manifest);
        assert!(!dependencies.is_empty(), "{folder}");
        for name in forbidden {
            assert!(!dependencies.contains(name), "{folder} depends on {name}");
            let path = format!("{}::", name.replace('-', "_"));
            assert_eq!(lines_with(folder, &path), [""; 0], "{folder} uses {name}");
        }
    }
}

#[test]
fn files_stay_small() {
    for file in sources() {
        let limit = if file.ends_with("src/main.rs") { 60 } else { 500 };
        let lines = read(&file).lines().count();
        assert!(lines <= limit, "{file} has {lines} lines, and {limit} are the most");
    }
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let (outer, inner) = (["#[", "allow("].concat(), ["#![", "allow("].concat());
    assert_eq!(lines_with("", &outer), [""; 0]);
    assert_eq!(lines_with("", &inner), [""; 0]);
}

#[test]
fn files_are_locked_in_one_module() {
    let elsewhere =
        |line: &String| line.contains("/src/") && !line.starts_with("tests/") && !line.starts_with(LOCKS);
    let found: Vec<_> = lines_with("", "fs2::").into_iter().filter(elsewhere).collect();
    assert_eq!(found, [""; 0], "locks belong into {LOCKS}");
}

/// Where packages come from is the business of each machine's own set-up. Cargo.lock is Cargo's.
#[test]
fn no_file_names_the_host_of_a_package_registry() {
    let hosts =
        [("crates", "io"), ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("deb.debian", "org")]
            .map(|(name, domain)| format!("{name}.{domain}"));
    for file in files().iter().filter(|file| *file != "Cargo.lock") {
        let text = String::from_utf8_lossy(&fs::read(root().join(file)).unwrap()).into_owned();
        for host in &hosts {
            assert!(!text.contains(host), "{file} names {host}");
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).expect("a source file, UTF-8")
}

/// Every file of ours, relative to the root: what was built or installed left out.
fn files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().expect("its type");
            if kind.is_dir() && ![".git", ".tools", "target"].iter().any(|skip| path == Path::new(skip)) {
                folders.push(path);
            } else if kind.is_file() && path != Path::new(".git") {
                found.insert(path.to_str().expect("a plain name").to_owned());
            }
        }
    }
    found
}

fn sources() -> Vec<String> {
    files().into_iter().filter(|file| file.ends_with(".rs")).collect()
}

/// Lines of code in `folder` that hold `text`, as `file: line`; comments do not count.
fn lines_with(folder: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for file in sources().iter().filter(|file| Path::new(file).starts_with(folder)) {
        let content = read(file);
        let code = content.lines().filter(|line| !line.trim_start().starts_with("//"));
        found.extend(code.filter(|line| line.contains(text)).map(|line| format!("{file}: {line}")));
    }
    found
}

/// Names in every dependency section of a manifest.
fn dependencies(manifest: &str) -> BTreeSet<&str> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside && let Some(end) = line.find(['.', ' ', '=']) {
            names.insert(&line[..end]);
        }
    }
    names
}
