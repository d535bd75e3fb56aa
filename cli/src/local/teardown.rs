//! Tearing a forest down: tombstones, processes, directories, secrets, entries and record, in this order, so that it can
//! be cut short anywhere and run again. Errors are gathered; what can go goes, and the record stays until
//! everything else is gone.

use std::time::Duration;

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use forest_core::registry::{Registry, remove_forest};
use futures::future::join_all;
use jiff::Timestamp;

use super::layout::NodeDir;
use super::process::{self, Process};
use super::{Local, lock, record};
use crate::failure::Failure;
use crate::files;
use crate::progress::Progress;

/// How long an agent may take to end its children and itself.
const AGENT_GRACE: Duration = Duration::from_secs(45);
/// How long a child without its agent may take.
const CHILD_GRACE: Duration = Duration::from_secs(15);
/// How long the kernel may take to end a killed process.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// A node, and what became of it.
pub type Fate = (NodeId, String, Result<(), Failure>);

impl Local {
    /// Takes everything of a forest down; what became of each node.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be begun, or something is left that belongs to no node.
    pub async fn teardown(&self, forest: &ForestId, progress: &mut Progress) -> Result<Vec<Fate>, Failure> {
        let lock = lock::acquire(&self.layout, forest)?;
        self.store.update(|registry| Ok(record::bury(registry, forest, Timestamp::now())))?;
        let nodes = self.nodes(&self.store.read()?, forest);
        for (node, _) in &nodes {
            progress.at(node.as_str(), "stopping");
        }
        let ends = join_all(nodes.iter().map(|(node, _)| self.end(forest, node))).await;
        let mut fates = Vec::new();
        for ((node, ip), end) in nodes.into_iter().zip(ends) {
            progress.end(node.as_str(), if end.is_ok() { "gone" } else { "still there" });
            fates.push((node, ip, end));
        }
        if fates.iter().all(|(_, _, end)| end.is_ok()) {
            files::remove_dir(&self.layout.forest(forest))?;
            self.store.forget_secrets(forest)?;
            self.store.update(|registry| Ok(remove_forest(registry, forest, Timestamp::now())))?;
            // Only an empty one goes.
            let _ = std::fs::remove_dir(self.layout.forests());
            lock::remove(&self.layout, forest, lock)?;
        }
        Ok(fates)
    }

    /// Every node there is a trace of: members, entries and directories; with its address, if that is known.
    fn nodes(&self, registry: &Registry, forest: &ForestId) -> Vec<(NodeId, String)> {
        let plan = record::Forest::find(registry, forest).map(|found| found.plan);
        let members =
            plan.into_iter().flat_map(|plan| plan.members).map(|member| (member.id, member.ip.to_string()));
        let entries =
            registry.entries(forest).into_iter().filter_map(|entry| Some((entry.id.parse().ok()?, entry.ip)));
        let directories = self.directories(forest).into_iter().map(|node| (node, String::new()));
        let mut nodes: Vec<(NodeId, String)> = Vec::new();
        for (node, ip) in members.chain(entries).chain(directories) {
            if nodes.iter().all(|(known, _)| *known != node) {
                nodes.push((node, ip));
            }
        }
        nodes
    }

    /// The nodes that have a directory.
    #[must_use]
    pub fn directories(&self, forest: &ForestId) -> Vec<NodeId> {
        let Ok(entries) = std::fs::read_dir(self.layout.forest(forest)) else {
            return Vec::new();
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).collect()
    }

    /// Ends everything that runs of a node, then removes its directory.
    pub(super) async fn end(&self, forest: &ForestId, node: &NodeId) -> Result<(), Failure> {
        let dir = self.layout.node(forest, node);
        end_all(|| process::agents(&dir), AGENT_GRACE, node).await?;
        end_all(|| process::commands(&dir), CHILD_GRACE, node).await?;
        // What an agent that was killed has left behind; a living one has ended them itself.
        end_all(|| process::children(&dir), CHILD_GRACE, node).await?;
        remove(&dir)
    }
}

fn remove(dir: &NodeDir) -> Result<(), Failure> {
    files::remove_dir(dir.path())
}

/// Asks all processes to end, and kills those that do not; again, for those that were started meanwhile.
async fn end_all(find: impl Fn() -> Vec<Process>, grace: Duration, node: &NodeId) -> Result<(), Failure> {
    for _ in 0..3 {
        let found = find();
        if found.is_empty() {
            return Ok(());
        }
        let ends = join_all(found.iter().map(|process| end_one(process, grace, node))).await;
        ends.into_iter().collect::<Result<(), _>>()?;
    }
    match find().first() {
        None => Ok(()),
        Some(process) => Err(still_running(process, node, "comes back again and again")),
    }
}

async fn end_one(process: &Process, grace: Duration, node: &NodeId) -> Result<(), Failure> {
    let refused = |err: std::io::Error| still_running(process, node, &format!("cannot be ended: {err}"));
    process.term().map_err(refused)?;
    if process.gone_within(grace).await {
        return Ok(());
    }
    process.kill().map_err(refused)?;
    if process.gone_within(KILL_GRACE).await {
        return Ok(());
    }
    Err(still_running(process, node, "does not end, though it was killed"))
}

fn still_running(process: &Process, node: &NodeId, why: &str) -> Failure {
    Failure::new(Reason::StillRunning, format!("process {} of {node} {why}", process.pid()))
}
