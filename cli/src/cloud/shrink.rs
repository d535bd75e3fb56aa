//! Shrinking a forest in the cloud: each node leaves by its own agent, over ssh, then its machine is deleted and it is a
//! member no more. Cut short anywhere it goes on when it is run again: who has left has a tombstone and no entry.

use std::path::Path;
use std::time::Duration;

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use forest_core::registry::take_out;
use jiff::Timestamp;

use super::fell::discard;
use super::record::{self, Plan};
use super::seen::Seen;
use super::site::Site;
use super::ssh::{AGENT, Ssh};
use crate::agent::{self, At};
use crate::failure::Failure;
use crate::probe::Target;
use crate::progress::Progress;
use crate::shrinking::Shrunk;

/// So long the provider may take to delete a machine.
const DELETING: Duration = Duration::from_secs(300);

/// A forest that gets smaller.
pub struct Shrinking<'a> {
    /// Provider and registry.
    pub site: &'a Site,
    /// The forest.
    pub forest: &'a ForestId,
    /// What is wanted of it.
    pub plan: &'a Plan,
    /// Where its nodes are, those that have registered themselves.
    pub targets: &'a [Target],
    /// How they are logged in to.
    pub ssh: &'a Ssh,
    /// ssh itself.
    pub program: &'a Path,
    /// Whatever is lost, and the dead are given up.
    pub force: bool,
}

impl Shrinking<'_> {
    /// Lets these nodes leave, one after the other; after one that does not, the rest are left alone.
    pub async fn run(&self, leavers: &[NodeId], progress: &mut Progress) -> Shrunk {
        let mut shrunk = Shrunk::default();
        for node in leavers {
            let end = self.let_leave(node, progress, &mut shrunk.lost).await;
            progress.end(node.as_str(), if end.is_ok() { "gone" } else { "still there" });
            let (failed, ip) = (end.is_err(), self.target(node).map(|target| target.ip.to_string()));
            shrunk.fates.push((node.clone(), ip.unwrap_or_default(), end));
            if failed {
                break;
            }
        }
        shrunk
    }

    async fn let_leave(
        &self,
        node: &NodeId,
        progress: &mut Progress,
        lost: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let registry = self.site.registry()?;
        let is_in = registry.entries(self.forest).iter().any(|entry| entry.id == node.as_str());
        match (registry.tombstone(self.forest, node).is_some(), self.target(node)) {
            (true, _) if !is_in => {}
            (_, Some(target)) => lost.extend(self.leave(target, progress).await?),
            (_, None) if self.force => {}
            (_, None) => {
                let message = format!(
                    "{node} has never registered itself, so that it cannot leave: give it time (morpheus status {}), or \
                     give it up (--force)",
                    self.forest
                );
                return Err(Failure::new(Reason::AgentUnreachable, message));
            }
        }
        // The tombstone goes before the machine: one that is only coming up does not register itself any more.
        let update = |change: &dyn Fn(&_) -> _| self.site.store.update(|registry| Ok(change(registry)));
        update(&|registry| take_out(registry, self.forest, node, Timestamp::now()))?;
        progress.at(node.as_str(), "its machine is being deleted");
        self.delete(node).await?;
        if let Some(target) = self.target(node) {
            self.ssh.forget(target.ip);
        }
        update(&|registry| record::shrink(registry, self.forest, node, Timestamp::now()))
    }

    /// The streams that were lost.
    async fn leave(&self, target: &Target, progress: &mut Progress) -> Result<Vec<String>, Failure> {
        let arguments: &[&str] = if self.force { &["leave", "--force"] } else { &["leave"] };
        let node = target.node.as_str();
        let told = agent::run(&self.at(target), arguments, node, progress).await;
        let unreached = match told {
            Ok(told) => return Ok(agent::lost(&told)),
            Err(failure) if failure.reason == Reason::AgentUnreachable && self.force => failure,
            Err(failure) if failure.reason != Reason::SshFailed => return Err(failure),
            Err(failure) => failure,
        };
        if !self.force {
            let message = format!(
                "{}; it leaves once it can be logged in to (morpheus check ssh); one that is dead is given up by --force, \
                 with all that only it has",
                unreached.message
            );
            return Err(Failure::new(unreached.reason, message));
        }
        progress.at(node, "it is not reached: another node takes it out");
        self.forget(target, unreached, progress).await
    }

    /// Another node takes the dead one out, which refuses where that one lives after all; the streams that nobody leads
    /// then.
    async fn forget(
        &self,
        dead: &Target,
        unreached: Failure,
        progress: &mut Progress,
    ) -> Result<Vec<String>, Failure> {
        let mut last = unreached;
        for other in self.targets.iter().filter(|other| other.node != dead.node) {
            let arguments = ["forget", dead.node.as_str()];
            match agent::run(&self.at(other), &arguments, dead.node.as_str(), progress).await {
                Err(failure) if [Reason::SshFailed, Reason::AgentUnreachable].contains(&failure.reason) => {
                    last = failure;
                }
                ended => return ended.map(|told| agent::lost(&told)),
            }
        }
        let message = format!("no other node of {} could be asked: {}", self.forest, last.message);
        Err(Failure::new(last.reason, message))
    }

    async fn delete(&self, node: &NodeId) -> Result<(), Failure> {
        let (api, mark) = (self.site.api()?, self.plan.mark(self.forest));
        let seen = Seen::look(api, &mark).await?.of(&mark);
        let servers = seen.servers.iter().filter(|server| server.name == node.as_str());
        let servers: Vec<u64> = servers.map(|server| server.id).collect();
        discard(api, &servers, DELETING).await.map_err(|err| {
            let failure = Failure::from(err);
            let next = format!("{node} has left, and its machine is still there; run it again");
            Failure::new(failure.reason, format!("{next}: {}", failure.message))
        })
    }

    fn target(&self, node: &NodeId) -> Option<&Target> {
        self.targets.iter().find(|target| target.node == *node)
    }

    fn at(&self, target: &Target) -> At<'_> {
        At::There(self.program, self.ssh.arguments(target.ip, &[], &[AGENT]))
    }
}
