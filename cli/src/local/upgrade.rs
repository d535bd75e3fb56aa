//! Upgrading: other programs for the nodes of a forest, one node at a time, and the next only once all are healthy
//! again. The agent executes its successor and its servers do not notice; the engine lets its clients go first.
//!
//! Which node has what is seen by the files that its processes execute, so that an upgrade that was cut short goes on
//! where it was when it is run again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use forest_core::health::Status;
use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use jiff::Timestamp;

use super::layout::NodeDir;
use super::process::Process;
use super::ready::serving;
use super::record::{self, Member, Plan, Programs};
use super::teardown::Fate;
use super::{Local, launch, lock, node, process, targets};
use crate::agent::{self, At};
use crate::failure::Failure;
use crate::probe::{Http, Target};
use crate::progress::Progress;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// How long a newer agent may take to come.
const AGENT: Duration = Duration::from_secs(30);
/// A server that was killed is back within so long, or it is away.
pub(crate) const RETURN: Duration = Duration::from_secs(20);

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
        let away = match before.upgrading {
            // What is ill already would be blamed on the newer program, and two nodes away may be one too many.
            None => self.healthy(forest, &before, limit, progress).await.map(|()| Vec::new())?,
            Some(_) => serving(&self.http, &targets(&before), limit.min(RETURN)).await,
        };
        let turns = Turns { stopped: before.upgrading.clone(), away };
        let plan = Plan { programs: programs.clone(), ..before };
        let mut fates = Vec::new();
        for member in turns.order(&plan.members, |member| &member.id) {
            let begun = Some(&member.id);
            self.store
                .update(|registry| Ok(record::equip(registry, forest, &programs, begun, Timestamp::now())))?;
            let end = match self.upgrade_one(forest, &plan, member, limit, progress).await {
                Ok(()) if turns.is_away(&member.id) => {
                    let target = Target::local(member.id.clone(), member.ip);
                    serves(&self.http, target, limit).await
                }
                Ok(()) => self.healthy(forest, &plan, limit, progress).await,
                err => err,
            };
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
        Ok(())
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

/// In which order nodes are upgraded, where that goes on.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// The node at which it stopped.
    pub(crate) stopped: Option<NodeId>,
    /// Nodes whose servers do not serve, and why.
    pub(crate) away: Vec<(NodeId, String)>,
}

impl Turns {
    pub(crate) fn is_away(&self, node: &NodeId) -> bool {
        self.away.iter().any(|(away, _)| away == node)
    }

    /// First those that are away, for the others have to be there when one that serves is restarted; then the one that
    /// it stopped at, which may be ill; then the rest, each in the order that they have.
    pub(crate) fn order<'a, T>(&self, nodes: &'a [T], id: impl Fn(&T) -> &NodeId) -> Vec<&'a T> {
        let rank = |node: &&T| {
            let is_stopped = self.stopped.as_ref() == Some(id(node));
            (!self.is_away(id(node)), !is_stopped)
        };
        let mut order: Vec<&T> = nodes.iter().collect();
        order.sort_by_key(rank);
        order
    }
}

/// Waits until the server of a node that was away serves.
///
/// # Errors
/// Why it does not.
pub(crate) async fn serves(http: &Http, target: Target, limit: Duration) -> Result<(), Failure> {
    match serving(http, &[target], limit).await.pop() {
        None => Ok(()),
        Some((_, why)) => Err(Failure::new(Reason::NotHealthy, why)),
    }
}

/// Does the process execute this very file?
fn runs(process: &Process, file: &Path) -> bool {
    let same = |running: PathBuf| std::fs::canonicalize(file).is_ok_and(|file| file == running);
    process.executable().is_some_and(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_away_comes_first_then_the_one_that_it_stopped_at() {
        let ids: Vec<NodeId> = ["n-1", "n-2", "n-3", "n-4"].map(|id| id.parse().unwrap()).into();
        let order = |stopped: Option<usize>, away: &[usize]| {
            let turns = Turns {
                stopped: stopped.map(|at| ids[at].clone()),
                away: away.iter().map(|at| (ids[*at].clone(), "silent".to_owned())).collect(),
            };
            turns.order(&ids, |id| id).into_iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(order(None, &[]), ["n-1", "n-2", "n-3", "n-4"]);
        assert_eq!(order(Some(1), &[]), ["n-2", "n-1", "n-3", "n-4"]);
        assert_eq!(order(Some(1), &[3]), ["n-4", "n-2", "n-1", "n-3"]);
        assert_eq!(order(Some(3), &[0, 3]), ["n-4", "n-1", "n-2", "n-3"]);
    }
}
