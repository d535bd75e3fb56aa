//! `machine` of the configuration, for forests in the cloud: expanded and checked when such a forest is worked on,
//! and not before.

use std::path::{Path, PathBuf};

use forest_core::yaml::raw;
use forest_core::yaml::{ConfigError, Problem, Table};
use secrecy::SecretString;

use super::{VOCABULARY, expand};
use crate::environment::Environment;

/// Which machines, and who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The type; `None`: the cheapest that will do.
    pub server_type: Option<String>,
    /// Types for want of it, in their order.
    pub fallback: Vec<String>,
    /// The name of the image.
    pub image: String,
    /// Where.
    pub location: String,
    /// Do servers get an IPv4 as well?
    pub ipv4: bool,
    /// What the key is called in the project.
    pub key_name: Option<String>,
    /// The file of the public key.
    pub key_path: Option<PathBuf>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            server_type: None,
            fallback: Vec::new(),
            image: "debian-12".to_owned(),
            location: "fsn1".to_owned(),
            ipv4: false,
            key_name: None,
            key_path: None,
        }
    }
}

/// `machine` of the file at `path`.
///
/// # Errors
/// [`ConfigError`], with line and column.
pub fn machine(path: &Path, env: &Environment) -> Result<Machine, ConfigError> {
    with_root(path, |root| settings(&root.section("machine")?, env))
}

/// The API token of the file at `path`; `None`: none is written there, or HCLOUD_TOKEN goes before it.
///
/// # Errors
/// [`ConfigError`], with line and column.
pub fn token(path: &Path, env: &Environment) -> Result<Option<SecretString>, ConfigError> {
    with_root(path, |root| configured_token(root, env))
}

fn with_root<T>(path: &Path, read: impl Fn(&Table<'_>) -> Result<T, Problem>) -> Result<T, ConfigError> {
    let text = forest_core::yaml::load(path)?;
    let found = raw::read(&text).and_then(|node| read(&Table::root(&node, &VOCABULARY)?));
    found.map_err(|problem| ConfigError::invalid(path, problem))
}

fn settings(machine: &Table<'_>, env: &Environment) -> Result<Machine, Problem> {
    let (hetzner, ssh) = (machine.section("hetzner")?, machine.section("ssh")?);
    let text = |table: &Table<'_>, key| table.get(key).map(|field| expand::text(&field, env)).transpose();
    let standard = Machine::default();
    let mut fallback = Vec::new();
    if let Some(field) = hetzner.get("server_type_fallback") {
        for item in field.list()? {
            fallback.push(expand::text(&item, env)?);
        }
    }
    let ipv4 = machine.section("ipv4")?.get("enabled").map(|field| field.flag()).transpose()?;
    Ok(Machine {
        server_type: text(&hetzner, "server_type")?,
        fallback,
        image: text(&hetzner, "image")?.unwrap_or(standard.image),
        location: text(&hetzner, "location")?.unwrap_or(standard.location),
        ipv4: ipv4.unwrap_or_default(),
        key_name: text(&ssh, "key_name")?,
        key_path: text(&ssh, "key_path")?.map(PathBuf::from),
    })
}

/// HCLOUD_TOKEN goes before it, and then the file's may be a variable that is not set.
fn configured_token(root: &Table<'_>, env: &Environment) -> Result<Option<SecretString>, Problem> {
    if env.get("HCLOUD_TOKEN").is_some() {
        return Ok(None);
    }
    let field = root.section("secrets")?.get("hetzner_api_token");
    Ok(field.map(|field| expand::text(&field, env)).transpose()?.map(SecretString::from))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const TEXT: &str = "machine:\n  hetzner: { server_type: \"${TYPE}\", server_type_fallback: [a, b], location: hel1 }\n  \
                        ssh: { key_path: /k.pub }\nsecrets: { hetzner_api_token: \"${TOKEN}\" }\n";

    fn read(env: &Environment) -> Result<(Machine, Option<SecretString>), ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TEXT).unwrap();
        Ok((machine(file.path(), env)?, token(file.path(), env)?))
    }

    #[test]
    fn machines_are_read_and_variables_expanded() {
        let (machine, token) = read(&Environment::from([("TYPE", "cx23"), ("TOKEN", "t0")])).unwrap();
        assert_eq!((machine.server_type.as_deref(), machine.location.as_str()), (Some("cx23"), "hel1"));
        assert_eq!((machine.fallback.len(), machine.image.as_str(), machine.ipv4), (2, "debian-12", false));
        assert_eq!(token.unwrap().expose_secret(), "t0");
        let err = read(&Environment::from([("TYPE", "cx23")])).unwrap_err().to_string();
        assert!(err.contains("secrets.hetzner_api_token: the variable TOKEN is not set"), "{err}");
        let with_own = [("TYPE", "cx23"), ("HCLOUD_TOKEN", "own")];
        assert!(read(&Environment::from(with_own)).unwrap().1.is_none());
    }
}
