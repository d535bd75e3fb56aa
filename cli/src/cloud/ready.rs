//! Waiting for new machines to be healthy nodes: what each is at, how long it stands there, and why.

use std::collections::BTreeMap;
use std::time::Duration;

use forest_core::health::{Check, HealthReport, Status};
use forest_core::id::NodeId;
use futures::future::join_all;
use tokio::time::Instant;

use crate::local::ready::{End, complaint, missing, on_its_way, what_is_missing};
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

/// Waits until all nodes are healthy at once and know `peers` other nodes; for at most `limit`.
pub async fn wait(
    http: &Http,
    targets: &[Target],
    peers: usize,
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
            let what = at(&answer, peers);
            let stands =
                standing.entry(target.node.clone()).or_insert(Standing { what: what.clone(), since: now });
            if stands.what != what {
                *stands = Standing { what, since: now };
            }
            let still = stands.since.elapsed();
            let is_ready = answer.as_ref().is_ok_and(|report| ready(report, peers));
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
            for (node, end) in &ends {
                progress.end(node.as_str(), end.why().unwrap_or("ready"));
            }
            return ends;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn ready(report: &HealthReport, peers: usize) -> bool {
    report.status == Status::Pass && missing(report, peers) == 0
}

/// What a node is at, in words that change only when something does.
fn at(answer: &Result<HealthReport, String>, peers: usize) -> String {
    match answer {
        Err(_) => "no answer from its agent yet: the machine boots, or fetches the agent".to_owned(),
        Ok(report) if ready(report, peers) => "ready".to_owned(),
        Ok(report) if report.step == "ready" => what_is_missing(report, peers),
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
    fn silence_is_told_with_its_time_once_a_boot_should_be_over() {
        let silent: Result<HealthReport, String> = Err("nobody".to_owned());
        let what = at(&silent, 0);
        assert_eq!(line(&silent, &what, Duration::from_secs(10)), what);
        assert!(line(&silent, &what, Duration::from_secs(125)).ends_with("(for 2 minutes)"));
    }
}
