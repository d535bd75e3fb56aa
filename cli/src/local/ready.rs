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
/// So long what every start goes through is not worth a complaint.
const USUAL: Duration = Duration::from_secs(20);
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

/// Waits until all nodes are healthy at once and know their `peers` other nodes, but for those whose agent has
/// ended; for at most `limit`.
pub async fn wait(
    http: &Http,
    mut nodes: Vec<Awaited>,
    peers: usize,
    limit: Duration,
    progress: &mut Progress,
) -> BTreeMap<NodeId, End> {
    let began = Instant::now();
    let until = began + limit;
    loop {
        let late = Instant::now() >= until;
        let answers = join_all(nodes.iter().map(|node| http.health(&node.target))).await;
        let mut ends = BTreeMap::new();
        for (node, answer) in nodes.iter_mut().zip(answers) {
            let answer = answer.map(|health| health.report);
            let end = judge(node, &answer, peers).or_else(|| late.then(|| too_late(&answer, peers)));
            let what = end.as_ref().map_or_else(
                || step(&answer, peers, began.elapsed()),
                |end| end.why().unwrap_or("ready").to_owned(),
            );
            progress.at(node.target.node.as_str(), &what);
            ends.extend(end.map(|end| (node.target.node.clone(), end)));
        }
        if ends.len() == nodes.len() {
            for (node, end) in &ends {
                progress.end(node.as_str(), end.why().unwrap_or("ready"));
            }
            return ends;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `None`: it may yet become healthy.
fn judge(node: &mut Awaited, answer: &Result<HealthReport, String>, peers: usize) -> Option<End> {
    if let Some(agent) = &mut node.agent
        && let Ok(Some(status)) = agent.try_wait()
    {
        return Some(End::Exited(format!("its agent ended with {status}: {}", last_words(&node.dir))));
    }
    let is_ready = |report: &HealthReport| {
        report.status == Status::Pass && missing(report, peers) == 0 && !keeps_witness(report, peers)
    };
    answer.as_ref().is_ok_and(is_ready).then_some(End::Ready)
}

/// Waits until the servers of all these nodes serve, whatever else is wrong with them; for at most `limit`. Those that
/// do not, and why.
pub(crate) async fn serving(http: &Http, targets: &[Target], limit: Duration) -> Vec<(NodeId, String)> {
    let until = Instant::now() + limit;
    loop {
        let answers = join_all(targets.iter().map(|target| http.health(target))).await;
        let answers = answers.into_iter().map(|answer| answer.map(|health| health.report));
        let away = |(target, answer): (&Target, _)| Some((target.node.clone(), why_away(&answer)?));
        let away: Vec<_> = targets.iter().zip(answers).filter_map(away).collect();
        if away.is_empty() || Instant::now() >= until {
            return away;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `None`: its server serves.
fn why_away(answer: &Result<HealthReport, String>) -> Option<String> {
    match answer {
        Ok(report) => {
            let server = &report.checks.nats_server[0];
            (server.status == Status::Fail).then(|| server.output.clone())
        }
        Err(why) => Some(why.clone()),
    }
}

/// How many of its peers a node has not found in the registry yet: until then its checks say nothing of them.
pub(crate) fn missing(report: &HealthReport, peers: usize) -> usize {
    report.checks.peers_reachable[0].peers.as_ref().map_or(0, |known| peers.saturating_sub(known.len()))
}

/// Is a witness counted still in a group that needs none? With it in the group, the death of its node costs two voters
/// of four, and so the quorum; it goes within seconds.
pub(crate) fn keeps_witness(report: &HealthReport, peers: usize) -> bool {
    let group = report.checks.nats_jetstream[0].observed_value.as_u64();
    peers >= 2 && group == u64::try_from(peers).ok().map(|peers| peers + 2)
}

fn too_late(answer: &Result<HealthReport, String>, peers: usize) -> End {
    match answer {
        Ok(report) => End::Late(Some(report.status), what_is_missing(report, peers)),
        Err(why) => End::Late(None, why.clone()),
    }
}

fn step(answer: &Result<HealthReport, String>, peers: usize, waited: Duration) -> String {
    match answer {
        Ok(report) if waited < USUAL && on_its_way(report).is_some() => {
            on_its_way(report).unwrap_or_default().to_owned()
        }
        Ok(report) if report.step == "ready" => what_is_missing(report, peers),
        Ok(report) => format!("at its step {}", report.step),
        Err(_) => "starting the agent".to_owned(),
    }
}

/// What every start goes through for some seconds is no complaint yet: said in a few words.
pub(crate) fn on_its_way(report: &HealthReport) -> Option<&'static str> {
    let reasons: Vec<_> =
        report.checks.iter().into_iter().filter_map(|(_, check)| check.reason.as_deref()).collect();
    [
        (
            &["starting", "engine_starting", "nats_unreachable", "nats_unhealthy"][..],
            "the NATS server is starting",
        ),
        (&["jetstream_no_leader", "jetstream_no_answer"], "JetStream is waiting for its leader"),
        (&["peer_unreachable", "peer_no_route"], "waiting for the other nodes"),
        (&["member_not_current"], "catching up with the others"),
    ]
    .into_iter()
    .find(|(usual, _)| reasons.iter().any(|reason| usual.contains(reason)))
    .map(|(_, words)| words)
}

pub(crate) fn what_is_missing(report: &HealthReport, peers: usize) -> String {
    match (report.status, missing(report, peers)) {
        (Status::Pass, missing) if missing > 0 => {
            format!("{missing} of its {peers} peers not found in the registry yet")
        }
        (Status::Pass, _) if keeps_witness(report, peers) => {
            "the group's witness, which is not needed any more, is on its way out".to_owned()
        }
        _ => complaint(report),
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
