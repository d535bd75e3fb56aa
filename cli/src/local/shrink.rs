//! Shrinking: nodes leave their forest one after the other, each without a loss; then what is left of them goes. Run
//! again, it goes on where it was cut short.

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use forest_core::registry::take_out;
use jiff::Timestamp;

use super::record::{self, Member, Plan};
use super::teardown::Fate;
use super::{Local, agent, lock, process, unknown};
use crate::failure::Failure;
use crate::progress::Progress;

/// What came of a shrinking.
#[derive(Debug)]
pub struct Shrunk {
    /// The nodes that were worked on; those after the first that did not leave were left alone.
    pub fates: Vec<Fate>,
    /// Streams that were destroyed, by force.
    pub lost: Vec<String>,
}

impl Local {
    /// Lets these nodes leave. `force`: whatever is lost, and those that are dead are forgotten.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be begun; what became of each is in the result.
    pub async fn shrink(
        &self,
        forest: &ForestId,
        nodes: &[String],
        force: bool,
        progress: &mut Progress,
    ) -> Result<Shrunk, Failure> {
        let _lock = lock::acquire(&self.layout, forest)?;
        let plan = record::live(&self.store.read()?, forest)?;
        let leavers = chosen(forest, &plan, nodes)?;
        let mut shrunk = Shrunk { fates: Vec::new(), lost: Vec::new() };
        for member in leavers {
            let end = self.let_leave(forest, &plan, &member, force, progress, &mut shrunk.lost).await;
            progress.end(member.id.as_str(), if end.is_ok() { "gone" } else { "still there" });
            let failed = end.is_err();
            shrunk.fates.push((member.id, member.ip.to_string(), end));
            if failed {
                break;
            }
        }
        Ok(shrunk)
    }

    async fn let_leave(
        &self,
        forest: &ForestId,
        plan: &Plan,
        member: &Member,
        force: bool,
        progress: &mut Progress,
        lost: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let (node, dir) = (&member.id, self.layout.node(forest, &member.id));
        let gone = self.store.read()?.tombstone(forest, node).is_some() && !self.has_entry(forest, node)?;
        if !gone {
            let program = &plan.programs.agent;
            if !process::agents(&dir).is_empty() {
                let arguments: &[&str] = if force { &["leave", "--force"] } else { &["leave"] };
                let told = agent::run(program, &dir, arguments, node.as_str(), progress).await?;
                lost.extend(
                    told["lost"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(|name| name.as_str())
                        .map(str::to_owned),
                );
            } else if force {
                let other = self.living(forest, plan, node)?;
                agent::run(
                    program,
                    &self.layout.node(forest, &other),
                    &["forget", node.as_str()],
                    node.as_str(),
                    progress,
                )
                .await?;
            } else {
                let message = format!(
                    "{node} does not run, so that it cannot leave: start it (morpheus grow {forest} --repair), or give \
                     it up with all that only it has (--force)"
                );
                return Err(Failure::new(Reason::AgentUnreachable, message));
            }
        }
        progress.at(node.as_str(), "stopping");
        self.end(forest, node).await?;
        self.store.update(|registry| {
            let out = take_out(registry, forest, node, Timestamp::now());
            let shrunk = record::shrink(out.as_ref().unwrap_or(registry), forest, node, Timestamp::now());
            Ok(shrunk.or(out))
        })?;
        Ok(())
    }

    fn has_entry(&self, forest: &ForestId, node: &NodeId) -> Result<bool, Failure> {
        Ok(self.store.read()?.entries(forest).iter().any(|entry| entry.id == node.as_str()))
    }

    /// Another node whose agent runs.
    fn living(&self, forest: &ForestId, plan: &Plan, dead: &NodeId) -> Result<NodeId, Failure> {
        let lives = |member: &&Member| {
            member.id != *dead && !process::agents(&self.layout.node(forest, &member.id)).is_empty()
        };
        let found = plan.members.iter().find(lives).map(|member| member.id.clone());
        found.ok_or_else(|| {
            let message = format!(
                "no other node of {forest} runs that could take {dead} out: morpheus grow {forest} --repair"
            );
            Failure::new(Reason::AgentUnreachable, message)
        })
    }
}

/// The members of these names, each once; not all there are.
fn chosen(forest: &ForestId, plan: &Plan, nodes: &[String]) -> Result<Vec<Member>, Failure> {
    let mut leavers: Vec<Member> = Vec::new();
    for node in nodes {
        let Some(member) = plan.members.iter().find(|member| member.id.as_str() == node) else {
            let known: Vec<String> = plan.members.iter().map(|member| member.id.to_string()).collect();
            return Err(unknown("node", node, &known, Reason::NodeUnknown));
        };
        if !leavers.contains(member) {
            leavers.push(member.clone());
        }
    }
    if leavers.len() == plan.members.len() {
        let message =
            format!("forest {forest} would have no node left: take it down with morpheus teardown {forest}");
        return Err(Failure::new(Reason::LeaveLastNode, message));
    }
    Ok(leavers)
}
