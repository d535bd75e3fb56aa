//! Shrinking: nodes leave their forest one after the other, each without a loss; then what is left of them goes. Run
//! again, it goes on where it was cut short.

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use forest_core::registry::take_out;
use jiff::Timestamp;

use super::record::{self, Member, Plan};
use super::{Local, lock, process};
use crate::agent::{self, At};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::shrinking::{Shrunk, chosen};

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
        let members: Vec<NodeId> = plan.members.iter().map(|member| member.id.clone()).collect();
        let leavers = chosen(forest, &members, nodes)?;
        let mut shrunk = Shrunk::default();
        for member in plan.members.iter().filter(|member| leavers.contains(&member.id)) {
            let end = self.let_leave(forest, &plan, member, force, progress, &mut shrunk.lost).await;
            progress.end(member.id.as_str(), if end.is_ok() { "gone" } else { "still there" });
            let failed = end.is_err();
            shrunk.fates.push((member.id.clone(), member.ip.to_string(), end));
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
                let at = At::Here(program, &dir.config());
                lost.extend(agent::lost(&agent::run(&at, arguments, node.as_str(), progress).await?));
            } else if force {
                let other = self.living(forest, plan, node)?;
                let at = At::Here(program, &self.layout.node(forest, &other).config());
                lost.extend(agent::lost(
                    &agent::run(&at, &["forget", node.as_str()], node.as_str(), progress).await?,
                ));
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
