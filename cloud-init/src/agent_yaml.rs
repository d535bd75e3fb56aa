//! agent.yaml of a new machine: what it cannot know by itself; everything else is the agent's default.

use serde::Serialize;
use serde_saphyr::FlowMap;

use crate::document::yaml;
use crate::plan::{self, EngineKind, RenderError, UserData};

/// Where the agent looks for the share's password by default.
pub(crate) const PASSWORD: &str = "/etc/morpheus/storagebox.password";

#[derive(Serialize)]
struct AgentYaml<'a> {
    forest_id: &'a str,
    node_id: &'a str,
    share: Share<'a>,
    engine: Engine,
    #[serde(skip_serializing_if = "Option::is_none")]
    witness: Option<Witness>,
}

#[derive(Serialize)]
struct Share<'a> {
    source: &'a str,
    username: &'a str,
    password_file: &'static str,
}

#[derive(Serialize)]
struct Engine {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    download: Option<FlowMap<Download>>,
}

#[derive(Serialize)]
struct Witness {
    download: FlowMap<Download>,
}

#[derive(Serialize)]
struct Download {
    url: String,
    sha256: String,
}

/// The text of agent.yaml.
pub(crate) fn render(plan: &UserData) -> Result<String, RenderError> {
    yaml(&AgentYaml {
        forest_id: plan.forest.as_str(),
        node_id: plan.node.as_str(),
        share: Share { source: &plan.share.source, username: &plan.share.username, password_file: PASSWORD },
        engine: Engine {
            kind: match plan.engine.kind {
                EngineKind::NatsServer => "nats-server",
                EngineKind::Nimsforest => "nimsforest",
            },
            download: plan.engine.download.as_ref().map(download),
        },
        witness: plan.witness.as_ref().map(|from| Witness { download: download(from) }),
    })
}

fn download(from: &plan::Download) -> FlowMap<Download> {
    FlowMap(Download { url: from.url.to_string(), sha256: from.sha256.to_string() })
}
