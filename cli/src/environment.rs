//! The process's environment as a value, taken once in main.

use std::collections::HashMap;
use std::path::PathBuf;

/// Variables by name. It may hold secrets, so it has no `Debug`.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// What this process was given; variables that are not UTF-8 are none of ours.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A directory of the XDG rules, which takes absolute paths alone: `variable`, else `default` below the home.
    #[must_use]
    pub fn xdg(&self, variable: &str, default: &str) -> Option<PathBuf> {
        let given = self.get(variable).map(PathBuf::from);
        given
            .filter(|path| path.is_absolute())
            .or_else(|| Some(PathBuf::from(self.get("HOME")?).join(default)))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(pairs.into_iter().map(own).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_takes_absolute_paths_alone() {
        let dir = |pairs: [(&str, &str); 2]| Environment::from(pairs).xdg("XDG_STATE_HOME", ".local/state");
        assert_eq!(dir([("HOME", "/h"), ("XDG_STATE_HOME", "/s")]), Some("/s".into()));
        assert_eq!(dir([("HOME", "/h"), ("XDG_STATE_HOME", "s")]), Some("/h/.local/state".into()));
        assert_eq!(dir([("HOME", ""), ("XDG_STATE_HOME", "")]), None);
    }
}
