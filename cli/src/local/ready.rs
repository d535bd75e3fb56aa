//! Waiting for nodes to be healthy, and saying which is not and why.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use forest_core::health::{HealthReport, Status};
use forest_core::id::NodeId;
use futures::future::join_all;

use super::layout::NodeDir;
use crate::probe::{Http, Target};
use crate::progress::Progress;

/// How often a node is asked.
const LOOK: Duration = Duration::from_millis(150);
/// How much of an agent's log is looked through for its last words, in bytes.
const TAIL: usize = 4096;

/// One node that is waited for.
pub struct Awaited {
    /// Where it is asked.
    pub target: Target,
    /// Its directory.
    pub dir: NodeDir,
    /// Its agent, where this process started it.
    pub agent: Option<Child>,
}

/// How the waiting for one node ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Healthy.
    Ready,
    /// The agent ended: how, and its last words.
    Exited(String),
    /// Not healthy in time: the status it has, if it answers, and why.
    Late(Option<Status>, String),
}

impl End {
    /// The word for JSON and people.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ready => "pass",
            Self::Exited(_) => "exited",
            Self::Late(Some(Status::Pass), _) => "pass",
            Self::Late(Some(Status::Warn), _) => "warn",
            Self::Late(Some(Status::Fail), _) => "fail",
            Self::Late(None, _) => "unreachable",
        }
    }

    /// What is wrong.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Ready => None,
            Self::Exited(why) | Self::Late(_, why) => Some(why),
        }
    }
}

/// Waits until each node is healthy or its agent has ended, for at most `limit`.
pub async fn wait(
    http: &Http,
    mut nodes: Vec<Awaited>,
    limit: Duration,
    progress: &mut Progress,
) -> BTreeMap<NodeId, End> {
    let until = Instant::now() + limit;
    let mut ended = BTreeMap::new();
    loop {
        let late = Instant::now() >= until;
        let answers = join_all(nodes.iter().map(|node| http.health(&node.target))).await;
        let mut left = Vec::new();
        for (mut node, answer) in nodes.into_iter().zip(answers) {
            let answer = answer.map(|health| health.report);
            match judge(&mut node, &answer, late) {
                Some(end) => {
                    progress.end(node.target.node.as_str(), end.why().unwrap_or("ready"));
                    ended.insert(node.target.node, end);
                }
                None => {
                    progress.at(node.target.node.as_str(), &step(&answer));
                    left.push(node);
                }
            }
        }
        nodes = left;
        if nodes.is_empty() {
            return ended;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn judge(node: &mut Awaited, answer: &Result<HealthReport, String>, late: bool) -> Option<End> {
    if let Some(agent) = &mut node.agent
        && let Ok(Some(status)) = agent.try_wait()
    {
        return Some(End::Exited(format!("its agent ended with {status}: {}", last_words(&node.dir))));
    }
    match answer {
        Ok(report) if report.status == Status::Pass => Some(End::Ready),
        Ok(report) if late => Some(End::Late(Some(report.status), complaint(report))),
        Err(why) if late => Some(End::Late(None, why.clone())),
        _ => None,
    }
}

fn step(answer: &Result<HealthReport, String>) -> String {
    match answer {
        Ok(report) if report.step == "ready" => complaint(report),
        Ok(report) => report.step.clone(),
        Err(_) => "starting the agent".to_owned(),
    }
}

/// The worst check that is not well: its key, reason and sentence.
#[must_use]
pub fn complaint(report: &HealthReport) -> String {
    let checks = report.checks.iter();
    // The first of the worst: the later ones follow from it.
    let ill = checks.iter().rev().filter(|(_, check)| check.status != Status::Pass);
    let Some((key, check)) = ill.max_by_key(|(_, check)| check.status) else {
        return "all checks pass".to_owned();
    };
    let reason = check.reason.as_deref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let output = if check.output.is_empty() { "not well" } else { &check.output };
    format!("{key}: {output}{reason}")
}

/// The last line of an agent's log.
fn last_words(dir: &NodeDir) -> String {
    let path = dir.agent_log();
    let text = std::fs::read(&path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL)..]).into_owned();
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.map_or_else(|| format!("it wrote nothing to {}", path.display()), str::to_owned)
}
