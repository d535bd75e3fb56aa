//! `registry`: where the forests are recorded. Read, and its variables expanded, only by commands that need it.

use std::path::{Path, PathBuf};

use forest_core::yaml::raw;
use forest_core::yaml::{ConfigError, Problem, Table};
use secrecy::SecretString;

use super::{VOCABULARY, expand, one_of};
use crate::environment::Environment;
use crate::webdav::{Login, Place};

/// What `registry.type` may be.
pub(super) const TYPES: [&str; 2] = ["storagebox", "local"];

/// Where the registry lies.
#[derive(Debug)]
pub enum RegistryAt {
    /// On a WebDAV server, of which a StorageBox is one.
    Storagebox(Place, Login),
    /// In a directory of this machine, or mounted there; the file's path.
    Directory(PathBuf),
}

/// The `registry` of the file at `path`; `None`: none is configured but that of the local forests.
///
/// # Errors
/// [`ConfigError`], with line and column.
pub fn load(path: &Path, env: &Environment) -> Result<Option<RegistryAt>, ConfigError> {
    let text = forest_core::yaml::load(path)?;
    parse(&text, env).map_err(|problem| ConfigError::invalid(path, problem))
}

pub(super) fn parse(text: &str, env: &Environment) -> Result<Option<RegistryAt>, Problem> {
    let node = raw::read(text)?;
    let root = Table::root(&node, &VOCABULARY)?;
    let table = root.section("registry")?;
    let Some(field) = table.get("type") else {
        return Ok(None);
    };
    let kind = expand::text(&field, env)?;
    match one_of(&field, &TYPES, &kind)? {
        "local" => directory(&table, env),
        _ => storagebox(&table, env).map(Some),
    }
}

/// The share as the nodes mount it: the other door to the registry's directory.
#[derive(Debug, Clone)]
pub struct Share {
    /// `//host/share/directory`
    pub source: String,
    /// The SMB user.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

/// Where both doors of a StorageBox lead: the registry's place, who opens it, and the share of the nodes. `None`:
/// the registry is on no StorageBox.
///
/// # Errors
/// [`ConfigError`], with line and column.
pub fn storage(path: &Path, env: &Environment) -> Result<Option<(Place, Login, Share)>, ConfigError> {
    let text = forest_core::yaml::load(path)?;
    both_doors(&text, env).map_err(|problem| ConfigError::invalid(path, problem))
}

pub(super) fn both_doors(text: &str, env: &Environment) -> Result<Option<(Place, Login, Share)>, Problem> {
    let Some(RegistryAt::Storagebox(place, login)) = parse(text, env)? else {
        return Ok(None);
    };
    let node = raw::read(text)?;
    let table = Table::root(&node, &VOCABULARY)?.section("registry")?;
    let host = table.get("storagebox_host").map(|field| expand::text(&field, env)).transpose()?;
    let host = host.unwrap_or_else(|| place.host().to_owned());
    let share = Share {
        source: source(&host, &login.username, &place.folders()),
        username: login.username.clone(),
        password: login.password.clone(),
    };
    Ok(Some((place, login, share)))
}

/// The main account's share is called `backup`, a sub-account's like its user; what follows is the URL's directory.
fn source(host: &str, username: &str, folders: &[String]) -> String {
    let share = if username.contains("-sub") { username } else { "backup" };
    let below: String = folders.iter().map(|folder| format!("/{folder}")).collect();
    format!("//{host}/{share}{below}")
}

fn directory(table: &Table<'_>, env: &Environment) -> Result<Option<RegistryAt>, Problem> {
    let Some(field) = table.get("path") else {
        return Ok(None);
    };
    let path = PathBuf::from(expand::text(&field, env)?);
    if !path.is_absolute() || path.extension().is_none_or(|extension| extension != "json") {
        let remedy = "write the whole path of the file, like /mnt/forest/registry.json";
        return Err(field.problem("is not the absolute path of a .json file", remedy));
    }
    Ok(Some(RegistryAt::Directory(path)))
}

fn storagebox(table: &Table<'_>, env: &Environment) -> Result<RegistryAt, Problem> {
    let text = |key, example| {
        let field = table.require(key, example)?;
        Ok((expand::text(&field, env)?, field))
    };
    let (url, field) = text("url", "https://u12345.your-storagebox.de/morpheus/registry.json")?;
    let place = Place::parse(&url).map_err(|err| field.problem(err.what, err.remedy))?;
    let (username, _) = text("username", "u12345")?;
    let (password, _) = text("password", "\"${STORAGEBOX_PASSWORD}\"")?;
    Ok(RegistryAt::Storagebox(place, Login { username, password: SecretString::from(password) }))
}
