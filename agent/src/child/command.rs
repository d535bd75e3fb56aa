//! What to start: a value, compared by digest.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

/// What an agent hands on of its own environment, and nothing else.
const INHERITED: [&str; 4] = ["PATH", "HOME", "TZ", "LANG"];

/// A command line with all that it runs in. `Debug` shows no value of the environment: they may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// Path of the executable.
    pub program: PathBuf,
    /// Its arguments, without the program's name; never a secret.
    pub args: Vec<OsString>,
    /// The environment beside the few names that are inherited.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory.
    pub cwd: PathBuf,
}

impl Command {
    /// `program` without arguments, in `/`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), cwd: PathBuf::from("/") }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = cwd.into();
        self
    }

    /// 64 hex digits that change with any part of the command.
    #[must_use]
    pub fn digest(&self) -> String {
        let names_and_values = self.env.iter().flat_map(|(name, value)| [name, value]);
        let mut parts = vec![self.program.as_os_str(), self.cwd.as_os_str()];
        parts.extend(self.args.iter().map(OsString::as_os_str));
        let mut sha = Sha256::new();
        sha.update(self.args.len().to_le_bytes());
        for part in parts.into_iter().chain(names_and_values.map(OsString::as_os_str)) {
            sha.update(part.len().to_le_bytes());
            sha.update(part.as_bytes());
        }
        format!("{:x}", sha.finalize())
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .finish()
    }
}

/// Of an environment (main passes `std::env::vars_os()`) what children inherit: PATH, HOME, TZ and LANG.
pub fn inherited(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let keep = |name: &OsString| INHERITED.iter().any(|kept| name == kept);
    vars.into_iter().filter(|(name, _)| keep(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_sees_every_part_and_its_bounds() {
        let base = || Command::new("/bin/a").args(["b", "c"]).env("D", "e");
        let others = [
            Command::new("/bin/a").args(["bc"]).env("D", "e"),
            Command::new("/bin/a").args(["b", "c", "D"]).env("e", ""),
            base().cwd("/tmp"),
            base().env("F", ""),
            Command::new("/bin/A").args(["b", "c"]).env("D", "e"),
        ];
        assert_eq!(base().digest(), base().digest());
        for other in others {
            assert_ne!(base().digest(), other.digest(), "{other:?}");
        }
    }

    #[test]
    fn debug_keeps_values_of_the_environment_to_itself() {
        let shown = format!("{:?}", Command::new("/bin/a").env("TOKEN", "s3cret"));
        assert!(shown.contains("TOKEN") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn little_is_inherited() {
        let vars = [("PATH", "/bin"), ("HCLOUD_TOKEN", "x"), ("LANG", "C")];
        let vars = vars.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let names: Vec<_> = inherited(vars).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["PATH", "LANG"]);
    }
}
