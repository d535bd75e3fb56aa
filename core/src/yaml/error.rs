//! What is wrong with the file, in one line that a person can act on.
//!
//! A message speaks of the value at its own place and of nothing else: no neighbouring line, which may hold a
//! secret, ever enters one. That is why nothing here is built from the file's text as such.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::reason::Reason;

/// A place in the file, both counted from 1; the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

impl Place {
    /// Where a problem of the file as a whole is shown.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// Why there are no settings: `PATH:LINE:COLUMN: KEY: what is wrong; what to do`. Programs end with exit
/// code 78 on it. It has no source: what the operating system said is part of the sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", .path.display(), .kind)]
pub struct ConfigError {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Unreadable { what: String, remedy: &'static str },
    Invalid(Problem),
}

/// Something wrong at a place, before anybody has said in which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Place,
    /// Dotted from the top, `share.source`; empty where no key is to blame.
    pub key: String,
    /// A lowercase fragment.
    pub what: String,
    /// What to do; empty where `what` already says it.
    pub remedy: String,
}

impl ConfigError {
    /// The file cannot be read as text.
    pub fn unreadable(path: &Path, what: impl Into<String>, remedy: &'static str) -> Self {
        let what = what.into();
        Self { path: path.to_owned(), kind: Kind::Unreadable { what, remedy } }
    }

    /// Its content is not right.
    pub fn invalid(path: &Path, problem: Problem) -> Self {
        Self { path: path.to_owned(), kind: Kind::Invalid(problem) }
    }

    /// The stable code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self.kind {
            Kind::Unreadable { .. } => Reason::ConfigUnreadable,
            Kind::Invalid(_) => Reason::ConfigInvalid,
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where in the file; `None` if it could not be read at all.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        match &self.kind {
            Kind::Unreadable { .. } => None,
            Kind::Invalid(problem) => Some(problem.at),
        }
    }

    /// The key to blame, dotted from the top, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match &self.kind {
            Kind::Invalid(problem) if !problem.key.is_empty() => Some(&problem.key),
            _ => None,
        }
    }
}

impl Problem {
    /// A problem with no key to blame.
    pub fn of_the_file(at: Place, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { at, key: String::new(), what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { what, remedy } => write!(f, ": {what}; {remedy}"),
            Self::Invalid(problem) => problem.fmt(f),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}:{}: ", self.at.line, self.at.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}
