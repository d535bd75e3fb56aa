//! Readers of a registry that others write: what they see, counted.

use forest_core::registry::{Door, Files, Limits, ReadError, Registry, SystemClock, read};
use serde::{Deserialize, Serialize};

/// What reading came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readings {
    /// Whole registries.
    pub whole: u32,
    /// Texts that were no registry, again and again.
    pub torn: u32,
    /// No file.
    pub missing: u32,
    /// The directory or the server did not answer.
    pub failed: u32,
    /// What the last failure said.
    pub last: Option<String>,
}

/// One reading.
#[derive(Debug)]
pub enum Reading {
    /// A whole registry.
    Whole,
    /// No registry.
    Torn(String),
    /// No file.
    Missing,
    /// No answer.
    Failed(String),
}

impl Readings {
    /// Counts one.
    pub fn note(&mut self, reading: Reading) {
        match reading {
            Reading::Whole => self.whole += 1,
            Reading::Missing => self.missing += 1,
            Reading::Torn(why) => {
                self.torn += 1;
                self.last = Some(why);
            }
            Reading::Failed(why) => {
                self.failed += 1;
                self.last = Some(why);
            }
        }
    }
}

/// Reads as every program of ours does.
pub fn read_once<D: Door, E: std::fmt::Display>(open: impl Fn() -> Result<D, E>) -> Reading {
    let door = match open() {
        Ok(door) => door,
        Err(err) => return Reading::Failed(err.to_string()),
    };
    match read::<Registry>(&door, &SystemClock, &Limits::default(), &Files::default()) {
        Ok(_) => Reading::Whole,
        Err(ReadError::Missing(_)) => Reading::Missing,
        Err(err @ ReadError::Corrupt { .. }) => Reading::Torn(forest_core::error::chain(&err)),
        Err(err) => Reading::Failed(forest_core::error::chain(&err)),
    }
}
