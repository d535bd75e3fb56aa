//! What everybody else gets to see of the driver: the snapshot, the events, systemd's status line and the log.

use std::sync::Arc;

use forest_core::health::Status;
use forest_core::reason::Reason;
use tokio::sync::watch;

use crate::driver::findings::{Sources, findings};
use crate::driver::step::StepName;
use crate::health::{EngineView, Events, Finding, Findings, Snapshot};
use crate::probe::Observation;
use crate::systemd;

/// Step of /health while the children are being stopped.
pub(super) const STOPPING: &str = "stopping";

/// Publishes. What did not change is said once.
pub(super) struct Publisher {
    snapshots: watch::Sender<Arc<Snapshot>>,
    systemd: systemd::Notifier,
    status: String,
}

impl Publisher {
    pub(super) fn new(snapshots: watch::Sender<Arc<Snapshot>>, systemd: systemd::Notifier) -> Self {
        Self { snapshots, systemd, status: String::new() }
    }

    /// Publishes how things stand. `ending`: the step's name while the agent ends.
    pub(super) fn publish(&mut self, sources: &Sources<'_>, ending: Option<&'static str>) {
        let found = findings(sources);
        let last = Arc::clone(&self.snapshots.borrow());
        let mut events = last.events.clone();
        say_changes(&last.findings, &found, &mut events);
        let step = ending.unwrap_or_else(|| step(sources, &found));
        if step != last.step {
            let status = if step == "ready" { "pass" } else { "at" };
            events.push(step, status, None, "the node is at this step now");
        }
        let status = systemd::status_text(step, &found);
        if status != self.status {
            self.systemd.status(&status);
            self.status = status;
        }
        let engine = sources.engine;
        let version = sources.observation.and_then(Observation::version);
        let peers = crate::probe::peers(sources.settings, sources.seen);
        let snapshot = Snapshot {
            beat: sources.now,
            address: sources.seen.address,
            step,
            engine: EngineView {
                kind: sources.settings.engine.kind.as_str(),
                version: version.or_else(|| last.engine.version.clone()),
                pid: engine.pid(),
                restarts: engine.restarts,
                last_exit: engine.last_exit.clone(),
                log_tail: engine.log_tail.iter().cloned().collect(),
            },
            rotation: sources.seen.carried(),
            findings: found,
            peer_ips: peers.iter().map(|peer| peer.ip).collect(),
            events,
            ..(*last).clone()
        };
        self.snapshots.send_replace(Arc::new(snapshot));
    }

    /// Notes something that the agent itself does.
    pub(super) fn event(&self, step: &str, message: &str) {
        self.snapshots.send_modify(|snapshot| Arc::make_mut(snapshot).events.push(step, "at", None, message));
    }
}

/// Where the node is: `ready` is it only where the engine runs and answers, too.
fn step(sources: &Sources<'_>, found: &Findings) -> &'static str {
    let serves =
        [&found.engine_process, &found.nats_server].iter().all(|finding| finding.status != Status::Fail);
    match sources.machine.current() {
        Some(step) => step.as_str(),
        None if serves => "ready",
        None => StepName::Engine.as_str(),
    }
}

fn say_changes(last: &Findings, found: &Findings, events: &mut Events) {
    for ((key, old), (_, new)) in last.iter().into_iter().zip(found.iter()) {
        if (old.status, old.reason) != (new.status, new.reason) {
            said(key, new);
            events.push(key, status_word(new), new.reason.map(Reason::code), &new.output);
        }
    }
}

fn said(key: &str, finding: &Finding) {
    match finding.reason {
        None => tracing::info!("{key} passes: {}", finding.output),
        // The agent is at work on it: no news for anybody who is woken by warnings.
        Some(reason) if finding.under_way => {
            tracing::info!(reason = reason.code(), "{key}: {}", finding.output);
        }
        Some(reason) => tracing::warn!(reason = reason.code(), "{key}: {}", finding.output),
    }
}

fn status_word(finding: &Finding) -> &'static str {
    match finding.status {
        Status::Pass => "pass",
        Status::Warn => "warn",
        Status::Fail => "fail",
    }
}
