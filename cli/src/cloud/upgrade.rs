//! Upgrading a forest in the cloud: the newer programs go onto the share, then the nodes go over to them by their own
//! agents, over ssh, one at a time, and the next only once all are healthy again. Cut short anywhere it goes on when it is
//! run again: what the nodes are to run is recorded, and who has it is left as it is.

use std::path::Path;
use std::time::Duration;

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use jiff::Timestamp;

use super::forest::Ledger as _;
use super::programs::Supplies;
use super::ready::{self, Due};
use super::record::{self, Plan, Programs};
use super::site::Site;
use super::ssh::{AGENT, Ssh};
use super::told::mounted;
use crate::agent::{self, At};
use crate::failure::Failure;
use crate::local::ready::{End, serving};
use crate::local::teardown::Fate;
use crate::local::upgrade::{RETURN, Turns, serves};
use crate::probe::Target;
use crate::progress::Progress;

/// A forest whose nodes go over to other programs.
pub struct Upgrading<'a> {
    /// Registry and share.
    pub site: &'a Site,
    /// The forest.
    pub forest: &'a ForestId,
    /// What is wanted of it.
    pub plan: &'a Plan,
    /// What its nodes are to run.
    pub programs: &'a Programs,
    /// The programs that are newer.
    pub supplies: &'a Supplies,
    /// Where its nodes are, all of them.
    pub targets: &'a [Target],
    /// How they are logged in to.
    pub ssh: &'a Ssh,
    /// ssh itself.
    pub program: &'a Path,
    /// How long to wait until all are healthy.
    pub limit: Duration,
}

impl Upgrading<'_> {
    /// Gives every node its programs. Stops at the first that does not come back.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be begun; what became of each node that was worked on is in the result.
    pub async fn run(&self, progress: &mut Progress) -> Result<Vec<Fate>, Failure> {
        let begun = self.plan.upgrading.as_ref();
        let away = match begun {
            // What is ill already would be blamed on the newer program, and two nodes away may be one too many.
            None => self.healthy(progress).await.map(|()| Vec::new())?,
            Some(_) => serving(&self.site.http, self.targets, self.limit.min(RETURN)).await,
        };
        let turns = Turns { stopped: begun.cloned(), away };
        self.site.upload(self.programs, Some(self.supplies), progress).await?;
        let mut fates = Vec::new();
        for target in turns.order(self.targets, |target| &target.node) {
            self.record(&target.node)?;
            let end = match self.upgrade_one(target, progress).await {
                Ok(()) if turns.is_away(&target.node) => {
                    serves(&self.site.http, target.clone(), self.limit).await
                }
                Ok(()) => self.healthy(progress).await,
                err => err,
            };
            progress.end(target.node.as_str(), if end.is_ok() { "upgraded" } else { "not well" });
            let failed = end.is_err();
            fates.push((target.node.clone(), target.ip.to_string(), end));
            if failed {
                return Ok(fates);
            }
        }
        self.finish()?;
        Ok(fates)
    }

    fn record(&self, node: &NodeId) -> Result<(), Failure> {
        self.site.store.update(|registry| {
            Ok(record::equip(registry, self.forest, self.programs, Some(node), Timestamp::now()))
        })
    }

    async fn upgrade_one(&self, target: &Target, progress: &mut Progress) -> Result<(), Failure> {
        let agent = mounted(&self.programs.agent)?;
        let engine = mounted(&self.programs.engine)?;
        let (agent_sha256, engine_sha256) = (agent.sha256.to_string(), engine.sha256.to_string());
        let wait = format!("{}s", self.limit.as_secs());
        let arguments = [
            "upgrade",
            "--agent",
            agent.url.as_str(),
            "--agent-sha256",
            &agent_sha256,
            "--engine",
            engine.url.as_str(),
            "--engine-sha256",
            &engine_sha256,
            "--wait",
            &wait,
        ];
        let at = At::There(self.program, self.ssh.arguments(target.ip, &[], &[AGENT]));
        agent::run(&at, &arguments, target.node.as_str(), progress).await.map(drop)
    }

    /// Waits until every node passes, all at once.
    async fn healthy(&self, progress: &mut Progress) -> Result<(), Failure> {
        let due = Due { peers: self.targets.len().saturating_sub(1), away: Vec::new() };
        let ends = ready::look(&self.site.http, self.targets, &due, self.limit, progress).await;
        let why = |(node, end): (&NodeId, &End)| Some(format!("{node}: {}", end.why()?));
        let ill: Vec<String> = ends.iter().filter_map(why).collect();
        if ill.is_empty() {
            return Ok(());
        }
        let message = format!("not all nodes of {} are healthy: {}", self.forest, ill.join("; "));
        Err(Failure::new(Reason::NotHealthy, message))
    }

    /// Takes the older programs away, where no other forest runs them.
    fn finish(&self) -> Result<(), Failure> {
        let older = self.plan.files();
        self.site.store.update(|registry| {
            let next = record::equip(registry, self.forest, self.programs, None, Timestamp::now());
            self.site.sweep(next.as_ref().unwrap_or(registry), &older);
            Ok(next)
        })
    }
}
