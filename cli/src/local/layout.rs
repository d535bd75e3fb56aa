//! Where everything of the local mode lies.

use std::path::{Path, PathBuf};

use forest_core::id::{ForestId, NodeId};

/// The directory of the local mode.
#[derive(Debug, Clone)]
pub struct Layout(PathBuf);

impl Layout {
    /// Below `root`.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self(root)
    }

    /// The directory itself; the registry lies in it.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The registry that all local forests share.
    #[must_use]
    pub fn registry(&self) -> PathBuf {
        self.0.join("registry.json")
    }

    /// The lock of updaters, of this machine.
    #[must_use]
    pub fn queue(&self) -> PathBuf {
        self.0.join(".registry.queue")
    }

    /// All directories of forests.
    #[must_use]
    pub fn forests(&self) -> PathBuf {
        self.0.join("forests")
    }

    /// The lock of the one command that works on a forest.
    #[must_use]
    pub fn lock(&self, forest: &ForestId) -> PathBuf {
        self.0.join(format!(".{forest}.lock"))
    }

    /// Everything of a forest but its record.
    #[must_use]
    pub fn forest(&self, forest: &ForestId) -> PathBuf {
        self.forests().join(forest.as_str())
    }

    /// Everything of a node.
    #[must_use]
    pub fn node(&self, forest: &ForestId, node: &NodeId) -> NodeDir {
        NodeDir(self.forest(forest).join(node.as_str()))
    }
}

/// The directory of one node.
#[derive(Debug, Clone)]
pub struct NodeDir(PathBuf);

impl NodeDir {
    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The agent's settings.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join("agent.yaml")
    }

    /// The agent's executable, as the agent is started: a link to it, so that another file can take its place.
    #[must_use]
    pub fn agent(&self) -> PathBuf {
        self.0.join("forest-agent")
    }

    /// What the agent keeps over reboots.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// What the agent keeps until the next boot.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.0.join("run")
    }

    /// JetStream's directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// The node's identity.
    #[must_use]
    pub fn node_info(&self) -> PathBuf {
        self.0.join("node-info.json")
    }

    /// What the agent writes.
    #[must_use]
    pub fn agent_log(&self) -> PathBuf {
        self.0.join("agent.log")
    }

    /// Where the logs of the agent's children are.
    #[must_use]
    pub fn child_logs(&self) -> PathBuf {
        self.state().join("log")
    }
}
