//! Rotation of a forest's route password and of its user of the system account. The record of it stands in the
//! forest's secrets (`forest_core::secrets::rotation`); agents follow it and tell in /health how far they have
//! carried it out. This begins one, records the next stage once every node is through the one before, and waits for
//! the last. Run again after a kill, it goes on with the same.

use std::time::{Duration, Instant};

use forest_core::health::{HealthReport, Status};
use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use forest_core::secrets::{Progress, Record, Secrets};
use futures::future::join_all;
use jiff::Timestamp;

use crate::failure::Failure;
use crate::local::ready::{complaint, missing};
use crate::probe::{Http, Target};
use crate::progress;
use crate::store::Store;

/// A forest that was just planted or grown is not refused for what passes by itself in this time.
const SETTLES: Duration = Duration::from_secs(60);
/// Ends what is said of a rotation that was not begun.
const UNCHANGED: &str = "; nothing was changed";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// So many looks pass until registry and secrets are read again: nodes may come and go, and another laptop may help.
const LOOKS_A_READ: u32 = 8;

/// One node, as it answered.
pub struct Told {
    /// The node.
    pub node: NodeId,
    /// Its health, or why there is none.
    pub health: Result<HealthReport, String>,
    /// Its agent knows of no rotation.
    pub is_older: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Nothing is under way: one begins, if the forest may have one.
    Begin,
    /// All nodes are so far.
    Advance(Progress),
    /// These are not, each with what it is at.
    Wait(Vec<(NodeId, String)>),
    /// It is over.
    Done,
}

/// Decides. `begun`: this command has begun one, or found one that was not over.
fn next(record: &Record, told: &[Told], begun: bool) -> Next {
    let progress = record.progress();
    if !record.is_rotating {
        return if begun { Next::Done } else { Next::Begin };
    }
    // Who is away makes others ill.
    let away = told.iter().any(|told| told.health.is_err());
    let behind = told.iter().filter(|told| !away || told.health.is_err());
    let behind: Vec<_> = behind.filter_map(|told| Some((told.node.clone(), lag(told, progress)?))).collect();
    if behind.is_empty() { Next::Advance(progress) } else { Next::Wait(behind) }
}

/// Why a node is not through `progress`; `None`: it is, and part of the whole again.
fn lag(told: &Told, progress: Progress) -> Option<String> {
    let stage = progress.stage.word();
    match &told.health {
        Err(why) => Some(why.clone()),
        Ok(report) if report.rotation == Some(progress) && is_whole(report) => None,
        Ok(report) if report.status == Status::Pass => Some(format!("has not come to stage {stage} yet")),
        Ok(report) => Some(complaint(report)),
    }
}

/// Does its server serve, with all routes, in a group in which everybody is current?
fn is_whole(report: &HealthReport) -> bool {
    let checks = &report.checks;
    let parts = [&checks.peers_reachable[0], &checks.nats_jetstream[0]];
    report.status != Status::Fail && parts.iter().all(|check| check.status == Status::Pass)
}

/// Why no rotation may begin, by the first node that is not fit for one; who is away makes others ill, and comes first.
fn unfit(forest: &ForestId, all: &[Told], progress: Progress) -> Option<Failure> {
    let refuse = |reason, why: String| Failure::new(reason, format!("{why}{UNCHANGED}"));
    let away = all.iter().find_map(|told| Some((&told.node, told.health.as_ref().err()?)));
    if let Some((node, why)) = away {
        let message = format!(
            "{node} does not answer ({why}): bring it back (morpheus grow {forest} --repair), or let it go for good, before \
             the rotation"
        );
        return Some(refuse(Reason::AgentUnreachable, message));
    }
    let reports = all.iter().filter_map(|told| Some((told, told.health.as_ref().ok()?)));
    let of_one = |(told, report): (&Told, &HealthReport)| {
        let node = &told.node;
        if report.engine.kind != "nats-server" {
            let what = "whose routes have no password, and which has no system account for its own agent";
            return Some((Reason::NotSupported, format!("{node} runs {}, {what}", report.engine.kind)));
        }
        let routes = &report.checks.peers_reachable[0];
        if report.status == Status::Fail
            || routes.status != Status::Pass
            || missing(report, all.len() - 1) > 0
        {
            let why = match report.status {
                Status::Pass => "it does not know all other nodes yet".to_owned(),
                _ => complaint(report),
            };
            return Some((Reason::NotHealthy, format!("{node} is not well: {why}")));
        }
        if told.is_older {
            let what = "is older than rotation; give it a newer one first (morpheus upgrade)";
            return Some((Reason::NotSupported, format!("the agent of {node} {what}")));
        }
        let what = "has not taken over the forest's secrets as they stand";
        (report.rotation != Some(progress))
            .then(|| (Reason::NotHealthy, format!("{node} {what}: morpheus logs {forest} {node}")))
    };
    reports.filter_map(of_one).map(|(reason, why)| refuse(reason, why)).next()
}

/// Where the forest is, and what it is asked by.
pub struct Rotator<'a> {
    /// The forest.
    pub forest: &'a ForestId,
    /// Its registry, and its secrets beside that.
    pub store: &'a Store,
    /// How nodes are asked.
    pub http: &'a Http,
    /// Which nodes there are, asked again and again.
    pub targets: &'a (dyn Fn() -> Result<Vec<Target>, Failure> + Sync),
}

impl Rotator<'_> {
    /// Rotates, within `limit`. The nodes that were asked, and how it ended.
    ///
    /// # Errors
    /// [`Failure`] where the rotation cannot begin or be recorded; one that began and is not through in time is in the
    /// result.
    pub async fn run(
        &self,
        limit: Duration,
        progress: &mut progress::Progress,
    ) -> Result<(Vec<Target>, Result<(), Failure>), Failure> {
        let (until, settled) = (Instant::now() + limit, Instant::now() + SETTLES);
        let mut secrets = self.store.secrets(self.forest)?;
        let mut targets = (self.targets)()?;
        let mut begun = self.record(&secrets)?.is_rotating;
        let mut looks = 0;
        loop {
            let record = self.record(&secrets)?;
            let told = self.ask(&targets).await;
            match next(&record, &told, begun) {
                Next::Done => {
                    targets.iter().for_each(|target| progress.end(target.node.as_str(), "rotated"));
                    return Ok((targets, Ok(())));
                }
                Next::Begin => {
                    if let Some(unfit) = unfit(self.forest, &told, record.progress()) {
                        // What is just being taken over is waited for; who is away is not.
                        if unfit.reason != Reason::NotHealthy || Instant::now() >= until.min(settled) {
                            return Err(unfit);
                        }
                        let why = unfit.message.trim_end_matches(UNCHANGED);
                        progress.at(self.forest.as_str(), why);
                        tokio::time::sleep(LOOK).await;
                        continue;
                    }
                    secrets = self.begin(record.progress())?;
                    begun = true;
                }
                Next::Advance(from) => {
                    self.store.update_secrets(self.forest, |secrets| Ok(secrets.advance_rotation(from)))?;
                    secrets = self.store.secrets(self.forest)?;
                }
                Next::Wait(behind) => {
                    for (node, why) in &behind {
                        progress.at(node.as_str(), why);
                    }
                    if Instant::now() >= until {
                        return Ok((targets, Err(self.late(&record, &behind))));
                    }
                    tokio::time::sleep(LOOK).await;
                    looks += 1;
                    if looks % LOOKS_A_READ == 0 {
                        (secrets, targets) = (self.store.secrets(self.forest)?, (self.targets)()?);
                    }
                }
            }
        }
    }

    fn record(&self, secrets: &Secrets) -> Result<Record, Failure> {
        secrets.record().cloned().ok_or_else(|| {
            let message =
                format!("forest {} is not founded yet: its first node has to be healthy once", self.forest);
            Failure::new(Reason::SecretsMissing, message)
        })
    }

    async fn ask(&self, targets: &[Target]) -> Vec<Told> {
        join_all(targets.iter().map(|target| async {
            let health = self.http.health(target).await;
            let is_older = health.as_ref().is_ok_and(|health| health.body.get("rotation").is_none());
            Told { node: target.node.clone(), health: health.map(|health| health.report), is_older }
        }))
        .await
    }

    /// Records a rotation, unless another command was quicker.
    fn begin(&self, seen: Progress) -> Result<Secrets, Failure> {
        self.store.update_secrets(self.forest, |secrets| {
            let record = self.record(secrets)?;
            if record.progress() != seen {
                return Ok(None);
            }
            let begun = secrets.begin_rotation(Timestamp::now());
            let busy = record.leaving.map(|leaving| format!("{} leaves", leaving.node));
            let busy = busy.or(record.joining.map(|node| format!("{node} joins")));
            begun.map(Some).ok_or_else(|| {
                let what = busy.unwrap_or_else(|| "something else is under way".to_owned());
                Failure::new(
                    Reason::Busy,
                    format!("{what}, and a rotation waits for that; nothing was changed"),
                )
            })
        })?;
        self.store.secrets(self.forest)
    }

    fn late(&self, record: &Record, behind: &[(NodeId, String)]) -> Failure {
        let Progress { epoch, stage } = record.progress();
        let waits: Vec<_> = behind.iter().map(|(node, why)| format!("{node}: {why}")).collect();
        let name = self.forest;
        let message = format!(
            "rotation {epoch} of {name} waits at stage {} for {}. All nodes go on to know each other meanwhile, those \
             that come back too. Next: bring the node back, or let it go for good; then run morpheus rotate-secrets \
             {name} again, which goes on with this rotation",
            stage.word(),
            waits.join("; ")
        );
        Failure::new(Reason::RotationUnfinished, message)
    }
}

#[cfg(test)]
mod tests;
