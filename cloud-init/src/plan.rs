//! What a node's user-data is made from, checked so that a new machine never meets a value which it cannot use.

use std::fmt;
use std::str::FromStr;

use forest_core::id::{ForestId, NodeId};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::document;

/// The longest password that cifs takes, in bytes.
const LONGEST_PASSWORD: usize = 512;
/// What providers take, in characters.
const LONGEST_USER_DATA: usize = 32_768;

/// Everything that a new machine has to be told.
#[derive(Debug, Clone)]
pub struct UserData {
    /// Its forest.
    pub forest: ForestId,
    /// Its own name.
    pub node: NodeId,
    /// The share with the registry.
    pub share: Share,
    /// Where the agent comes from.
    pub agent: Fetch,
    /// What the agent is to run.
    pub engine: Engine,
    /// The nats-server of the witness, where the engine is none itself.
    pub witness: Option<Download>,
}

/// The CIFS share, as the agent mounts it.
#[derive(Debug, Clone)]
pub struct Share {
    /// `//host/share` or `//host/share/directory`.
    pub source: String,
    /// SMB user.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

/// A program to fetch, never without its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// https, http or file.
    pub url: Url,
    /// Of the plain executable.
    pub sha256: Sha256,
}

/// The agent's executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Where, by https, and what.
    pub download: Download,
    /// Is it the share's other door, which asks for the share's user and password? They are sent nowhere else.
    pub login: bool,
}

/// What carries NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Which program.
    pub kind: EngineKind,
    /// Where the agent gets it from; `None`: the image has it.
    pub download: Option<Download>,
}

/// The engines that the agent knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// nats-server itself.
    NatsServer,
    /// NimsForest, with a NATS server inside.
    Nimsforest,
}

/// 64 hexadecimal digits, as `sha256sum` prints them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sha256(String);

impl FromStr for Sha256 {
    type Err = RenderError;

    fn from_str(text: &str) -> Result<Self, RenderError> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(RenderError::Digest);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why there is no user-data. No message shows the value: it may be, or hold, a secret.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The password, as the agent would refuse it.
    #[error("the share's password {0}")]
    Password(&'static str),
    /// The user name, as the kernel or HTTP would misread it.
    #[error("the share's user name {0}")]
    Username(&'static str),
    /// The share's source.
    #[error("the share's source {0}")]
    Source(&'static str),
    /// A URL to fetch from.
    #[error("the URL of the {what} {problem}")]
    Url {
        /// Of what.
        what: &'static str,
        /// What about it.
        problem: &'static str,
    },
    /// Not what `sha256sum` prints.
    #[error("a SHA-256 is written as 64 hexadecimal digits")]
    Digest,
    /// Longer than providers take.
    #[error("the user-data is {0} characters long, and {LONGEST_USER_DATA} are the most")]
    TooLong(usize),
    /// The YAML could not be written.
    #[error("the user-data cannot be written as YAML")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

impl UserData {
    /// The text for the provider. It bears the password: whoever holds it keeps it secret.
    ///
    /// # Errors
    /// [`RenderError`] where a value could not be used by the machine as it is.
    pub fn render(&self) -> Result<SecretString, RenderError> {
        password(self.share.password.expose_secret())?;
        username(&self.share.username)?;
        source(&self.share.source)?;
        https(&self.agent.download.url)?;
        for (what, download) in [("engine", &self.engine.download), ("witness", &self.witness)] {
            let Some(download) = download else { continue };
            bare(what, &download.url)?;
        }
        let text = document::render(self)?;
        match text.expose_secret().chars().count() {
            length if length > LONGEST_USER_DATA => Err(RenderError::TooLong(length)),
            _ => Ok(text),
        }
    }
}

fn password(text: &str) -> Result<(), RenderError> {
    let problem = if text.is_empty() {
        "is empty"
    } else if text.len() > LONGEST_PASSWORD {
        "is longer than the 512 bytes that cifs takes"
    } else if text.contains(['\0', '\n']) || text.ends_with('\r') {
        "is not one line of text"
    } else {
        return Ok(());
    };
    Err(RenderError::Password(problem))
}

fn username(text: &str) -> Result<(), RenderError> {
    let problem = if text.is_empty() {
        "is empty"
    } else if text.contains([',', '%', ':']) {
        "holds a comma, a percent sign or a colon, which neither a mount option nor HTTP carries"
    } else if text.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(());
    };
    Err(RenderError::Username(problem))
}

fn source(text: &str) -> Result<(), RenderError> {
    let problem = if !text.starts_with("//") {
        "does not begin with two slashes"
    } else if text.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(());
    };
    Err(RenderError::Source(problem))
}

/// The agent is what checks everything else: it comes by https.
fn https(url: &Url) -> Result<(), RenderError> {
    if url.scheme() != "https" {
        return Err(RenderError::Url { what: "agent", problem: "is not https" });
    }
    bare("agent", url)
}

fn bare(what: &'static str, url: &Url) -> Result<(), RenderError> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(RenderError::Url {
            what,
            problem: "bears a user name or password, which belong elsewhere",
        });
    }
    Ok(())
}
