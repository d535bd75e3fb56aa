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
use crate::driver::complaint::Complaints;
use crate::driver::diagnosis::{diagnose, is_full, port_is_free};
use crate::driver::findings::Sources;
use crate::driver::machine::{Action, Event, Machine};
use crate::driver::publish::{Publisher, STOPPING};
use crate::driver::seen::{ChildView, Seen};
use crate::driver::step::{Looked, Step, StepName};
use crate::fault::Fault;
use crate::health::Snapshot;
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
    /// The companion.
    Companion,
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
    /// Of the companion, which runs only while an order needs it.
    pub companion: SupervisorHandle,
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
    /// Told whenever the registry or the secrets were written by anybody.
    pub changes: mpsc::Receiver<()>,
    /// What the prober is to look at.
    pub targets: watch::Sender<Seen>,
    /// Where the snapshots go.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Told the engine's pid.
    pub running: watch::Sender<Option<u32>>,
    /// What the steps want of the supervisors.
    pub wants: mpsc::UnboundedReceiver<(ChildName, Want)>,
    /// Requests, from signals.
    pub requests: mpsc::UnboundedReceiver<Request>,
    /// May a reload go ahead? Says why not.
    pub reload_allowed: Arc<ReloadCheck>,
}

/// Says why a reload may not go ahead.
pub type ReloadCheck = dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync;

enum Done {
    Looked(StepName, Looked),
    Acted(StepName, Result<String, Fault>),
    Diagnosed(Option<Fault>),
    PortSeen { free: bool },
    StoreSeen { full: bool },
    ReloadChecked(Result<(), String>),
}

/// The driver; [`Driver::run`] is its life.
pub struct Driver {
    settings: Arc<Settings>,
    children: Supervisors,
    observations: mpsc::Receiver<Observation>,
    changes: mpsc::Receiver<()>,
    targets: watch::Sender<Seen>,
    running: watch::Sender<Option<u32>>,
    wants: mpsc::UnboundedReceiver<(ChildName, Want)>,
    requests: mpsc::UnboundedReceiver<Request>,
    reload_allowed: Arc<ReloadCheck>,
    steps: HashMap<StepName, Arc<dyn Step>>,
    machine: Machine,
    seen: Seen,
    engine: watch::Receiver<ChildStatus>,
    witness: watch::Receiver<ChildStatus>,
    observation: Option<Observation>,
    diagnosis: Option<Fault>,
    complaints: Complaints,
    /// What the acts failed of that were not done since: the same is not said twice.
    failed: HashMap<StepName, String>,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    publisher: Publisher,
    systemd: systemd::Notifier,
}

impl Driver {
    /// A driver that has looked at nothing yet.
    #[must_use]
    pub fn new(parts: Parts, systemd: systemd::Notifier) -> Self {
        let Parts { settings, steps, seen, children, observations, changes, targets, .. } = parts;
        let Parts { snapshots, running, wants, requests, reload_allowed, .. } = parts;
        let names: Vec<StepName> = steps.iter().map(|(name, _)| *name).collect();
        Self {
            machine: Machine::new(&names, settings.poll_interval.max(Duration::from_secs(1))),
            engine: children.engine.status(),
            witness: children.witness.status(),
            steps: steps.into_iter().collect(),
            publisher: Publisher::new(snapshots, systemd),
            settings,
            children,
            observations,
            changes,
            targets,
            running,
            wants,
            requests,
            reload_allowed,
            seen,
            observation: None,
            diagnosis: None,
            complaints: Complaints::default(),
            failed: HashMap::new(),
            jobs: FuturesUnordered::new(),
            systemd,
        }
    }

    /// Converges the node until somebody asks for an end; then ends the children, or lets go of them.
    ///
    /// Cancel safety: every arm only awaits a receiver, a timer or the set of jobs, all of which keep what they
    /// hold when another arm is taken.
    pub async fn run(mut self) -> Ending {
        let mut passes = tokio::time::interval(self.settings.poll_interval);
        passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = tokio::time::interval(BEAT.min(self.settings.poll_interval));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.systemd.ready();
        self.heed_removal();
        loop {
            let mut ending = None;
            tokio::select! {
                _ = passes.tick() => {
                    self.look_at_taken_port();
                    self.look_at_complaint();
                    self.feed(Event::PassDue);
                }
                _ = beats.tick() => self.systemd.alive(),
                Some(done) = self.jobs.next() => ending = self.done(done),
                Ok(()) = self.engine.changed() => self.engine_changed(),
                Ok(()) = self.witness.changed() => self.witness_changed(),
                Some(()) = self.changes.recv() => self.feed(Event::PassDue),
                Some(observation) = self.observations.recv() => self.observed(observation),
                Some((child, want)) = self.wants.recv() => self.tell(child, want),
                request = self.requests.recv() => match request {
                    Some(Request::Reload) => self.check_reload(),
                    Some(Request::Stop) | None => ending = Some(Ending::Stop),
                },
            }
            if let Some(ending) = ending {
                return self.end(ending).await;
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

    fn done(&mut self, done: Done) -> Option<Ending> {
        match done {
            Done::Looked(name, looked) => self.looked(name, looked),
            Done::Acted(name, result) => self.acted(name, result),
            Done::Diagnosed(fault) => self.diagnosis = fault,
            Done::PortSeen { free: true } => self.children.engine.retry(),
            Done::PortSeen { free: false } => {}
            Done::StoreSeen { full } => self.complaints.store_is_full(full),
            Done::ReloadChecked(allowed) => return self.reload_checked(allowed),
        }
        None
    }

    fn looked(&mut self, name: StepName, looked: Looked) {
        let binary = self.seen.binary;
        for fact in looked.facts {
            self.seen.learn(fact);
        }
        if binary.is_some() && self.seen.binary != binary {
            // Another executable: what the last one died of says nothing about it.
            self.children.engine.retry();
        }
        self.heed_removal();
        self.targets.send_replace(self.seen.clone());
        self.feed(Event::Looked(name, looked.result));
    }

    fn acted(&mut self, name: StepName, result: Result<String, Fault>) {
        let step = name.as_str();
        match &result {
            Ok(what) => {
                self.failed.remove(&name);
                tracing::info!(step, "{what}");
            }
            Err(fault) => {
                let said = self.failed.insert(name, fault.message.clone());
                if said.as_ref() != Some(&fault.message) {
                    tracing::warn!(step, reason = fault.reason.code(), "{fault}");
                }
            }
        }
        self.feed(Event::Acted(name, result));
    }

    /// A node that was taken out on purpose stops its engine, whatever else does not stand.
    fn heed_removal(&self) {
        if let Some(since) = &self.seen.removed {
            let reason = format!("the node was taken out on purpose at {since}");
            self.children.engine.want(Want::Stop { reason });
        }
    }

    fn engine_changed(&mut self) {
        let status = self.engine.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.seen.engine, ChildView::from(&status));
        let pid = status.pid();
        self.running.send_if_modified(|known| std::mem::replace(known, pid) != pid);
        if before != self.seen.engine {
            self.feed(Event::PassDue);
        }
        self.look_at_complaint();
        if pid.is_some() {
            self.diagnosis = None;
            return;
        }
        // What was seen of an engine that has ended says nothing about the next one; the peers are as they were.
        if let Some(observation) = &mut self.observation {
            observation.engine = None;
        }
        let kind = self.settings.engine.kind;
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

    fn look_at_complaint(&mut self) {
        let tail = self.engine.borrow().log_tail.clone();
        if !self.complaints.heed(self.settings.engine.kind, &tail, Instant::now()) {
            return;
        }
        let data_dir = self.settings.engine.data_dir.clone();
        let seen = tokio::task::spawn_blocking(move || is_full(&data_dir));
        self.jobs.push(Box::pin(async move { Done::StoreSeen { full: seen.await.unwrap_or_default() } }));
    }

    fn observed(&mut self, observation: Observation) {
        self.children.engine.healthy(observation.engine_is_well());
        // A leader that has come, a member that is current now: steps wait for it.
        let changed = self.seen.observed(&observation);
        self.observation = Some(observation);
        if changed {
            self.feed(Event::PassDue);
        }
    }

    fn tell(&self, child: ChildName, want: Want) {
        match child {
            // Wanted before the node was taken out.
            ChildName::Engine if self.seen.removed.is_some() && matches!(want, Want::Run(_)) => {}
            ChildName::Engine => self.children.engine.want(want),
            ChildName::Witness => self.children.witness.want(want),
            ChildName::Companion => self.children.companion.want(want),
        }
    }

    fn publish(&mut self) {
        let sources = Sources {
            settings: &self.settings,
            machine: &self.machine,
            seen: &self.seen,
            engine: &self.engine.borrow().clone(),
            witness: &self.witness.borrow().clone(),
            diagnosis: self.diagnosis.as_ref(),
            complaint: self.complaints.fault(Instant::now()),
            observation: self.observation.as_ref(),
            now: Instant::now(),
        };
        self.publisher.publish(&sources, None);
    }

    /// In the background: the newer agent may take its time, and a stop comes first.
    fn check_reload(&mut self) {
        let check = (self.reload_allowed)();
        self.jobs.push(Box::pin(async move { Done::ReloadChecked(check.await) }));
    }

    fn reload_checked(&mut self, allowed: Result<(), String>) -> Option<Ending> {
        while let Ok(request) = self.requests.try_recv() {
            if request == Request::Stop {
                return Some(Ending::Stop);
            }
        }
        match allowed {
            Ok(()) => Some(Ending::Reload),
            Err(why) => {
                tracing::error!("not reloading: {why}; this agent goes on as it was");
                None
            }
        }
    }

    /// Ends the children or lets go of them, and goes on saying how they are until that is done.
    async fn end(mut self, ending: Ending) -> Ending {
        let (step, message) = match ending {
            Ending::Stop => {
                self.systemd.stopping();
                (STOPPING, "the agent stops, and its children")
            }
            Ending::Reload => {
                self.systemd.reloading();
                ("reload", "a newer agent takes over; the children go on")
            }
        };
        self.publisher.event(step, message);
        let done = end_children(ending, self.children);
        tokio::pin!(done);
        let mut beats = tokio::time::interval(BEAT);
        loop {
            let (engine, witness) = (self.engine.borrow_and_update().clone(), self.witness.borrow().clone());
            let sources = Sources {
                settings: &self.settings,
                machine: &self.machine,
                seen: &self.seen,
                engine: &engine,
                witness: &witness,
                diagnosis: None,
                complaint: None,
                observation: self.observation.as_ref(),
                now: Instant::now(),
            };
            self.publisher.publish(&sources, (ending == Ending::Stop).then_some(STOPPING));
            tokio::select! {
                () = &mut done => return ending,
                _ = beats.tick() => self.systemd.alive(),
                Ok(()) = self.engine.changed() => {}
            }
        }
    }
}

async fn end_children(ending: Ending, children: Supervisors) {
    let Supervisors { engine, witness, companion } = children;
    match ending {
        Ending::Reload => {
            tokio::join!(engine.detach(), witness.detach(), companion.detach());
        }
        Ending::Stop => {
            let (engine, witness, companion) =
                tokio::join!(engine.shutdown(), witness.shutdown(), companion.shutdown());
            for (name, ended) in [("engine", engine), ("witness", witness), ("companion", companion)] {
                match ended {
                    Ok(()) => tracing::info!("the {name} is stopped"),
                    Err(fault) => tracing::error!(reason = fault.reason.code(), "the {name}: {fault}"),
                }
            }
        }
    }
}

fn overdue(name: StepName, deadline: Duration) -> Fault {
    let message = format!("the step {} did not come back within {} s", name.as_str(), deadline.as_secs());
    Fault::new(Reason::Stale, message)
}
