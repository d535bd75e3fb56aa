//! Waiting for new machines to be healthy nodes: what each is at, how long it stands there, and why.

use std::collections::BTreeMap;
use std::time::Duration;

use forest_core::health::{Check, HealthReport, NOT_CURRENT, PeerReport, Status};
use forest_core::id::NodeId;
use forest_core::reason::Reason;
use futures::future::join_all;
use tokio::time::Instant;

use crate::local::ready::{End, complaint, keeps_witness, missing, on_its_way, what_is_missing};
use crate::probe::{Http, Target};
use crate::progress::Progress;

/// Between two looks at all nodes.
const LOOK: Duration = Duration::from_millis(700);
/// So long a machine may take to come up before its silence is worth a word.
const BOOT: Duration = Duration::from_secs(90);
/// So long a node may stand at one thing before that is worth a word.
const STILL: Duration = Duration::from_secs(30);

/// What a node was last seen at, and since when.
struct Standing {
    what: String,
    since: Instant,
}

/// What is due of a new node.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// So many other nodes it is to know.
    pub peers: usize,
    /// Those of them that were silent before it came: that it does not reach them is no fault of its.
    pub away: Vec<NodeId>,
}

impl Due {
    fn is_met(&self, report: &HealthReport) -> bool {
        let is_well = report.status == Status::Pass && !keeps_witness(report, self.peers);
        missing(report, self.peers) == 0 && (is_well || self.is_about_the_away(report))
    }

    /// Is all that is wrong with a node that it does not reach those who are away?
    fn is_about_the_away(&self, report: &HealthReport) -> bool {
        let is_away = |node: &str| self.away.iter().any(|away| away.as_str() == node);
        let peers = report.checks.peers_reachable[0].peers.as_deref().unwrap_or_default();
        let reached = |peer: &PeerReport| (peer.tcp && peer.route) || is_away(&peer.node_id);
        let mut ill = report.checks.iter().into_iter().filter(|(_, check)| check.status != Status::Pass);
        !peers.is_empty()
            && report.step == "ready"
            && report.status == Status::Warn
            && ill.all(|(key, check)| match key {
                "peers:reachable" => peers.iter().all(reached),
                "nats:jetstream" => not_current(check).is_some_and(|mut names| names.all(is_away)),
                _ => false,
            })
    }
}

/// Whom the leader has lost sight of, where that is what is said.
fn not_current(check: &Check) -> Option<impl Iterator<Item = &str>> {
    let told = check.reason.as_deref() == Some(Reason::MemberNotCurrent.code());
    let (_, names) = check.output.split_once(NOT_CURRENT).filter(|_| told)?;
    names.split(';').next().map(|names| names.split(", "))
}

/// Waits until all nodes are healthy at once, and what is `due` of them is so; for at most `limit`. How it ended for
/// each is shown too.
pub async fn wait(
    http: &Http,
    targets: &[Target],
    due: &Due,
    limit: Duration,
    progress: &mut Progress,
) -> BTreeMap<NodeId, End> {
    let ends = look(http, targets, due, limit, progress).await;
    for (node, end) in &ends {
        progress.end(node.as_str(), end.why().unwrap_or("ready"));
    }
    ends
}

/// The same, for nodes that are not done with then.
pub async fn look(
    http: &Http,
    targets: &[Target],
    due: &Due,
    limit: Duration,
    progress: &mut Progress,
) -> BTreeMap<NodeId, End> {
    let began = Instant::now();
    let mut standing: BTreeMap<NodeId, Standing> = BTreeMap::new();
    loop {
        let late = began.elapsed() >= limit;
        let answers = join_all(targets.iter().map(|target| http.health(target))).await;
        let mut ends = BTreeMap::new();
        for (target, answer) in targets.iter().zip(answers) {
            let answer = answer.map(|health| health.report);
            let now = Instant::now();
            let what = at(&answer, due);
            let stands =
                standing.entry(target.node.clone()).or_insert(Standing { what: what.clone(), since: now });
            if stands.what != what {
                *stands = Standing { what, since: now };
            }
            let still = stands.since.elapsed();
            let is_ready = answer.as_ref().is_ok_and(|report| due.is_met(report));
            let end = match (is_ready, late) {
                (true, _) => Some(End::Ready),
                (false, true) => Some(too_late(target, &answer, &stands.what, still)),
                (false, false) => None,
            };
            let line = end.as_ref().map_or_else(
                || line(&answer, &stands.what, still),
                |end| end.why().unwrap_or("ready").to_owned(),
            );
            progress.at(target.node.as_str(), &line);
            ends.extend(end.map(|end| (target.node.clone(), end)));
        }
        if ends.len() == targets.len() {
            return ends;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a node is at, in words that change only when something does.
fn at(answer: &Result<HealthReport, String>, due: &Due) -> String {
    match answer {
        Err(_) => "no answer from its agent yet: the machine boots, or fetches the agent".to_owned(),
        Ok(report) if due.is_met(report) => "ready".to_owned(),
        Ok(report) if report.step == "ready" => what_is_missing(report, due.peers),
        Ok(report) => format!("step {}: {}", report.step, cause(report)),
    }
}

/// Why a node is not well: what the step that it stands at says, for all the rest follows from that; else the worst
/// of its checks.
#[must_use]
pub fn cause(report: &HealthReport) -> String {
    match of_step(report) {
        Some((key, check)) => {
            let reason = check.reason.as_deref().map_or_else(String::new, |reason| format!(" ({reason})"));
            format!("{key}: {}{reason}", check.output)
        }
        None => complaint(report),
    }
}

/// The check of the step that the node stands at, where it is not well.
fn of_step(report: &HealthReport) -> Option<(&'static str, &Check)> {
    let key = match report.step.as_str() {
        "share" => "share:mounted",
        "registry" | "secrets" => "registry:entry",
        "firewall" => "firewall:rules",
        _ => return None,
    };
    let found = report.checks.iter().into_iter().find(|(name, _)| *name == key);
    found.filter(|(_, check)| check.status != Status::Pass && check.reason.as_deref() != Some("starting"))
}

/// The same for a person who waits: what every start goes through is no complaint yet.
fn line(answer: &Result<HealthReport, String>, what: &str, still: Duration) -> String {
    let patience = if answer.is_err() { BOOT } else { STILL };
    if still < patience {
        let usual = answer.as_ref().ok().filter(|report| of_step(report).is_none()).and_then(on_its_way);
        return usual.map_or_else(|| what.to_owned(), str::to_owned);
    }
    format!("{what} (for {})", minutes(still))
}

fn too_late(target: &Target, answer: &Result<HealthReport, String>, what: &str, still: Duration) -> End {
    match answer {
        Ok(report) => End::Late(Some(report.status), format!("{what} (for {})", minutes(still))),
        Err(why) => {
            let ip = target.ip;
            let hint = format!(
                "look at its console in the Hetzner Cloud Console, or: ssh root@{ip} cloud-init status --long"
            );
            End::Late(None, format!("no answer for {}: {why}; {hint}", minutes(still)))
        }
    }
}

/// Half minutes: a line that changes every second is not read.
fn minutes(time: Duration) -> String {
    match time.as_secs() / 30 {
        0 => "some seconds".to_owned(),
        1 => "half a minute".to_owned(),
        2 | 3 => "a minute".to_owned(),
        halves => format!("{} minutes", halves / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_in_few_words() {
        let told = [0, 29, 30, 60, 119, 120, 601].map(|seconds| minutes(Duration::from_secs(seconds)));
        assert_eq!(
            told,
            [
                "some seconds",
                "some seconds",
                "half a minute",
                "a minute",
                "a minute",
                "2 minutes",
                "10 minutes"
            ]
        );
    }

    #[test]
    fn whom_the_leader_lost_sight_of_is_read_from_its_words() {
        let check = |reason: Reason| Check {
            status: Status::Warn,
            time: String::new(),
            observed_value: 3.into(),
            observed_unit: "nodes".to_owned(),
            output: format!(
                "the meta leader a-1 says that these are {NOT_CURRENT}a-2, a-3; {}",
                reason.remedy()
            ),
            reason: Some(reason.code().to_owned()),
            peers: None,
        };
        let lost = check(Reason::MemberNotCurrent);
        assert_eq!(not_current(&lost).unwrap().collect::<Vec<_>>(), ["a-2", "a-3"]);
        assert!(not_current(&check(Reason::QuorumLost)).is_none());
    }

    #[test]
    fn silence_is_told_with_its_time_once_a_boot_should_be_over() {
        let silent: Result<HealthReport, String> = Err("nobody".to_owned());
        let what = at(&silent, &Due::default());
        assert_eq!(line(&silent, &what, Duration::from_secs(10)), what);
        assert!(line(&silent, &what, Duration::from_secs(125)).ends_with("(for 2 minutes)"));
    }
}
