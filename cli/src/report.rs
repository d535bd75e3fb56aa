//! What the commands report: the JSON shapes, which are a contract (docs/schemas), and the pure functions from
//! the nodes' answers to them.

use forest_core::health::Status;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::cloud::ready::cause;
use crate::probe::Look;

/// One forest of `list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub forest_id: String,
    /// Where its machines come from.
    pub provider: Option<String>,
    /// Where they are.
    pub location: Option<String>,
    /// `small`, `medium`, `large` or `custom`, as planted.
    pub size: Option<String>,
    /// How far it is.
    pub status: Option<String>,
    /// RFC 3339.
    pub created_at: Option<String>,
    /// How many nodes it has.
    pub nodes: usize,
}

/// `status`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusReport {
    /// The forest.
    pub forest_id: String,
    /// See [`verdict`].
    pub status: Status,
    /// Where its machines come from.
    pub provider: String,
    /// Where clients connect, of the engines that answer.
    pub client_urls: Vec<String>,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
    /// What is there and belongs to no node.
    pub orphans: Vec<Orphan>,
}

/// One node of `status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeStatus {
    /// The node.
    pub node_id: String,
    /// Its address.
    pub ip: String,
    /// Does its agent answer?
    pub reachable: bool,
    /// The body of its /health.
    pub health: Option<Value>,
    /// Why it does not answer.
    pub error: Option<String>,
}

/// Something that is left over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// `entry`, `directory` or `server`.
    pub kind: &'static str,
    /// Its name.
    pub id: String,
}

/// `grow`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GrowReport {
    /// The forest.
    pub forest_id: String,
    /// How many nodes it has.
    pub total_nodes: usize,
    /// How many of their agents answer.
    pub reachable_nodes: usize,
    /// Client connections of all engines that answer.
    pub total_connections: u64,
    /// Average over the engines that answer, in percent of one core.
    pub avg_cpu_percent: f64,
    /// Average over the engines that answer.
    pub avg_mem_mb: f64,
    /// Is the average CPU above the threshold?
    pub cpu_high: bool,
    /// In percent.
    pub threshold: f64,
    /// The nodes.
    pub nodes: Vec<NodeLoad>,
    /// The nodes that this command added.
    pub added: Vec<String>,
    /// What speaks for and against one more node, and what is not well: sentences.
    pub reasons: Vec<String>,
    /// `{"reason","message"}`, where what was asked for was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// Which nodes are not well, and why: part of the reasons.
    #[serde(skip)]
    ill: Vec<String>,
}

/// One node of `grow`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeLoad {
    /// The node.
    pub node_id: String,
    /// Its address.
    pub ip: String,
    /// Does its agent answer?
    pub reachable: bool,
    /// In percent of one core.
    pub cpu_percent: Option<f64>,
    /// Resident memory of the engine.
    pub mem_mb: Option<f64>,
    /// Client connections.
    pub connections: Option<u64>,
    /// What the agent says.
    pub health: Option<Status>,
    /// What does not answer, and why.
    pub error: Option<String>,
}

/// `plant`, `shrink` and `teardown`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionReport {
    /// The forest.
    pub forest_id: String,
    /// The command.
    pub action: &'static str,
    /// The nodes it was about.
    pub nodes: Vec<NodeAction>,
    /// `{"reason","message"}`, or null.
    pub error: Option<Value>,
    /// Of a dry run on a provider: which machines, at what price, and what they are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Value>,
    /// Of a shrinking: streams that were destroyed by force, or that nobody leads since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

/// One node of an [`ActionReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeAction {
    /// The node.
    pub node_id: String,
    /// Its address.
    pub ip: String,
    /// What became of it.
    pub status: String,
}

/// A forest passes if all its nodes do, and fails if fewer than a majority work: JetStream then has no quorum.
/// A node works if its agent answers and does not say `fail`.
#[must_use]
pub fn verdict(nodes: &[Option<Status>]) -> Status {
    let works = |status: &&Option<Status>| matches!(status, Some(Status::Pass | Status::Warn));
    let working = nodes.iter().filter(works).count();
    if working * 2 <= nodes.len() {
        Status::Fail
    } else if nodes.iter().all(|status| *status == Some(Status::Pass)) {
        Status::Pass
    } else {
        Status::Warn
    }
}

/// What the agents said, as [`verdict`] takes it.
#[must_use]
pub fn statuses(looks: &[Look]) -> Vec<Option<Status>> {
    looks.iter().map(|look| look.health.as_ref().ok().map(|health| health.report.status)).collect()
}

/// `status` from the nodes' answers.
#[must_use]
pub fn status(forest: &str, provider: &str, looks: &[Look], orphans: Vec<Orphan>) -> StatusReport {
    let node = |look: &Look| NodeStatus {
        node_id: look.target.node.to_string(),
        ip: look.target.ip.to_string(),
        reachable: look.health.is_ok(),
        health: look.health.as_ref().ok().map(|health| health.body.clone()),
        error: look.health.as_ref().err().cloned(),
    };
    StatusReport {
        forest_id: forest.to_owned(),
        status: verdict(&statuses(looks)),
        provider: provider.to_owned(),
        client_urls: client_urls(looks),
        nodes: looks.iter().map(node).collect(),
        orphans,
    }
}

/// Where clients connect, of the engines that answer and let this machine in.
#[must_use]
pub fn client_urls(looks: &[Look]) -> Vec<String> {
    looks.iter().filter_map(Look::client).map(|address| format!("nats://{address}")).collect()
}

/// `grow` from the nodes' answers; nothing added yet.
#[must_use]
pub fn grow(forest: &str, looks: &[Look], threshold: f64) -> GrowReport {
    let engines: Vec<_> = looks.iter().filter_map(|look| look.varz.as_ref().ok()).collect();
    let average = |values: Vec<f64>| match values.len() {
        0 => 0.0,
        #[expect(clippy::cast_precision_loss, reason = "a number of nodes")]
        count => tenths(values.iter().sum::<f64>() / count as f64),
    };
    let cpu = average(engines.iter().map(|varz| varz.cpu).collect());
    GrowReport {
        forest_id: forest.to_owned(),
        total_nodes: looks.len(),
        reachable_nodes: looks.iter().filter(|look| look.health.is_ok()).count(),
        total_connections: engines.iter().map(|varz| varz.connections).sum(),
        avg_cpu_percent: cpu,
        avg_mem_mb: average(engines.iter().map(|varz| megabytes(varz.mem)).collect()),
        cpu_high: cpu > threshold,
        threshold,
        nodes: looks.iter().map(load).collect(),
        added: Vec::new(),
        reasons: Vec::new(),
        error: None,
        ill: looks.iter().filter_map(ill).collect(),
    }
    .reasoned()
}

impl GrowReport {
    /// With nodes of which no address is known.
    #[must_use]
    pub fn with_absent(mut self, absent: Vec<Absent>) -> Self {
        self.total_nodes += absent.len();
        self.nodes.extend(absent.into_iter().map(|node| NodeLoad {
            node_id: node.node_id,
            ip: String::new(),
            reachable: false,
            cpu_percent: None,
            mem_mb: None,
            connections: None,
            health: None,
            error: Some(node.error),
        }));
        self.nodes.sort_by_key(|node| number(&node.node_id));
        self.reasoned()
    }

    fn reasoned(mut self) -> Self {
        let load = if self.cpu_high { "above" } else { "not above" };
        let mut reasons = vec![match self.nodes.iter().any(|node| node.cpu_percent.is_some()) {
            true => {
                format!("the average load, {} % CPU, is {load} {} %", self.avg_cpu_percent, self.threshold)
            }
            false => "no engine answers, so nothing is known of the load".to_owned(),
        }];
        let silent: Vec<&str> =
            self.nodes.iter().filter(|node| !node.reachable).map(|node| node.node_id.as_str()).collect();
        if !silent.is_empty() {
            reasons.push(format!("no answer from {}", silent.join(", ")));
        }
        reasons.extend(self.ill.iter().cloned());
        self.reasons = reasons;
        self
    }
}

/// A node that answers and is not well, and why.
fn ill(look: &Look) -> Option<String> {
    let report = &look.health.as_ref().ok()?.report;
    let word = match report.status {
        Status::Pass => return None,
        Status::Warn => "warns",
        Status::Fail => "fails",
    };
    Some(format!("{} {word}: {}", look.target.node, cause(report)))
}

/// A node of which no address is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// The node.
    pub node_id: String,
    /// Why it cannot be asked.
    pub error: String,
}

impl StatusReport {
    /// With nodes of which no address is known.
    #[must_use]
    pub fn with_absent(mut self, absent: Vec<Absent>) -> Self {
        self.nodes.extend(absent.into_iter().map(|node| NodeStatus {
            node_id: node.node_id,
            ip: String::new(),
            reachable: false,
            health: None,
            error: Some(node.error),
        }));
        self.nodes.sort_by_key(|node| number(&node.node_id));
        let status = |node: &NodeStatus| {
            let status = node.health.as_ref().and_then(|health| health.get("status"));
            status.and_then(|status| serde_json::from_value(status.clone()).ok())
        };
        self.status = verdict(&self.nodes.iter().map(status).collect::<Vec<_>>());
        self
    }
}

/// The number at the end of a node's name.
fn number(node: &str) -> u64 {
    node.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
}

fn load(look: &Look) -> NodeLoad {
    let varz = look.varz.as_ref().ok();
    let health = look.health.as_ref().ok();
    NodeLoad {
        node_id: look.target.node.to_string(),
        ip: look.target.ip.to_string(),
        reachable: health.is_some(),
        cpu_percent: varz.map(|varz| varz.cpu),
        mem_mb: varz.map(|varz| tenths(megabytes(varz.mem))),
        connections: varz.map(|varz| varz.connections),
        health: health.map(|health| health.report.status),
        error: look.health.as_ref().err().or(look.varz.as_ref().err()).cloned(),
    }
}

/// Does the load ask for one more node, and may there be one?
#[must_use]
pub fn wants_another(report: &GrowReport, max_nodes: u8) -> bool {
    report.cpu_high && report.total_nodes < usize::from(max_nodes)
}

/// For how many more seconds is no node added, `cooldown` seconds after the last one?
#[must_use]
pub fn cooling(grown_at: Option<Timestamp>, cooldown: u32, now: Timestamp) -> Option<i64> {
    let until = grown_at?.checked_add(SignedDuration::from_secs(i64::from(cooldown))).ok()?;
    // A clock that was set back makes nobody wait for longer.
    let left = until.duration_since(now).as_secs_f64().ceil().min(f64::from(cooldown));
    #[expect(clippy::cast_possible_truncation, reason = "at most what u32 holds")]
    (left > 0.0).then_some(left as i64)
}

fn megabytes(bytes: f64) -> f64 {
    bytes / 1_048_576.0
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::probe::{Target, Varz};

    fn look(n: u8, cpu: Option<f64>) -> Look {
        Look {
            target: Target::local(format!("n{n}").parse().unwrap(), [127, 1, 1, n].into()),
            health: Err("nobody".to_owned()),
            varz: cpu
                .map(|cpu| Varz {
                    host: "127.0.0.1".to_owned(),
                    port: 4222,
                    cpu,
                    mem: 1_572_864.0,
                    connections: 3,
                })
                .ok_or_else(|| "silent".to_owned()),
        }
    }

    #[test]
    fn averages_are_of_the_engines_that_answer() {
        let report = grow("grove", &[look(1, Some(90.0)), look(2, Some(80.0)), look(3, None)], 80.0);
        assert_eq!((report.total_nodes, report.reachable_nodes, report.total_connections), (3, 0, 6));
        assert_eq!((report.avg_cpu_percent, report.avg_mem_mb, report.cpu_high), (85.0, 1.5, true));
        assert!(wants_another(&report, 4) && !wants_another(&report, 3));
        assert_eq!(report.nodes[2].error.as_deref(), Some("nobody"));
        let silent = grow("grove", &[look(1, None)], 0.0);
        assert_eq!((silent.avg_cpu_percent, silent.cpu_high), (0.0, false));
    }

    #[test]
    fn after_a_growth_the_next_waits() {
        let now: Timestamp = "2026-11-22T20:16:55Z".parse().unwrap();
        let ago = |seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok();
        assert_eq!(cooling(None, 300, now), None);
        assert_eq!(cooling(ago(0), 0, now), None);
        assert_eq!(cooling(ago(299), 300, now), Some(1));
        assert_eq!(cooling(ago(300), 300, now), None);
        assert_eq!(cooling(ago(-10_000), 300, now), Some(300));
    }

    #[test]
    fn clients_connect_to_engines_that_answer() {
        assert_eq!(client_urls(&[look(1, None), look(2, Some(0.0))]), ["nats://127.1.1.2:4222"]);
        // On another machine it listens for that one's clients alone.
        let mut away = look(3, Some(0.0));
        away.target.ip = "fd00::3".parse().unwrap();
        assert_eq!(client_urls(&[away]), [""; 0]);
    }

    proptest! {
        #[test]
        fn the_verdict_follows_the_majority(passing in 0usize..6, warning in 0usize..6, failing in 0usize..6, silent in 0usize..6) {
            let nodes: Vec<_> = [(Some(Status::Pass), passing), (Some(Status::Warn), warning), (Some(Status::Fail), failing), (None, silent)]
                .into_iter().flat_map(|(status, count)| vec![status; count]).collect();
            let expected = if passing + warning <= failing + silent { Status::Fail }
                else if passing == nodes.len() { Status::Pass } else { Status::Warn };
            prop_assert_eq!(verdict(&nodes), expected);
        }
    }
}
