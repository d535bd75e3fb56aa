//! config.yaml: found, read, checked whole; secrets in it are never shown.
//!
//! `${NAME}` stands for a variable of the environment and is expanded where a value is used, so that a missing
//! variable is no fault of a command that does not need it.

pub mod edit;
mod expand;
mod find;
mod machine;
pub mod registry;
mod show;
mod vocabulary;

use std::path::{Path, PathBuf};

use forest_core::yaml::raw::{self, Node};
use forest_core::yaml::{ConfigError, Field, Problem, Table};
use url::Url;

pub use find::{Found, find};
pub use machine::{Machine, machine, token};
pub use registry::RegistryAt;
pub use show::{Shown, value, values};
pub use vocabulary::{VOCABULARY, is_secret};

use crate::environment::Environment;

/// What `morpheus init` writes.
pub const TEMPLATE: &str = include_str!("../../config.example.yaml");

/// What is configured, as far as this version uses it; all else is checked for its form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Where machines come from; `None`: nothing is configured.
    pub provider: Option<Provider>,
    /// The engine of nodes.
    pub engine: Engine,
}

/// `machine.provider`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Machines of Hetzner Cloud.
    Hetzner,
    /// This machine.
    Local,
}

/// `engine`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Engine {
    /// `nats-server` or `nimsforest`, if it is said.
    pub kind: Option<EngineKind>,
    /// Its executable.
    pub binary: Option<PathBuf>,
    /// Where to get it.
    pub download: Option<Download>,
}

/// Which program bears the NATS server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// nats-server itself.
    NatsServer,
    /// NimsForest, which has a NATS server inside.
    Nimsforest,
}

/// A program to fetch, never without its digest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Download {
    /// https, http or file; without user name and password.
    pub url: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`], with line and column.
    pub fn load(path: &Path, env: &Environment) -> Result<Self, ConfigError> {
        Self::parse(&forest_core::yaml::load(path)?, path, env)
    }

    /// Checks `text`; `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigError`], with line and column.
    pub fn parse(text: &str, path: &Path, env: &Environment) -> Result<Self, ConfigError> {
        raw::read(text)
            .and_then(|node| settings(&node, env))
            .map_err(|problem| ConfigError::invalid(path, problem))
    }
}

fn settings(node: &Node, env: &Environment) -> Result<Config, Problem> {
    let root = Table::root(node, &VOCABULARY)?;
    let machine = root.section("machine")?;
    form(&machine)?;
    let table = root.section("registry")?;
    if let Some(field) = table.get("type") {
        one_of(&field, &registry::TYPES, expand::text(&field, env)?.as_str())?;
    }
    texts(&table, &["url", "path", "storagebox_host", "username", "password"])?;
    texts(&root.section("secrets")?, &["hetzner_api_token"])?;
    let provider = machine.get("provider").map(|field| provider(&field, env)).transpose()?;
    let engine = engine(&root.section("engine")?, env)?;
    Ok(Config { provider, engine })
}

/// `machine` but for its provider.
fn form(machine: &Table<'_>) -> Result<(), Problem> {
    let hetzner = machine.section("hetzner")?;
    texts(&hetzner, &["server_type", "image", "location"])?;
    if let Some(field) = hetzner.get("server_type_fallback") {
        for item in field.list()? {
            item.text()?;
        }
    }
    texts(&machine.section("ssh")?, &["key_name", "key_path"])?;
    if let Some(field) = machine.section("ipv4")?.get("enabled") {
        field.flag()?;
    }
    Ok(())
}

fn texts(table: &Table<'_>, keys: &[&'static str]) -> Result<(), Problem> {
    keys.iter().filter_map(|key| table.get(key)).try_for_each(|field| field.text().map(drop))
}

fn one_of<'a>(field: &Field<'_>, known: &[&'a str], text: &str) -> Result<&'a str, Problem> {
    known.iter().copied().find(|known| *known == text).ok_or_else(|| {
        field.problem(format!("`{text}` is not known here"), format!("write {}", known.join(" or ")))
    })
}

fn provider(field: &Field<'_>, env: &Environment) -> Result<Provider, Problem> {
    let text = expand::text(field, env)?;
    Ok(match one_of(field, &["hetzner", "local"], &text)? {
        "local" => Provider::Local,
        _ => Provider::Hetzner,
    })
}

fn engine(table: &Table<'_>, env: &Environment) -> Result<Engine, Problem> {
    let text = |key| table.get(key).map(|field| expand::text(&field, env)).transpose();
    let kind = match table.get("kind") {
        None => None,
        Some(field) => {
            Some(match one_of(&field, &["nats-server", "nimsforest"], &expand::text(&field, env)?)? {
                "nimsforest" => EngineKind::Nimsforest,
                _ => EngineKind::NatsServer,
            })
        }
    };
    let binary = text("binary")?.map(PathBuf::from);
    if binary.as_ref().is_some_and(|path| !path.is_absolute()) {
        return Err(table.problem("engine.binary", "is not an absolute path", "begin it with a slash"));
    }
    let download = match (text("download_url")?, text("sha256")?) {
        (None, None) => None,
        (Some(url), Some(sha256)) => Some(download(table, url, sha256)?),
        (Some(_), None) => {
            return Err(table.problem(
                "engine.sha256",
                "missing",
                "add what `sha256sum FILE` prints: what is fetched is run",
            ));
        }
        (None, Some(_)) => {
            return Err(table.problem("engine.download_url", "missing", "say where to fetch it"));
        }
    };
    Ok(Engine { kind, binary, download })
}

/// The URL is never shown: it may bear a token.
fn download(table: &Table<'_>, url: String, sha256: String) -> Result<Download, Problem> {
    let parsed = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "https" | "http" | "file"));
    let Some(parsed) = parsed else {
        return Err(table.problem(
            "engine.download_url",
            "is no https, http or file URL",
            "write https://host/path",
        ));
    };
    if !parsed.username().is_empty() || parsed.password().is_some() {
        let what = "holds a user name or a password, which would end up in logs";
        return Err(table.problem("engine.download_url", what, "use a URL without them"));
    }
    if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(table.problem(
            "engine.sha256",
            "is not 64 digits of 0-9 and a-f",
            "write what `sha256sum FILE` prints",
        ));
    }
    Ok(Download { url, sha256 })
}

#[cfg(test)]
mod tests;
