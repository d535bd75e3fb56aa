//! Upgrading: other programs for the nodes of a forest, one node at a time, and the next only once all are healthy
//! again. The agent executes its successor and its servers do not notice; the engine lets its clients go first.
//!
//! Which node has what is seen by the files that its processes execute, so that an upgrade that was cut short goes on
//! where it was when it is run again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use forest_core::health::Status;
use forest_core::id::ForestId;
use forest_core::reason::Reason;
use jiff::Timestamp;

use super::layout::NodeDir;
use super::process::Process;
use super::record::{self, Member, Plan, Programs};
use super::teardown::Fate;
use super::{Local, launch, lock, node, process, targets};
use crate::agent::{self, At};
use crate::failure::Failure;
use crate::probe::Target;
use crate::progress::Progress;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// How long a newer agent may take to come.
const AGENT: Duration = Duration::from_secs(30);

impl Local {
    /// Gives every node these programs. Stops at the first node that does not come back.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be begun; what became of each node that was worked on is in the result.
    pub async fn upgrade(
        &self,
        forest: &ForestId,
        wanted: &dyn Fn(&Programs) -> Programs,
        limit: Duration,
        progress: &mut Progress,
    ) -> Result<Vec<Fate>, Failure> {
        let _lock = lock::acquire(&self.layout, forest)?;
        let before = record::live(&self.store.read()?, forest)?;
        let programs = wanted(&before.programs);
        if before.upgrading.is_none() {
            // What is ill already would be blamed on the newer program, and two nodes away may be one too many.
            self.healthy(forest, &before, limit, progress).await?;
        }
        let plan = Plan { programs: programs.clone(), ..before };
        // The one that did not come back the last time is the first.
        let (first, rest): (Vec<_>, Vec<_>) =
            plan.members.iter().partition(|member| plan.upgrading.as_ref() == Some(&member.id));
        let mut fates = Vec::new();
        for member in first.into_iter().chain(rest) {
            let begun = Some(&member.id);
            self.store
                .update(|registry| Ok(record::equip(registry, forest, &programs, begun, Timestamp::now())))?;
            let end = self.upgrade_one(forest, &plan, member, limit, progress).await;
            progress.end(member.id.as_str(), if end.is_ok() { "upgraded" } else { "not well" });
            let failed = end.is_err();
            fates.push((member.id.clone(), member.ip.to_string(), end));
            if failed {
                return Ok(fates);
            }
        }
        self.store
            .update(|registry| Ok(record::equip(registry, forest, &programs, None, Timestamp::now())))?;
        Ok(fates)
    }

    async fn upgrade_one(
        &self,
        forest: &ForestId,
        plan: &Plan,
        member: &Member,
        limit: Duration,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let (node, dir) = (&member.id, self.layout.node(forest, &member.id));
        progress.at(node.as_str(), "a newer agent takes over");
        node::prepare(&self.layout, forest, plan, member)?;
        self.replace_agent(plan, member, &dir).await?;
        if let Some(binary) = &plan.programs.binary
            && process::children(&dir).iter().any(|server| !runs(server, binary))
        {
            let seconds = format!("{}s", limit.as_secs());
            let arguments = ["restart", "--wait", &seconds];
            let at = At::Here(&plan.programs.agent, &dir.config());
            agent::run(&at, &arguments, node.as_str(), progress).await?;
        }
        self.healthy(forest, plan, limit, progress).await
    }

    /// The agent that runs reads its settings anew, by executing the newer file; one that was started by another path
    /// than the node's own is ended and started: its servers go on meanwhile.
    async fn replace_agent(&self, plan: &Plan, member: &Member, dir: &NodeDir) -> Result<(), Failure> {
        let (programs, node) = (&plan.programs, &member.id);
        let refused =
            |err: std::io::Error| Failure::new(Reason::AgentStart, format!("the agent of {node}: {err}"));
        let running = process::agents(dir);
        launch::link(&programs.agent, dir)?;
        let asked = Instant::now();
        match running.first() {
            Some(agent) if agent.is_started_as(&dir.agent()) => agent.hup().map_err(refused)?,
            Some(agent) => {
                agent.kill().map_err(refused)?;
                agent.gone_within(AGENT).await;
                launch::start(programs, dir)?;
            }
            None => _ = launch::start(programs, dir)?,
        }
        while !self.has_come(&plan.programs, member, dir, asked).await {
            if asked.elapsed() >= AGENT {
                let message = format!(
                    "the agent of {node} does not go on as {} in time; the one of before may say why: {}",
                    plan.programs.agent.display(),
                    dir.agent_log().display()
                );
                return Err(Failure::new(Reason::AgentStart, message));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Does the agent execute that file, and has it begun after it was `asked` to? With the same file it is the older
    /// one for a moment, which knows no newer settings.
    async fn has_come(&self, programs: &Programs, member: &Member, dir: &NodeDir, asked: Instant) -> bool {
        let executes = process::agents(dir).first().is_some_and(|agent| runs(agent, &programs.agent));
        let health = self.http.health(&Target::local(member.id.clone(), member.ip)).await;
        executes && health.is_ok_and(|health| health.report.uptime_seconds <= asked.elapsed().as_secs())
    }

    /// Waits until every node passes, all at once.
    async fn healthy(
        &self,
        forest: &ForestId,
        plan: &Plan,
        limit: Duration,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let until = Instant::now() + limit;
        // A report of before is no report of now.
        let mut twice = false;
        loop {
            let looks = self.http.look(&targets(plan)).await;
            let ill: Vec<String> = looks
                .iter()
                .filter_map(|look| match &look.health {
                    Ok(health) if health.report.status == Status::Pass => None,
                    Ok(health) => {
                        Some(format!("{}: {}", look.target.node, super::ready::complaint(&health.report)))
                    }
                    Err(why) => Some(format!("{}: {why}", look.target.node)),
                })
                .collect();
            if ill.is_empty() && twice {
                return Ok(());
            }
            twice = ill.is_empty();
            if let Some(first) = ill.first() {
                progress.at(forest.as_str(), first);
            }
            if Instant::now() >= until {
                let message = format!("not all nodes of {forest} are healthy: {}", ill.join("; "));
                return Err(Failure::new(Reason::NotHealthy, message));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Does the process execute this very file?
fn runs(process: &Process, file: &Path) -> bool {
    let same = |running: PathBuf| std::fs::canonicalize(file).is_ok_and(|file| file == running);
    process.executable().is_some_and(same)
}
