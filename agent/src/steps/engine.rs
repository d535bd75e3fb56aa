//! Step `engine`: the engine's supervisor wants what should run, from a configuration that was tested.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forest_core::reason::Reason;
use forest_core::secrets::Secrets;
use forest_core::secrets::rotation::Stage as RotationStage;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::SignedDuration;

use super::disk::off_thread;
use super::secrets::SecretsKeeper;
use crate::child::{Command, Want};
use crate::cluster::marker::{MarkerFile, Phase};
use crate::cluster::reload::{Loaded, reload};
use crate::cluster::routes;
use crate::driver::{ChildName, Fact, Look, Looked, Seen, Step, Wants};
use crate::engine::behind::BehindFile;
use crate::engine::planned::{Draft, Planned};
use crate::engine::restart::{Restart, RestartFile};
use crate::engine::started::Started;
use crate::engine::{lame_duck, nats_server};
use crate::fault::Fault;
use crate::settings::{EngineKind, Settings};
use wanted::{Run, Wanted, wanted};

mod wanted;

/// The times of files lag behind the clock by some milliseconds.
const FILE_CLOCK: SignedDuration = SignedDuration::from_millis(50);

/// So many looks in a row show a server that is deaf, rather than a leader that is just being replaced.
const DEAF_LOOKS: u32 = 2;
/// So many looks in a row show that a route is missing, rather than that a node has just started.
const ROUTELESS_LOOKS: u32 = 3;
/// After a reload the next looks show whether it helped.
const RELOAD_PAUSE: Duration = Duration::from_secs(10);

/// The step. What it wants goes to the driver, which tells the supervisor.
#[derive(Clone)]
pub struct EngineStep {
    settings: Arc<Settings>,
    /// Is there a nats-server to be the witness?
    has_witness: bool,
    keeper: SecretsKeeper,
    wants: Wants,
    last: Arc<Mutex<Last>>,
}

/// What was done last.
#[derive(Default)]
struct Last {
    want: Option<Asked>,
    loaded: Loaded,
    reloaded: Option<Instant>,
    /// The routes that stood when this process was reloaded last, if it is one that is deaf to later ones.
    heard: Option<(u32, BTreeSet<u64>)>,
    /// The process whose routes were replaced.
    renewed: Option<u32>,
}

/// What was asked of the supervisor.
#[derive(Clone, PartialEq, Eq)]
enum Asked {
    /// A run by this command and this configuration, which was tested.
    Run(Command, String),
    Stop,
}

impl EngineStep {
    /// The step for this node.
    #[must_use]
    pub fn new(settings: Arc<Settings>, has_witness: bool, keeper: SecretsKeeper, wants: Wants) -> Self {
        Self { settings, has_witness, keeper, wants, last: Arc::default() }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, planned: &Planned) {
        let command = planned.command.clone();
        self.last().want = Some(Asked::Run(command.clone(), planned.text.clone()));
        self.want(Want::Run(command));
    }

    fn stop(&self, reason: String) {
        self.last().want = Some(Asked::Stop);
        self.want(Want::Stop { reason });
    }

    fn want(&self, want: Want) {
        // Nobody listens only while the agent ends.
        let _ = self.wants.send((ChildName::Engine, want));
    }

    fn compare(&self, seen: &Seen) -> Result<Look, Fault> {
        let last = self.last().want.clone();
        let differs = |reason, message: &str| Ok(Look::Differs(Fault::new(reason, message)));
        match wanted(&self.settings, self.has_witness, seen, self.is_renewed(seen))? {
            Wanted::Stop(reason) | Wanted::Retire(reason) => match last {
                Some(Asked::Stop) => Ok(Look::Stands(format!("stopped: {reason}"))),
                _ => Ok(Look::Differs(Fault::new(Reason::EngineStopped, reason))),
            },
            // A supervisor would start it again by itself.
            Wanted::Hold(fault) if matches!(last, Some(Asked::Run(..))) && seen.engine.pid.is_none() => {
                Ok(Look::Differs(fault))
            }
            Wanted::Hold(fault) => Err(fault),
            Wanted::Turn(_) => differs(Reason::WaitsForFounder, "the engine joins as soon as it is its turn"),
            Wanted::Run(run) if run.ends_turn => {
                differs(Reason::EngineStarting, "the engine has joined, and its turn is not ended yet")
            }
            Wanted::Run(run) => {
                let planned = &run.planned;
                let asked = Some(Asked::Run(planned.command.clone(), planned.text.clone()));
                // Stopped: by the driver, while the node was taken out.
                if last != asked || !planned.is_written() || seen.engine.stopped {
                    return differs(
                        Reason::EngineStarting,
                        "the engine does not run by its present configuration yet",
                    );
                }
                match &run.note {
                    // Of no account to anybody but this node's later lives.
                    Some((founding, phase @ Phase::Member)) => {
                        MarkerFile::new(&self.settings.state_dir).write(founding, *phase)?;
                    }
                    Some(_) => return differs(Reason::EngineStarting, "the engine is to join anew"),
                    None => {}
                }
                if let Some(fault) = self.restart_due(seen)? {
                    return Ok(Look::Differs(fault));
                }
                if let Some(pid) = seen.engine.pid
                    && !self.started(planned).fits(pid)?
                {
                    return Err(restart_needed(pid));
                }
                if self.unread(seen, planned)?.is_some() {
                    return differs(
                        Reason::EngineReloadSilent,
                        "the engine has not read its new configuration yet",
                    );
                }
                if self.deaf(seen).is_some() {
                    return differs(
                        Reason::JetstreamNoAnswer,
                        "the engine does not hear all servers of its cluster; it is to be reloaded",
                    );
                }
                let (program, file) = (planned.command.program.display(), planned.file.display());
                Ok(Look::Stands(format!("{program} is wanted, by {file}")))
            }
        }
    }

    /// What the engine's process was started by.
    fn started(&self, planned: &Planned) -> Started {
        Started::new(&self.settings, &planned.command)
    }

    /// Was a route of the running server missing after the old password had gone? Then it lists the new alone, for as
    /// long as it lives or the rotation lasts.
    fn is_renewed(&self, seen: &Seen) -> bool {
        let record = seen.secrets.as_ref().and_then(|read| read.secrets.record());
        let accepted = record.is_some_and(|record| record.progress().stage == RotationStage::Accepted);
        let pid = seen.engine.pid.filter(|_| accepted);
        let mut last = self.last();
        if last.renewed != pid || pid.is_none() {
            last.renewed = pid.filter(|_| !all_stand(seen));
        }
        last.renewed.is_some()
    }

    /// The running server, where it answers and it is not certain that it has read what it should of the
    /// configuration as it stands. One that does not answer yet would die of the signal.
    fn unread(&self, seen: &Seen, planned: &Planned) -> Result<Option<u32>, Fault> {
        let pid = seen.engine.pid.filter(|pid| seen.view.answers == Some(*pid));
        let Some(pid) = pid.filter(|_| self.settings.engine.kind == EngineKind::NatsServer) else {
            return Ok(None);
        };
        let behind = BehindFile::new(&self.settings);
        let mut last = self.last();
        if let Some(loaded) = last.loaded.text(pid) {
            let due = routes::is_due(loaded, &planned.text, all_stand(seen));
            if !due && loaded != planned.text {
                // For an agent that comes after this one.
                behind.note(pid, &planned.text)?;
            }
            return Ok(due.then_some(pid));
        }
        if all_stand(seen) && behind.is_noted(pid, &planned.text) {
            return Ok(None);
        }
        // Only until it is known once: clocks are set, and then they tell nothing.
        let since = seen.view.loaded.zip(planned.written_at());
        let later = since.is_some_and(|(loaded, written)| loaded >= written + FILE_CLOCK);
        if later {
            last.loaded.note(pid, planned.text.clone());
        }
        Ok((!later).then_some(pid))
    }

    /// Has the server `pid` taken its configuration over, as far as it ever will?
    fn has_read(&self, seen: &Seen) -> bool {
        seen.engine.pid.is_some() && seen.view.answers == seen.engine.pid
    }

    /// Lets the running server read what is planned, or, where that would close routes that stand, all of it but those.
    async fn tell(&self, pid: u32, planned: &Planned, seen: &Seen) -> Result<(), Fault> {
        let text = match self.last().loaded.text(pid) {
            Some(loaded) => routes::passing(loaded, &planned.text, all_stand(seen)),
            None => planned.text.clone(),
        };
        let (passing, lasting) = (Planned { text: text.clone(), ..planned.clone() }, planned.clone());
        off_thread(move || passing.write()).await?;
        self.last().reloaded = Some(Instant::now());
        let told = reload(pid, &self.settings.state_dir.join("log/engine.log")).await;
        off_thread(move || lasting.write()).await?;
        told?;
        // Those that were seen before: of one that came meanwhile nobody knows.
        self.last().heard = Some((pid, seen.view.unheard.clone()));
        self.last().loaded.note(pid, text);
        Ok(())
    }

    /// The running server, where it is deaf. nats-server 2.9, once reloaded, takes no note of what the system
    /// account of servers that connect later can be asked, until it is reloaded again: JetStream's API goes silent
    /// (measured with 2.9.10; not with 2.15.1). So it is reloaded for routes that came since; and whatever its
    /// version, where it follows a meta leader that its clients cannot ask.
    fn deaf(&self, seen: &Seen) -> Option<u32> {
        let pid = seen.engine.pid.filter(|pid| seen.view.answers == Some(*pid))?;
        if self.settings.engine.kind != EngineKind::NatsServer {
            return None;
        }
        let last = self.last();
        let heard = last.heard.as_ref().filter(|(process, _)| *process == pid).map(|(_, routes)| routes);
        let unheard = match heard {
            Some(routes) => !seen.view.unheard.is_subset(routes),
            // By an earlier life of this agent it may have been reloaded.
            None => !seen.view.unheard.is_empty(),
        };
        let lately = last.reloaded.is_some_and(|at| at.elapsed() < RELOAD_PAUSE);
        (unheard || (seen.deaf_looks >= DEAF_LOOKS && !lately)).then_some(pid)
    }

    async fn turn(
        &self,
        seen: &Seen,
        change: impl Fn(&Secrets) -> Option<Secrets> + Send + 'static,
    ) -> Result<bool, Fault> {
        let Some(dir) = &seen.dir else {
            return Err(Fault::new(Reason::WaitsForFounder, "the share's directory went away"));
        };
        self.keeper.update(dir, move |secrets| Ok(change(secrets))).await
    }

    async fn make_so(self, seen: Seen) -> Result<String, Fault> {
        let (step, known) = (self.clone(), seen.clone());
        let run = match off_thread(move || {
            wanted(&step.settings, step.has_witness, &known, step.is_renewed(&known))
        })
        .await?
        {
            Wanted::Stop(reason) => {
                let done = format!("the engine is to stop: {reason}");
                self.stop(reason);
                return Ok(done);
            }
            Wanted::Retire(reason) => {
                if let Some(pid) = seen.engine.pid
                    && self.settings.engine.kind == EngineKind::NatsServer
                {
                    lame_duck::retire(pid).await;
                }
                let done = format!("the engine has let its clients go, and stops: {reason}");
                self.stop(reason);
                return Ok(done);
            }
            Wanted::Hold(fault) => {
                self.stop(fault.message.clone());
                return Err(fault);
            }
            Wanted::Turn(before) => {
                let node = self.settings.node.clone();
                let took =
                    self.turn(&seen, move |secrets| secrets.take_turn(&node, before.as_deref())).await?;
                let who = if took { "this node's" } else { "another's" };
                return Ok(format!("it is {who} turn to join the group"));
            }
            Wanted::Run(run) => run,
        };
        let ends_turn = run.ends_turn;
        let done = self.run_by(run, &seen).await;
        if ends_turn {
            // Last: a share that cannot be written must not keep the engine from its peers.
            let node = self.settings.node.clone();
            self.turn(&seen, move |secrets| secrets.end_turn(&node)).await?;
        }
        done
    }

    /// Brings the engine to run by this plan, tested, written and read.
    async fn run_by(&self, run: Run, seen: &Seen) -> Result<String, Fault> {
        let step = self.clone();
        let (run, draft) = off_thread(move || step.prepare(run)).await?;
        let planned = run.planned;
        if self.settings.engine.kind == EngineKind::NatsServer {
            nats_server::check_config(&planned.command.program, draft.path()).await?;
        }
        let written = planned.clone();
        off_thread(move || {
            drop(draft);
            written.write()
        })
        .await?;
        if seen.engine.pid.is_none() {
            // So that its start is certainly later than the file, and it need not be told to read that again.
            tokio::time::sleep(FILE_CLOCK.unsigned_abs()).await;
        }
        if let Some(pid) = self.restarts(seen) {
            // What is started in its place is what is wanted now.
            self.run(&planned);
            return self.restart(seen, pid).await;
        }
        let (step, known, plan) = (self.clone(), seen.clone(), planned.clone());
        let unread = off_thread(move || {
            let pid = step.unread(&known, &plan)?.or_else(|| step.deaf(&known));
            Ok(match pid {
                Some(pid) if step.started(&plan).fits(pid)? => Some(pid),
                _ => None,
            })
        });
        let unread = unread.await?;
        let done = format!("the engine is to run by {}", planned.file.display());
        self.run(&planned);
        let Some(pid) = unread else { return Ok(done) };
        self.tell(pid, &planned, seen).await?;
        Ok(format!("the engine (pid {pid}) has read its configuration"))
    }
}

impl EngineStep {
    /// Notes what is to be noted before a run, and writes a draft of the configuration.
    fn prepare(&self, run: Run) -> Result<(Run, Draft), Fault> {
        if let Some((founding, phase)) = &run.note {
            MarkerFile::new(&self.settings.state_dir).write(founding, *phase)?;
        }
        if let Some(limits) = run.limits {
            limits.freeze(&self.settings.state_dir)?;
        }
        let draft = run.planned.write_draft()?;
        Ok((run, draft))
    }
}

impl EngineStep {
    /// The engine's process, where a person wants it restarted.
    fn restarts(&self, seen: &Seen) -> Option<u32> {
        let restart = RestartFile::new(&self.settings).read()?;
        seen.engine.pid.filter(|pid| *pid == restart.engine)
    }

    /// What is missing of a restart; a restart that is done is forgotten.
    fn restart_due(&self, seen: &Seen) -> Result<Option<Fault>, Fault> {
        let file = RestartFile::new(&self.settings);
        let Some(restart) = file.read() else { return Ok(None) };
        if self.restarts(seen).is_some() {
            return Ok(Some(Fault::new(Reason::EngineStarting, "the engine is to be restarted")));
        }
        let witness_is_new = restart.witness.is_none() || restart.witness != seen.witness.pid;
        if seen.engine.pid.is_some() && witness_is_new {
            file.remove()?;
        }
        Ok(None)
    }

    async fn restart(&self, seen: &Seen, pid: u32) -> Result<String, Fault> {
        RestartFile::new(&self.settings).write(&Restart { engine: pid, witness: seen.witness.pid })?;
        let gone = self.settings.engine.kind == EngineKind::NatsServer && lame_duck::retire(pid).await;
        if !gone {
            lame_duck::end(pid);
        }
        Ok(format!("the engine (pid {pid}) makes way for the next"))
    }
}

fn restart_needed(pid: u32) -> Fault {
    let message = format!(
        "the engine (pid {pid}) was started with other values of node_id, listen or engine than agent.yaml has now"
    );
    Fault::new(Reason::EngineRestartNeeded, message)
}

impl Step for EngineStep {
    fn look(&self, seen: Seen) -> BoxFuture<'static, Looked> {
        let step = self.clone();
        off_thread(move || {
            let look = step.compare(&seen);
            let done = matches!(look, Ok(Look::Stands(_))) && step.has_read(&seen);
            Ok((look, done.then(|| seen.progress()).flatten()))
        })
        .map(|looked| match looked {
            Ok((look, carried)) => Looked::with(look, vec![Fact::Carried(ChildName::Engine, carried)]),
            Err(fault) => Err(fault).into(),
        })
        .boxed()
    }

    fn act(&self, seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        self.clone().make_so(seen).boxed()
    }
}

/// Has the engine a route to every node that it could have one to?
fn all_stand(seen: &Seen) -> bool {
    seen.routeless_looks < ROUTELESS_LOOKS
}
