//! Reading agent.yaml: the one place here that touches a file, and it only reads.

use std::path::Path;

use forest_core::yaml::{self, ConfigError, raw};

use super::{Settings, validate};

impl Settings {
    /// Reads and checks the file at `path`. Nothing else is looked at: neither the environment nor whether the
    /// paths in it exist.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not YAML, or holds anything that is not valid; see [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&yaml::load(path)?, path)
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
