//! The driver's task: runs looks and acts, follows the engine and the probes, and publishes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forest_core::reason::Reason;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::child::{ChildStatus, SupervisorHandle, Want};
use crate::driver::diagnosis::{diagnose, port_is_free};
use crate::driver::findings::{Sources, findings};
use crate::driver::machine::{Action, Event, Machine};
use crate::driver::seen::{ChildView, Seen};
use crate::driver::step::{Looked, Step, StepName};
use crate::fault::Fault;
use crate::health::{EngineView, Finding, Snapshot};
use crate::probe::Observation;
use crate::settings::Settings;
use crate::systemd;

/// How often the driver shows that it lives, whatever `poll_interval` is.
const BEAT: Duration = Duration::from_secs(1);
/// Longer than any look may take by its own deadlines; a pass ends even if one forgets its own.
const LOOK_DEADLINE: Duration = Duration::from_secs(20);
/// Longer than any act: an update of the registry may wait for minutes on another holder, and on bad bytes.
const ACT_DEADLINE: Duration = Duration::from_secs(600);

/// What somebody asks of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Stop the children and end.
    Stop,
    /// Make place for a newer agent, children untouched.
    Reload,
}

/// Which child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildName {
    /// The engine.
    Engine,
    /// The witness.
    Witness,
}

/// Where steps say what they want of the children.
pub type Wants = mpsc::UnboundedSender<(ChildName, Want)>;

/// The supervisors of an agent's children.
#[derive(Debug)]
pub struct Supervisors {
    /// Of the engine.
    pub engine: SupervisorHandle,
    /// Of the witness.
    pub witness: SupervisorHandle,
}

/// How the driver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The children are to be stopped.
    Stop,
    /// The children go on under the next agent.
    Reload,
}

/// What the driver is made of.
pub struct Parts {
    /// The settings.
    pub settings: Arc<Settings>,
    /// Every step, in order.
    pub steps: Vec<(StepName, Arc<dyn Step>)>,
    /// What is known already: the kept registry, a removal.
    pub seen: Seen,
    /// The children's supervisors.
    pub children: Supervisors,
    /// What the prober sees.
    pub observations: mpsc::Receiver<Observation>,
    /// What the prober is to look at.
    pub targets: watch::Sender<Seen>,
    /// Where the snapshots go.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Told the engine's pid.
    pub running: watch::Sender<Option<u32>>,
    /// What the steps want of the supervisors.
    pub wants: mpsc::UnboundedReceiver<(ChildName, Want)>,
    /// Requests, from signals.
    pub requests: mpsc::Receiver<Request>,
    /// May a reload go ahead? Says why not.
    pub reload_allowed: Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

enum Done {
    Looked(StepName, Looked),
    Acted(StepName, Result<String, Fault>),
    Diagnosed(Option<Fault>),
    PortSeen { free: bool },
}

/// The driver; [`Driver::run`] is its life.
pub struct Driver {
    parts: Parts,
    steps: HashMap<StepName, Arc<dyn Step>>,
    machine: Machine,
    seen: Seen,
    engine: watch::Receiver<ChildStatus>,
    witness: watch::Receiver<ChildStatus>,
    observation: Option<Observation>,
    diagnosis: Option<Fault>,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    systemd: systemd::Notifier,
}

impl Driver {
    /// A driver that has looked at nothing yet.
    #[must_use]
    pub fn new(parts: Parts, systemd: systemd::Notifier) -> Self {
        let names: Vec<StepName> = parts.steps.iter().map(|(name, _)| *name).collect();
        let steps = parts.steps.iter().cloned().collect();
        let machine = Machine::new(&names, parts.settings.poll_interval.max(Duration::from_secs(1)));
        let engine = parts.children.engine.status();
        let witness = parts.children.witness.status();
        let seen = parts.seen.clone();
        Self {
            parts,
            steps,
            machine,
            seen,
            engine,
            witness,
            observation: None,
            diagnosis: None,
            jobs: FuturesUnordered::new(),
            systemd,
        }
    }

    /// Converges the node until somebody asks for an end.
    ///
    /// Cancel safety: every arm only awaits a receiver, a timer or the set of jobs, all of which keep what they
    /// hold when another arm is taken.
    pub async fn run(mut self) -> (Ending, Supervisors) {
        let mut passes = tokio::time::interval(self.parts.settings.poll_interval);
        passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = tokio::time::interval(BEAT.min(self.parts.settings.poll_interval));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.systemd.ready();
        loop {
            tokio::select! {
                _ = passes.tick() => {
                    self.look_at_taken_port();
                    self.feed(Event::PassDue);
                }
                _ = beats.tick() => self.systemd.alive(),
                Some(done) = self.jobs.next() => self.done(done),
                Ok(()) = self.engine.changed() => self.engine_changed(),
                Ok(()) = self.witness.changed() => self.witness_changed(),
                Some(observation) = self.parts.observations.recv() => self.observed(observation),
                Some((child, want)) = self.parts.wants.recv() => self.tell(child, want),
                request = self.parts.requests.recv() => match request {
                    Some(Request::Reload) => {
                        if self.reload_allowed().await {
                            return self.end(Ending::Reload);
                        }
                    }
                    Some(Request::Stop) | None => return self.end(Ending::Stop),
                },
            }
            self.publish();
        }
    }

    fn feed(&mut self, event: Event) {
        let actions = self.machine.step(event, Instant::now(), rand::random());
        for action in actions {
            match action {
                Action::Look(name) => self.look(name),
                Action::Act(name) => self.act(name),
            }
        }
    }

    fn look(&mut self, name: StepName) {
        let Some(step) = self.steps.get(&name) else { return };
        let look = step.look(self.seen.clone());
        self.jobs.push(Box::pin(async move {
            let looked = tokio::time::timeout(LOOK_DEADLINE, look).await;
            Done::Looked(name, looked.unwrap_or_else(|_| Err(overdue(name, LOOK_DEADLINE)).into()))
        }));
    }

    fn act(&mut self, name: StepName) {
        let Some(step) = self.steps.get(&name) else { return };
        tracing::debug!(step = name.as_str(), "acting");
        let act = step.act(self.seen.clone());
        self.jobs.push(Box::pin(async move {
            let acted = tokio::time::timeout(ACT_DEADLINE, act).await;
            Done::Acted(name, acted.unwrap_or_else(|_| Err(overdue(name, ACT_DEADLINE))))
        }));
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Looked(name, looked) => {
                let binary = self.seen.binary;
                for fact in looked.facts {
                    self.seen.learn(fact);
                }
                if binary.is_some() && self.seen.binary != binary {
                    // Another executable: what the last one died of says nothing about it.
                    self.parts.children.engine.retry();
                }
                self.parts.targets.send_replace(self.seen.clone());
                self.feed(Event::Looked(name, looked.result));
            }
            Done::Acted(name, result) => {
                match &result {
                    Ok(what) => tracing::info!(step = name.as_str(), "{what}"),
                    Err(fault) => {
                        tracing::warn!(step = name.as_str(), reason = fault.reason.code(), "{fault}");
                    }
                }
                self.feed(Event::Acted(name, result));
            }
            Done::Diagnosed(fault) => self.diagnosis = fault,
            Done::PortSeen { free } => {
                if free {
                    self.parts.children.engine.retry();
                }
            }
        }
    }

    fn engine_changed(&mut self) {
        let status = self.engine.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.seen.engine, ChildView::from(&status));
        let pid = status.pid();
        self.parts.running.send_if_modified(|known| std::mem::replace(known, pid) != pid);
        if before != self.seen.engine {
            self.feed(Event::PassDue);
        }
        if pid.is_some() {
            self.diagnosis = None;
            return;
        }
        // What was seen of an engine that has ended says nothing about the next one.
        self.observation = None;
        let kind = self.parts.settings.engine.kind;
        // It may look through /proc for who holds a port.
        let diagnosis = tokio::task::spawn_blocking(move || diagnose(kind, &status));
        self.jobs.push(Box::pin(async move { Done::Diagnosed(diagnosis.await.unwrap_or_default()) }));
    }

    fn witness_changed(&mut self) {
        let view = ChildView::from(&*self.witness.borrow_and_update());
        if std::mem::replace(&mut self.seen.witness, view) != view {
            self.feed(Event::PassDue);
        }
    }

    fn look_at_taken_port(&mut self) {
        if self.diagnosis.as_ref().is_none_or(|fault| fault.reason != Reason::EnginePortTaken) {
            return;
        }
        let tail = self.engine.borrow().log_tail.clone();
        let seen = tokio::task::spawn_blocking(move || port_is_free(&tail));
        self.jobs.push(Box::pin(async move { Done::PortSeen { free: seen.await.unwrap_or_default() } }));
    }

    fn observed(&mut self, observation: Observation) {
        self.parts.children.engine.healthy(observation.engine_is_well());
        // A leader that has come, a member that is current now: steps wait for it.
        let changed = self.seen.observed(&observation);
        self.observation = Some(observation);
        if changed {
            self.feed(Event::PassDue);
        }
    }

    fn tell(&self, child: ChildName, want: Want) {
        match child {
            ChildName::Engine => self.parts.children.engine.want(want),
            ChildName::Witness => self.parts.children.witness.want(want),
        }
    }

    /// Says in the log, in the events and to systemd what changed, and publishes.
    fn publish(&mut self) {
        let now = Instant::now();
        let status = self.engine.borrow().clone();
        let found = findings(&Sources {
            settings: &self.parts.settings,
            machine: &self.machine,
            seen: &self.seen,
            engine: &status,
            witness: &self.witness.borrow(),
            diagnosis: self.diagnosis.as_ref(),
            observation: self.observation.as_ref(),
            now,
        });
        let last = Arc::clone(&self.parts.snapshots.borrow());
        let mut events = last.events.clone();
        for ((key, old), (_, new)) in last.findings.iter().into_iter().zip(found.iter()) {
            if (old.status, old.reason) != (new.status, new.reason) {
                said(key, new);
                events.push(key, status_word(new), new.reason.map(Reason::code), &new.output);
            }
        }
        let step = self.machine.current().map_or("ready", StepName::as_str);
        if step != last.step {
            self.systemd.status(step, &found);
            events.push(
                step,
                if step == "ready" { "pass" } else { "at" },
                None,
                "the node is at this step now",
            );
        }
        let version = self.observation.as_ref().and_then(Observation::version);
        let snapshot = Snapshot {
            beat: now,
            address: self.seen.address,
            step,
            engine: EngineView {
                kind: self.parts.settings.engine.kind.as_str(),
                version: version.or_else(|| last.engine.version.clone()),
                pid: status.pid(),
                restarts: status.restarts,
                last_exit: status.last_exit.clone(),
                log_tail: status.log_tail.iter().cloned().collect(),
            },
            findings: found,
            peer_ips: crate::probe::peers(&self.parts.settings, &self.seen)
                .iter()
                .map(|peer| peer.ip)
                .collect(),
            events,
            ..(*last).clone()
        };
        self.parts.snapshots.send_replace(Arc::new(snapshot));
    }

    async fn reload_allowed(&self) -> bool {
        match (self.parts.reload_allowed)().await {
            Ok(()) => true,
            Err(why) => {
                tracing::error!("not reloading: {why}; this agent goes on as it was");
                false
            }
        }
    }

    fn end(self, ending: Ending) -> (Ending, Supervisors) {
        match ending {
            Ending::Stop => self.systemd.stopping(),
            Ending::Reload => self.systemd.reloading(),
        }
        (ending, self.parts.children)
    }
}

fn overdue(name: StepName, deadline: Duration) -> Fault {
    let message = format!("the step {} did not come back within {} s", name.as_str(), deadline.as_secs());
    Fault::new(Reason::Stale, message)
}

fn said(key: &str, finding: &Finding) {
    let reason = finding.reason.map_or("", |reason| reason.code());
    match finding.status {
        forest_core::health::Status::Pass => tracing::info!("{key} passes: {}", finding.output),
        _ => tracing::warn!(reason, "{key}: {}", finding.output),
    }
}

fn status_word(finding: &Finding) -> &'static str {
    match finding.status {
        forest_core::health::Status::Pass => "pass",
        forest_core::health::Status::Warn => "warn",
        forest_core::health::Status::Fail => "fail",
    }
}
