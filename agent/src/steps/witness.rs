//! Step `witness`: the forest's second vote runs where and as long as it is needed, and goes by the rules.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Client;
use forest_core::reason::Reason;
use forest_core::secrets::{Duty, Record};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;

use super::binaries::BinariesStep;
use super::disk::off_thread;
use super::secrets::SecretsKeeper;
use crate::child::Want;
use crate::cluster::companion::{Companion, Destination};
use crate::cluster::machine::{WitnessPlan, spares, staying};
use crate::cluster::routes;
use crate::cluster::situation::Situation;
use crate::cluster::strays;
use crate::cluster::sys::{self, SysLink};
use crate::cluster::view::SysAt;
use crate::cluster::witness::{self, note::NoteFile};
use crate::driver::{ChildName, Fact, Look, Looked, Seen, Step, Wants};
use crate::engine::monitor::Unanswered;
use crate::engine::planned::Planned;
use crate::engine::restart::RestartFile;
use crate::engine::{lame_duck, nats_server};
use crate::fault::Fault;
use crate::settings::{EngineKind, Settings};

/// How long the meta leader may take to do as it is told.
const ORDER: Duration = Duration::from_secs(5);
/// While the next leader is being voted for nobody answers; who leads then is seen at the next look.
const GIVES_UP: Duration = Duration::from_secs(1);

/// The step. What it wants goes to the driver, which tells the witness's supervisor.
#[derive(Clone)]
pub struct WitnessStep {
    settings: Arc<Settings>,
    binary: Result<PathBuf, Fault>,
    /// Brings the executable, where it is to be fetched.
    fetches: Option<BinariesStep>,
    keeper: SecretsKeeper,
    wants: Wants,
    companion: Companion,
    last: Arc<Mutex<Option<Want>>>,
    link: Arc<AsyncMutex<SysLink>>,
}

impl WitnessStep {
    /// The step for this node; `binary` as [`witness::binary`] found it.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        binary: Result<PathBuf, Fault>,
        keeper: SecretsKeeper,
        wants: Wants,
    ) -> Self {
        let (last, link) = (Arc::default(), Arc::default());
        let download = settings.witness.download.clone();
        let path = binary.as_ref().ok().filter(|_| download.is_some());
        let fetches = path.map(|path| BinariesStep::of(&settings, path.clone(), download));
        let companion = Companion::new(Arc::clone(&settings), binary.clone(), wants.clone());
        Self { settings, binary, fetches, keeper, wants, companion, last, link }
    }

    fn last(&self) -> Option<Want> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn want(&self, want: Want) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(want.clone());
        // Nobody listens only while the agent ends.
        let _ = self.wants.send((ChildName::Witness, want));
    }

    fn planned(&self, situation: &Situation, seen: &Seen, duty: &Duty) -> Result<Planned, Fault> {
        let (Some(record), Some(address)) = (&situation.record, seen.address) else {
            return Err(Fault::new(Reason::SecretsMissing, "the forest's secrets or the address went away"));
        };
        let binary = self.binary.clone()?;
        let plan =
            witness::Plan { settings: &self.settings, binary: &binary, name: &duty.name, record, address };
        match self.settings.engine.kind {
            EngineKind::NatsServer => Ok(plan.beside_nats_server(&situation.routes)),
            EngineKind::Nimsforest if seen.view.cluster.is_empty() => Err(Fault::new(
                Reason::WitnessDown,
                "the witness waits for the engine, whose cluster it joins",
            )),
            EngineKind::Nimsforest => Ok(plan.beside_nimsforest(&seen.view.cluster, &situation.routes)),
        }
    }

    /// What is wrong with the executable, where fetching it puts that right. Blocks while a changed file is hashed.
    fn to_be_fetched(&self, seen: &Seen) -> Result<Option<Fault>, Fault> {
        let Some(fetches) = &self.fetches else {
            return Ok(None);
        };
        match fetches.compare(seen).0 {
            Ok(Look::Stands(_)) => Ok(None),
            Ok(Look::Differs(fault)) => Ok(Some(of_witness(fault))),
            Err(fault) => Err(of_witness(fault)),
        }
    }

    async fn fetch(&self, seen: &Seen) -> Result<(), Fault> {
        let (step, known) = (self.clone(), seen.clone());
        let due = off_thread(move || step.to_be_fetched(&known)).await?;
        let (Some(_), Some(fetches)) = (due, &self.fetches) else {
            return Ok(());
        };
        let fetched = fetches.act(seen.clone()).await.map_err(of_witness)?;
        tracing::info!("{fetched}, for the witness");
        Ok(())
    }

    fn compare(&self, seen: &Seen) -> Result<Look, Fault> {
        let stands = |text: String| Ok(Look::Stands(text));
        let differs = |message: String| Ok(Look::Differs(Fault::new(Reason::WitnessDown, message)));
        if seen.removed.is_some() {
            return self.compare_absent(seen, "the node was taken out on purpose");
        }
        let situation = Situation::of(&self.settings, seen)?;
        match &situation.plan.witness {
            WitnessPlan::Leave => stands("whose the witness is was not read in this life".to_owned()),
            WitnessPlan::Wait(wait) => Err(wait.fault()),
            WitnessPlan::Absent => self.compare_absent(seen, "no witness is needed here"),
            WitnessPlan::Run(duty) => {
                if let Some(due) = self.to_be_fetched(seen)? {
                    return Ok(Look::Differs(due));
                }
                let planned = self.planned(&situation, seen, duty)?;
                if self.is_anothers(seen, duty) {
                    return differs(format!("a witness of another name makes way for {}", duty.name));
                }
                let asked = self.last() == Some(Want::Run(planned.command.clone()));
                let of_others = NoteFile::new(&self.settings).is_of_others(&credentials(&situation)?);
                if !planned.is_written() || !asked || of_others {
                    return differs(format!("the witness {} is not as it should be yet", duty.name));
                }
                if self.restarts(seen).is_some() {
                    return differs(format!("the witness {} is to be restarted", duty.name));
                }
                match stray(seen, &duty.name) {
                    Some(fault) => Ok(Look::Differs(fault)),
                    None => stands(format!("the witness {} is wanted", duty.name)),
                }
            }
            WitnessPlan::RemoveGhost(name) => {
                differs(format!("the witness {name} of before is still counted"))
            }
            WitnessPlan::Take => differs("the forest is small again and has no witness".to_owned()),
            WitnessPlan::Retire(duty)
            | WitnessPlan::StepDown(duty)
            | WitnessPlan::Remove(duty)
            | WitnessPlan::Stop(duty)
            | WitnessPlan::Discharge(duty) => differs(format!("the witness {} is needed no more", duty.name)),
        }
    }

    fn compare_absent(&self, seen: &Seen, why: &str) -> Result<Look, Fault> {
        let gone = matches!(self.last(), Some(Want::Stop { .. })) && seen.witness.stopped;
        let cleared = seen.removed.is_some() || !witness::is_stored(&self.settings);
        Ok(if gone && cleared {
            Look::Stands(why.to_owned())
        } else {
            Look::Differs(Fault::new(
                Reason::WitnessDown,
                "a witness that is not needed here is not cleared away yet",
            ))
        })
    }

    async fn make_so(self, seen: Seen) -> Result<String, Fault> {
        if seen.removed.is_some() {
            return Ok(self.stop("the node was taken out on purpose"));
        }
        let (settings, known) = (Arc::clone(&self.settings), seen.clone());
        let situation = off_thread(move || Situation::of(&settings, &known)).await?;
        match &situation.plan.witness {
            WitnessPlan::Leave => Ok("nothing to do".to_owned()),
            WitnessPlan::Wait(wait) => Err(wait.fault()),
            WitnessPlan::Run(duty) => self.run(&situation, &seen, duty).await,
            WitnessPlan::Absent => {
                let done = self.stop("no witness is needed here");
                if seen.witness.stopped {
                    self.delete_stores().await?;
                }
                Ok(done)
            }
            WitnessPlan::Take => {
                let node = self.settings.node.clone();
                self.record(&seen, move |secrets| secrets.take_witness(&node)).await?;
                Ok("this node keeps the witness now".to_owned())
            }
            WitnessPlan::RemoveGhost(name) => self.order(&situation, &seen, Order::Remove, name).await,
            WitnessPlan::Retire(duty) => {
                let name = duty.name.clone();
                self.record(&seen, move |secrets| secrets.retire_witness(&name)).await?;
                Ok(format!("the witness {} is to go", duty.name))
            }
            WitnessPlan::StepDown(duty) => self.order(&situation, &seen, Order::StepDown, &duty.name).await,
            // A stream that lies there alone would be lost with it.
            WitnessPlan::Remove(duty) if !seen.view.strays.is_empty() => {
                self.clear_strays(&seen, &duty.name).await
            }
            WitnessPlan::Remove(duty) => self.order(&situation, &seen, Order::Remove, &duty.name).await,
            WitnessPlan::Stop(duty) => Ok(self.stop(&format!("{} is out of the group", duty.name))),
            WitnessPlan::Discharge(duty) if seen.witness.stopped => {
                // First the record: a name whose store is gone must never be started again. The store goes then,
                // as that of any witness that has no place here.
                let name = duty.name.clone();
                self.record(&seen, move |secrets| {
                    secrets.discharge_witness(&name).or_else(|| secrets.discharge_left_witness(&name))
                })
                .await?;
                Ok(format!("the witness {} is discharged", duty.name))
            }
            WitnessPlan::Discharge(duty) => Ok(self.stop(&format!("{} is out of the group", duty.name))),
        }
    }

    /// Where all stands: has the witness here taken over its credentials, or is there certainly none?
    fn has_read(&self, seen: &Seen) -> bool {
        match Situation::of(&self.settings, seen).map(|situation| situation.plan.witness) {
            Ok(WitnessPlan::Run(_)) => seen.witness.pid.is_some(),
            Ok(WitnessPlan::Absent) => true,
            _ => false,
        }
    }

    async fn delete_stores(&self) -> Result<(), Fault> {
        let settings = Arc::clone(&self.settings);
        off_thread(move || witness::delete_stores(&settings)).await
    }

    fn stop(&self, reason: &str) -> String {
        self.want(Want::Stop { reason: reason.to_owned() });
        format!("the witness is to stop: {reason}")
    }

    /// What runs cannot be this one: the store of a witness is made before its first start.
    fn is_anothers(&self, seen: &Seen, duty: &Duty) -> bool {
        seen.witness.active && !witness::store_dir(&self.settings, &duty.name).exists()
    }

    async fn run(&self, situation: &Situation, seen: &Seen, duty: &Duty) -> Result<String, Fault> {
        let (step, known, name) = (self.clone(), seen.clone(), duty.clone());
        if off_thread(move || Ok(step.is_anothers(&known, &name))).await? {
            return Ok(self.stop(&format!("it makes way for {}", duty.name)));
        }
        self.fetch(seen).await?;
        let planned = self.planned(situation, seen, duty)?;
        let (settings, name, written) = (Arc::clone(&self.settings), duty.name.clone(), planned.clone());
        let (digest, running) = (credentials(situation)?, seen.witness);
        off_thread(move || {
            let note = NoteFile::new(&settings);
            if running.active && running.pid.is_none() && note.is_of_others(&digest) {
                // Nobody could tell by which credentials it starts.
                return Err(Fault::new(
                    Reason::WitnessDown,
                    "the witness starts, and then gets its new credentials",
                ));
            }
            witness::make_store(&settings, &name)?;
            written.write()?;
            note.note(&digest, running.pid)
        })
        .await?;
        nats_server::check_config(&planned.command.program, &planned.file).await?;
        // A running one is not told: it finds the others by the engine beside it, and reads this at its next start.
        self.want(Want::Run(planned.command));
        if let Some(pid) = self.restarts(seen) {
            lame_duck::end(pid);
            return Ok(format!("the witness {} (pid {pid}) makes way for the next", duty.name));
        }
        match seen.view.strays.is_empty() {
            true => Ok(format!("the witness {} is to run", duty.name)),
            false => self.clear_strays(seen, &duty.name).await,
        }
    }

    /// The witness's process, where it was started by credentials of before; or where a person wants the servers here
    /// restarted and the engine is new and well: it makes the quorum meanwhile.
    fn restarts(&self, seen: &Seen) -> Option<u32> {
        let stale = NoteFile::new(&self.settings).stale();
        if stale.is_some() && stale == seen.witness.pid {
            return stale;
        }
        let restart = RestartFile::new(&self.settings).read()?;
        let leads = seen.view.own_leader.is_some() && seen.view.answers == seen.engine.pid;
        let engine_is_new = seen.engine.pid.is_some_and(|pid| pid != restart.engine) && leads;
        seen.witness.pid.filter(|pid| engine_is_new && restart.witness == Some(*pid))
    }

    /// Brings streams off the witness `name`.
    async fn clear_strays(&self, seen: &Seen, name: &str) -> Result<String, Fault> {
        let Some(port) = seen.client_port else {
            return Err(Fault::new(Reason::StreamOnWitness, "the engine's client port is not known yet"));
        };
        let members = seen.view.group.iter().flat_map(|group| &group.members);
        let nodes = members.filter(|member| member.current && member.name != name).count().max(1);
        let at = SocketAddr::new(self.settings.listen.monitor.ip(), port);
        let mut done = Vec::new();
        for stray in &seen.view.strays {
            done.push(strays::clear(at, stray, name, nodes).await?);
        }
        Ok(done.join("; "))
    }

    async fn record(
        &self,
        seen: &Seen,
        change: impl Fn(&forest_core::secrets::Secrets) -> Option<forest_core::secrets::Secrets> + Send + 'static,
    ) -> Result<(), Fault> {
        let Some(dir) = &seen.dir else {
            return Err(Fault::new(Reason::WitnessDown, "the share's directory went away"));
        };
        self.keeper.update(dir, move |secrets| Ok(change(secrets))).await.map(drop)
    }

    async fn order(
        &self,
        situation: &Situation,
        seen: &Seen,
        order: Order,
        name: &str,
    ) -> Result<String, Fault> {
        let failed = |err: Unanswered| Fault::new(Reason::WitnessDown, err.to_string());
        let Some(record) = situation.record.clone() else {
            return Err(Fault::new(Reason::SecretsMissing, "the forest's secrets went away"));
        };
        let asked = (situation.nodes.clone(), record);
        let give = |client: Client| order.give(client, name.to_owned(), asked.clone()).boxed();
        let by = if let Some(SysAt { at, sys, .. }) = SysAt::of(&self.settings, seen) {
            let mut link = self.link.lock().await;
            let client = link.client(at, &sys, ORDER).await.map_err(failed)?;
            give(client).await.map_err(failed)?;
            ""
        } else {
            let destination = self.destination(situation, seen)?;
            self.fetch(seen).await?;
            self.companion.carry(destination, give).await?;
            ", by a companion"
        };
        Ok(match order {
            Order::StepDown => format!("the witness {name} gives up leading the meta group{by}"),
            Order::Remove => format!("the witness {name} is taken out of the meta group{by}"),
        })
    }

    /// Where a companion has to go. Only NimsForest's clusters need one.
    fn destination<'a>(&self, situation: &'a Situation, seen: &'a Seen) -> Result<Destination<'a>, Fault> {
        let cluster = seen.view.cluster.as_str();
        match (&situation.record, seen.address) {
            (Some(record), Some(address))
                if self.settings.engine.kind == EngineKind::Nimsforest && !cluster.is_empty() =>
            {
                Ok(Destination { cluster, routes: &situation.routes, address, record })
            }
            _ => Err(Fault::new(Reason::SecretsMissing, "no server here takes orders")),
        }
    }
}

/// What tells the witness's credentials from those of before.
fn credentials(situation: &Situation) -> Result<String, Fault> {
    let record = situation.record.as_ref();
    let force = record
        .map(Record::in_force)
        .ok_or_else(|| Fault::new(Reason::SecretsMissing, "the forest's secrets went away"))?;
    Ok(routes::digest(force.accept, force.sys))
}

/// What is wrong where a stream has a replica on the witness `name`.
fn stray(seen: &Seen, name: &str) -> Option<Fault> {
    let names: Vec<_> = seen.view.strays.iter().map(|stray| stray.stream.as_str()).collect();
    (!names.is_empty()).then(|| {
        let message = format!("on the witness {name}, which is no place for data: {}", names.join(", "));
        Fault::new(Reason::StreamOnWitness, message)
    })
}

/// What is said of an executable, said of the witness's.
fn of_witness(fault: Fault) -> Fault {
    match fault.reason {
        Reason::EngineMissing | Reason::EngineNotExecutable => Fault { reason: Reason::NoWitness, ..fault },
        Reason::DownloadFailed => {
            fault.advise("check witness.download.url, and that this machine reaches it")
        }
        Reason::DownloadSha256 => {
            fault.advise("check witness.download: url and sha256 do not belong together")
        }
        _ => fault,
    }
}

#[derive(Debug, Clone, Copy)]
enum Order {
    StepDown,
    Remove,
}

impl Order {
    /// Gives it, about the server `name`. What was seen may be a poll interval old: nobody is taken out that leads
    /// by now, or that one of the real `nodes` cannot be without.
    async fn give(
        self,
        client: Client,
        name: String,
        (nodes, record): (BTreeSet<String>, Record),
    ) -> Result<(), Unanswered> {
        let refused = |why: &str| Unanswered { what: format!("taking {name} out"), why: why.to_owned() };
        match self {
            // Only while it leads still: the next leader is not to give up as well.
            Self::StepDown => match sys::group(&client, GIVES_UP).await? {
                Some(group) if group.leader == name => {
                    timeout(GIVES_UP, sys::step_down(&client, ORDER)).await.unwrap_or(Ok(()))
                }
                _ => Ok(()),
            },
            Self::Remove => match sys::group(&client, ORDER).await?.map(|group| group.named(&nodes)) {
                None => Err(refused("no meta leader answers")),
                Some(group) if group.leader == name => Err(refused("it leads the group by now")),
                Some(group) if !spares(&staying(&nodes, &record), &record, &group, &name) => {
                    Err(refused("not all nodes are current"))
                }
                Some(_) => sys::remove(&client, &name, ORDER).await,
            },
        }
    }
}

impl Step for WitnessStep {
    fn look(&self, seen: Seen) -> BoxFuture<'static, Looked> {
        let step = self.clone();
        if let (Some(at), Ok(mut link)) = (SysAt::of(&self.settings, &seen), self.link.try_lock()) {
            link.forget_others(&at.sys);
        }
        off_thread(move || {
            let look = step.compare(&seen);
            let done = matches!(look, Ok(Look::Stands(_))) && step.has_read(&seen);
            Ok((look, done.then(|| seen.progress()).flatten()))
        })
        .map(|looked| match looked {
            Ok((look, carried)) => Looked::with(look, vec![Fact::Carried(ChildName::Witness, carried)]),
            Err(fault) => Err(fault).into(),
        })
        .boxed()
    }

    fn act(&self, seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        self.clone().make_so(seen).boxed()
    }
}
