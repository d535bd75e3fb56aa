//! What a new machine is told: the user-data of a node, from the forest's programs and the share.

use forest_cloud_init::{Download, Engine, EngineKind as Kind, Fetch, Share, UserData};
use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use secrecy::SecretString;
use url::Url;

use super::programs::BIN;
use super::record::{Programs, Shelved};
use crate::config::EngineKind;
use crate::config::registry::Share as Configured;
use crate::failure::Failure;
use crate::webdav::Shelf;

/// Stands where a secret would.
pub const MASK: &str = "********";
/// Where nodes have the share.
const MOUNTPOINT: &str = "/mnt/forest";

/// What the user-data of all nodes of a forest is made from.
pub struct Telling<'a> {
    /// The forest.
    pub forest: &'a ForestId,
    /// What its nodes run.
    pub programs: &'a Programs,
    /// Where they find each other.
    pub share: &'a Configured,
    /// Where the agent is fetched.
    pub shelf: &'a Shelf,
}

impl Telling<'_> {
    /// The user-data of a node. It bears the share's password.
    ///
    /// # Errors
    /// [`Failure`] where a value could not be used by the machine.
    pub fn user_data(&self, node: &NodeId) -> Result<SecretString, Failure> {
        self.render(node, self.share.password.clone())
    }

    /// The same text without its secrets.
    ///
    /// # Errors
    /// As [`Self::user_data`].
    pub fn masked(&self, node: &NodeId) -> Result<SecretString, Failure> {
        self.render(node, MASK.into())
    }

    fn render(&self, node: &NodeId, password: SecretString) -> Result<SecretString, Failure> {
        let programs = self.programs;
        let agent = download(self.shelf.url(&format!("{BIN}/{}", programs.agent.file)), &programs.agent)?;
        let data = UserData {
            forest: self.forest.clone(),
            node: node.clone(),
            share: Share {
                source: self.share.source.clone(),
                username: self.share.username.clone(),
                password,
            },
            agent: Fetch { download: agent, login: true },
            engine: Engine {
                kind: match programs.engine_kind {
                    EngineKind::NatsServer => Kind::NatsServer,
                    EngineKind::Nimsforest => Kind::Nimsforest,
                },
                download: Some(mounted(&programs.engine)?),
            },
            witness: programs.witness.as_ref().map(mounted).transpose()?,
        };
        data.render().map_err(|err| refused(&err.to_string()))
    }
}

/// A program as nodes find it on the share.
///
/// # Errors
/// [`Failure`] where its record is damaged.
pub fn mounted(program: &Shelved) -> Result<Download, Failure> {
    let url = format!("file://{MOUNTPOINT}/{BIN}/{}", program.file);
    download(Url::parse(&url).map_err(|err| refused(&err.to_string()))?, program)
}

fn download(url: Url, program: &Shelved) -> Result<Download, Failure> {
    let sha256 =
        program.sha256.parse().map_err(|err: forest_cloud_init::RenderError| refused(&err.to_string()))?;
    Ok(Download { url, sha256 })
}

fn refused(why: &str) -> Failure {
    let message =
        format!("there is no user-data for the nodes: {why}; look at `registry` in the configuration");
    Failure::new(Reason::ConfigInvalid, message)
}
