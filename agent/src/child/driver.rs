//! The task of one child: it alone acts on it, carries out what the machine decides, and publishes what is.
//!
//! Whatever may block (records, /proc, reaping what is left) it hands to a blocking thread, and it looks at
//! nothing else until that is done: events queue up meanwhile, and none is lost.

use std::sync::Arc;
use std::time::Duration;

use forest_core::health::LastExit;
use forest_core::time::rfc3339;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::adopt::{self, Adopted};
use super::command::Command;
use super::limits::Limits;
use super::log::{Log, LogState};
use super::machine::{Action, Event, Goal, Now, Phase, State, step};
use super::mark;
use super::process::{self, Exit, Process};
use super::record::{Record, Records};
use super::spawn::{Launch, SpawnError, SpawnErrorKind, Spawner, Started};
use super::status::{ChildPhase, ChildStatus};
use super::supervisor::{Message, Want};
use super::token;

/// What a driver is made of.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) prefix: String,
    pub(super) limits: Limits,
    pub(super) records: Arc<Records>,
    pub(super) mark_path: std::path::PathBuf,
    pub(super) spawner: Spawner,
    pub(super) log_path: std::path::PathBuf,
    pub(super) log: Log,
}

type Answer = oneshot::Receiver<Result<Started, SpawnError>>;

/// The process, and what it was started as.
struct Living {
    process: Process,
    token: String,
    command: Option<String>,
    adopted: bool,
}

/// A start that is not answered yet.
struct Pending {
    answer: Answer,
    token: String,
    command: String,
}

pub(super) struct Driver {
    parts: Parts,
    began: (Instant, Timestamp),
    state: State,
    command: Option<Command>,
    living: Option<Living>,
    pending: Option<Pending>,
    last_exit: Option<LastExit>,
    spawn_error: Option<SpawnError>,
    status: watch::Sender<ChildStatus>,
    ending: Option<oneshot::Sender<()>>,
}

impl Driver {
    pub(super) fn new(parts: Parts, status: watch::Sender<ChildStatus>) -> Self {
        Self {
            parts,
            began: (Instant::now(), Timestamp::now()),
            state: State::default(),
            command: None,
            living: None,
            pending: None,
            last_exit: None,
            spawn_error: None,
            status,
            ending: None,
        }
    }

    /// Adopts a living child first, and then goes on until it is shut down or let go.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        self.parts.log.followed().await;
        self.adopt().await;
        let mut log = self.parts.log.state();
        let done = loop {
            self.publish(&log.borrow_and_update());
            if self.ending.is_some() && self.state.phase == Phase::Stopped {
                break self.ending.take();
            }
            let deadline = self.state.deadline(&self.parts.limits);
            // Every arm may be dropped half-way: each waits for something that stays true, or stays queued.
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(Message::Want(want)) => self.want(want),
                    Some(Message::Healthy(true)) => self.feed(Event::Healthy),
                    Some(Message::Healthy(false)) => self.feed(Event::Unhealthy),
                    Some(Message::Retry) => self.feed(Event::Retry),
                    Some(Message::Shutdown(done)) => self.shut_down(done),
                    Some(Message::Detach(done)) => break Some(done),
                    None => break None,
                },
                exit = exited(self.living.as_ref()) => self.exited(exit).await,
                answer = answered(self.pending.as_mut()) => self.started(answer).await,
                () = until(self.began.0, deadline) => self.feed(Event::Tick),
                () = changed(&mut log) => {}
            }
        };
        self.leave().await;
        if let Some(done) = done {
            // The one who asked may have given up.
            let _ = done.send(());
        }
    }

    async fn adopt(&mut self) {
        mark::clear(&self.parts.mark_path).await;
        let record = self.parts.records.get(&self.parts.name);
        let prefix = self.parts.prefix.clone();
        let found = blocking(move || adopt::adopt(record.as_ref(), &prefix)).await.flatten();
        let record = found.as_ref().map(|found| Record {
            token: found.token.clone(),
            boot_id: process::boot_id().unwrap_or_default(),
            command: found.command.clone().unwrap_or_default(),
            process: Some(found.id),
        });
        self.keep_record(record).await;
        let Some(Adopted { id, fd, token, command }) = found else {
            return;
        };
        match Process::new(id, fd) {
            Ok(process) => {
                tracing::info!(child = self.parts.name, pid = process.pid(), "adopted");
                self.living = Some(Living { process, token, command, adopted: true });
                self.feed(Event::Adopted);
            }
            Err(err) => self.cannot_watch(token, &err).await,
        }
    }

    fn want(&mut self, want: Want) {
        if self.ending.is_some() {
            return;
        }
        match want {
            Want::Run(command) => {
                self.command = Some(command);
                self.feed(Event::Want(Goal::Run));
            }
            Want::Stop { reason } => self.feed(Event::Want(Goal::Stop(reason))),
        }
    }

    fn shut_down(&mut self, done: oneshot::Sender<()>) {
        self.ending = Some(done);
        self.feed(Event::Want(Goal::Stop("the agent stops".to_owned())));
    }

    async fn started(&mut self, answer: Result<Started, SpawnError>) {
        let Some(Pending { token, command, .. }) = self.pending.take() else {
            return;
        };
        let watched = answer.map(|Started { id, fd }| Process::new(id, fd));
        match watched {
            Ok(Ok(process)) => {
                tracing::info!(child = self.parts.name, pid = process.pid(), "started");
                self.spawn_error = None;
                self.living = Some(Living { process, token, command: Some(command), adopted: false });
                self.feed(Event::Spawned);
            }
            Ok(Err(err)) => {
                self.cannot_watch(token, &err).await;
                self.feed(Event::SpawnFailed);
            }
            Err(err) => {
                tracing::warn!(child = self.parts.name, %err, "not started");
                self.spawn_error = Some(err);
                self.feed(Event::SpawnFailed);
            }
        }
    }

    /// A process that lives unwatched could not be told from none: it must not.
    async fn cannot_watch(&mut self, token: String, err: &std::io::Error) {
        let message = format!("cannot watch the process: {err}");
        tracing::warn!(child = self.parts.name, message);
        self.spawn_error = Some(SpawnError { kind: SpawnErrorKind::Other, message });
        blocking(move || adopt::sweep(&token)).await;
        self.keep_record(None).await;
    }

    async fn exited(&mut self, exit: Exit) {
        let Some(Living { process, token, .. }) = self.living.take() else {
            return;
        };
        let Exit { code, signal } = exit;
        tracing::warn!(child = self.parts.name, pid = process.pid(), code, signal, "exited");
        blocking(move || {
            // First what can be waited for: whoever dies has no environment any more, but may still have a port.
            adopt::sweep(&token);
            process.bury();
        })
        .await;
        self.keep_record(None).await;
        self.parts.log.child_ended().await;
        let time = rfc3339(Timestamp::now());
        self.last_exit = Some(LastExit { code, signal, time });
        self.feed(Event::Exited);
    }

    fn feed(&mut self, event: Event) {
        let now = Now { at: self.began.0.elapsed(), jitter: rand::random() };
        let looped = self.state.crash_loop;
        let state = std::mem::take(&mut self.state);
        let (state, actions) = step(state, event, now, &self.parts.limits);
        self.state = state;
        if self.state.crash_loop && !looped {
            tracing::warn!(child = self.parts.name, "crash loop: tried on at the slow pace");
        }
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        let signalled = match (action, &self.living) {
            (Action::Spawn, _) => return self.spawn(),
            (Action::Term, Some(living)) => living.process.term(),
            (Action::Kill, Some(living)) => living.process.kill(),
            (Action::Term | Action::Kill, None) => return,
        };
        match signalled {
            Ok(()) => tracing::info!(child = self.parts.name, ?action, "signalled"),
            Err(err) => tracing::warn!(child = self.parts.name, ?action, %err, "cannot signal"),
        }
    }

    fn spawn(&mut self) {
        let Some(command) = self.command.clone() else {
            return;
        };
        let token = token::fresh(&self.parts.prefix);
        self.pending = Some(Pending {
            token: token.clone(),
            command: command.digest(),
            answer: self.parts.spawner.launch(Launch {
                name: self.parts.name.clone(),
                command,
                token,
                log: self.parts.log_path.clone(),
            }),
        });
    }

    async fn keep_record(&self, record: Option<Record>) {
        let (records, name) = (Arc::clone(&self.parts.records), self.parts.name.clone());
        blocking(move || records.set(&name, record)).await;
    }

    /// Leaves everything as the next agent wants to find it.
    async fn leave(self) {
        if let Some(pending) = self.pending {
            // Its record is written before it is answered.
            let _ = pending.answer.await;
        }
        self.parts.log.close().await;
    }

    fn publish(&self, log: &LogState) {
        let living = self.living.as_ref();
        let wanted = self.command.as_ref().map(Command::digest);
        let changed = |living: &Living| wanted.is_some() && living.command != wanted;
        let status = ChildStatus {
            phase: self.phase(),
            restarts: self.state.restarts,
            last_exit: self.last_exit.clone(),
            crash_loop: self.state.crash_loop,
            ignores_term: self.state.ignores_term,
            spawn_error: self.spawn_error.clone(),
            adopted: living.is_some_and(|living| living.adopted),
            pending_change: living.is_some_and(changed),
            log_tail: log.tail.clone(),
            log_flood: log.flood,
        };
        self.status.send_if_modified(|last| {
            let changed = *last != status;
            *last = status;
            changed
        });
    }

    fn phase(&self) -> ChildPhase {
        let wall = |at: Duration| self.began.1 + at;
        let reason = || match &self.state.goal {
            Some(Goal::Stop(reason)) => reason.clone(),
            _ => "to be started again".to_owned(),
        };
        match self.state.phase {
            Phase::Idle => ChildPhase::Idle,
            Phase::Starting => ChildPhase::Starting,
            Phase::Running { since } => ChildPhase::Running {
                pid: self.living.as_ref().map_or(0, |living| living.process.pid()),
                since: wall(since),
            },
            Phase::Backoff { until } => {
                ChildPhase::Backoff { until: wall(until), attempt: self.state.attempt }
            }
            Phase::Stopping { since, .. } => ChildPhase::Stopping { since: wall(since), reason: reason() },
            Phase::Stopped => ChildPhase::Stopped { reason: reason() },
        }
    }
}

/// Runs `work` where it may block; `None` only while the runtime ends.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

async fn exited(living: Option<&Living>) -> Exit {
    match living {
        Some(living) => living.process.exited().await,
        None => std::future::pending().await,
    }
}

async fn answered(pending: Option<&mut Pending>) -> Result<Started, SpawnError> {
    let Some(pending) = pending else {
        return std::future::pending().await;
    };
    (&mut pending.answer).await.unwrap_or_else(|_| {
        Err(SpawnError {
            kind: SpawnErrorKind::Other,
            message: "the thread that starts processes is gone".to_owned(),
        })
    })
}

async fn until(began: Instant, deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(began + deadline).await,
        None => std::future::pending().await,
    }
}

async fn changed(log: &mut watch::Receiver<LogState>) {
    if log.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
