//! That a node was taken out on purpose, noted in state_dir, where a reboot without the share finds it.

use std::path::{Path, PathBuf};

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, chain};
use crate::files;
use crate::settings::Settings;

/// The marker's file.
#[derive(Debug, Clone)]
pub struct RemovalMarker {
    path: PathBuf,
    forest: ForestId,
    node: NodeId,
}

/// What is in it.
#[derive(Debug, Serialize, Deserialize)]
struct Text {
    forest_id: String,
    node_id: String,
    time: String,
}

impl RemovalMarker {
    /// The marker of this node.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let (forest, node) = (settings.forest.clone(), settings.node.clone());
        Self { path: path(&settings.state_dir), forest, node }
    }

    /// Since when this node is removed. The marker of another node, which had this state_dir before, is passed
    /// over.
    #[must_use]
    pub fn read(&self) -> Option<String> {
        let text: Text = serde_json::from_slice(&std::fs::read(&self.path).ok()?).ok()?;
        let mine = text.forest_id == self.forest.as_str() && text.node_id == self.node.as_str();
        mine.then_some(text.time)
    }

    /// Notes it; durable when this returns.
    ///
    /// # Errors
    /// `state_dir` with the path.
    pub fn write(&self, since: &str) -> Result<(), Fault> {
        let text = Text {
            forest_id: self.forest.to_string(),
            node_id: self.node.to_string(),
            time: since.to_owned(),
        };
        let fault = |err: &dyn std::error::Error| Fault::new(Reason::StateDir, chain(err));
        let text = serde_json::to_string(&text).map_err(|err| fault(&err))?;
        files::put(&self.path, text.as_bytes(), 0o600).map_err(|err| fault(&err))
    }
}

/// What is said of a removed node, and how it is brought back.
#[must_use]
pub fn fault(settings: &Settings, since: &str) -> Fault {
    let Settings { node, forest, .. } = settings;
    let message = format!("{node} was taken out of forest {forest} on purpose at {since}, so no engine runs");
    Fault::new(Reason::Removed, message).advise(format!(
        "to bring it back, delete forests.{forest}.removed.{node} in {}, then {}",
        settings.registry.display(),
        path(&settings.state_dir).display()
    ))
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("removed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_of_another_node_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let settings = |node: &str| {
            let text = format!("forest_id: grove\nnode_id: {node}\nstate_dir: {}\n", dir.path().display());
            Settings::parse(&text, Path::new("agent.yaml")).unwrap()
        };
        let (one, two) = (settings("grove-node-1"), settings("grove-node-2"));
        assert_eq!(RemovalMarker::new(&one).read(), None);
        RemovalMarker::new(&one).write("2026-11-22T20:16:55Z").unwrap();
        assert_eq!(RemovalMarker::new(&one).read().as_deref(), Some("2026-11-22T20:16:55Z"));
        assert_eq!(RemovalMarker::new(&two).read(), None);
        let fault = fault(&one, "then");
        assert!(fault.remedy().contains("/mnt/forest/registry.json"), "{}", fault.remedy());
        assert!(fault.remedy().contains(&dir.path().join("removed").display().to_string()));
    }
}
