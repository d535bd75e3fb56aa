//! Step `leave`: who is to leave the forest goes on leaving, and who stays takes out the one that has left.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use forest_core::id::NodeId;
use forest_core::reason::Reason;
use forest_core::registry;
use forest_core::secrets::{Record, Secrets, Stage};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::disk::off_thread;
use super::registry::Registrar;
use super::secrets::SecretsKeeper;
use crate::cluster::leave::intent::{Intent, IntentFile, State};
use crate::cluster::leave::machine::{Inputs, Next, Refusal, Wait, next};
use crate::cluster::leave::mover::{Moved, Mover};
use crate::cluster::machine::staying;
use crate::cluster::marker::MarkerFile;
use crate::cluster::situation::{is_fresh, members};
use crate::cluster::store;
use crate::cluster::sys::{self, SysLink};
use crate::cluster::view::SysAt;
use crate::driver::{Look, Looked, Seen, Step};
use crate::engine::monitor::Unanswered;
use crate::fault::Fault;
use crate::settings::Settings;
use crate::share::ShareDir;

/// How long the meta leader may take to do as it is told.
const ORDER: Duration = Duration::from_secs(5);

/// Votes that are missing for so long are missing: an agent that has just begun has not asked yet, and a group may be
/// electing.
const PATIENCE: Duration = Duration::from_secs(20);

/// The step.
#[derive(Clone)]
pub struct LeaveStep {
    settings: Arc<Settings>,
    registrar: Registrar,
    keeper: SecretsKeeper,
    file: IntentFile,
    link: Arc<Mutex<SysLink>>,
    mover: Arc<Mutex<Mover>>,
    /// Since when those who stay would be too few.
    too_few: Arc<std::sync::Mutex<Option<Instant>>>,
}

/// What is to be done here.
enum Due {
    Nothing(&'static str),
    /// The node was taken out, which is what it wanted: its store makes way, and that is noted.
    Settle(Box<Intent>),
    /// The same, once its engine has ended.
    SettleLater,
    /// By the record.
    Go(Box<Go>),
}

/// What is next, and what that rests on.
struct Go {
    next: Next,
    intent: Option<Intent>,
    record: Record,
}

impl LeaveStep {
    /// The step for this node.
    #[must_use]
    pub fn new(settings: Arc<Settings>, registrar: Registrar, keeper: SecretsKeeper) -> Self {
        let file = IntentFile::new(&settings);
        let (link, mover, too_few) = (Arc::default(), Arc::default(), Arc::default());
        Self { settings, registrar, keeper, file, link, mover, too_few }
    }

    fn due(&self, seen: &Seen) -> Due {
        let intent = self.file.read().filter(|intent| intent.state == State::Wanted);
        if seen.removed.is_some() {
            return match intent {
                Some(intent) if seen.engine.pid.is_none() && seen.engine.stopped => {
                    Due::Settle(Box::new(intent))
                }
                Some(_) => Due::SettleLater,
                None => Due::Nothing("the node is out of the forest"),
            };
        }
        let record = seen.secrets.as_ref().and_then(|read| read.secrets.record().cloned());
        let (Some(record), Some(read)) = (record, &seen.registry) else {
            return Due::Nothing("no forest is known to leave");
        };
        let entries = members(&read.registry, &self.settings);
        let nodes: BTreeSet<String> = entries.into_iter().map(|entry| entry.id).collect();
        let listed = record.leaving.as_ref().is_some_and(|leaving| {
            let id = leaving.node.parse::<NodeId>();
            let stands =
                read.registry.entries(&self.settings.forest).iter().any(|entry| entry.id == leaving.node);
            stands || id.is_ok_and(|id| read.registry.tombstone(&self.settings.forest, &id).is_none())
        });
        let inputs = Inputs {
            me: self.settings.node.as_str(),
            nodes: &nodes,
            record: &record,
            fresh: is_fresh(&self.settings, seen),
            wanted: intent.as_ref().map(|intent| intent.force),
            group: seen.view.group.as_ref(),
            engine_runs: seen.engine.active,
            listed,
        };
        let next = self.patiently(next(&inputs));
        Due::Go(Box::new(Go { next, intent, record }))
    }

    fn patiently(&self, next: Next) -> Next {
        let mut since = self.too_few.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(next, Next::Refuse(Refusal::Quorum { .. })) {
            *since = None;
            return next;
        }
        let begun = *since.get_or_insert_with(Instant::now);
        if begun.elapsed() < PATIENCE { Next::Wait(Wait::Votes) } else { next }
    }

    fn compare(&self, seen: &Seen) -> Result<Look, Fault> {
        let (next, record) = match self.due(seen) {
            Due::Nothing(why) => return Ok(Look::Stands(why.to_owned())),
            Due::Settle(_) => {
                return Ok(Look::Differs(leaving("the node is out of the forest; its store makes way")));
            }
            Due::SettleLater => return Err(leaving("the node is out of the forest, and its engine ends")),
            Due::Go(go) => (go.next, go.record),
        };
        let node =
            record.leaving.as_ref().map_or(self.settings.node.as_str(), |leaving| leaving.node.as_str());
        match next {
            Next::Nothing => Ok(Look::Stands(match &record.leaving {
                Some(leaving) => format!("{} leaves the forest", leaving.node),
                None => "nobody leaves the forest".to_owned(),
            })),
            Next::Wait(wait) => Err(leaving(waits(&wait))),
            Next::Refuse(_) => Ok(Look::Differs(leaving("the node is to leave, and cannot"))),
            Next::Begin => Ok(Look::Differs(leaving("the node is to leave the forest"))),
            Next::Move => Ok(Look::Differs(leaving("what lies on this node alone is moved to others"))),
            Next::NoteStopped => Ok(Look::Differs(leaving("the engine has ended"))),
            Next::RemovePeer(name) => {
                Ok(Look::Differs(leaving(format!("{name} is to go out of the meta group"))))
            }
            Next::Bury(_) => {
                Ok(Look::Differs(leaving(format!("the entry of {node} makes way for a tombstone"))))
            }
            Next::Clear(_) => Ok(Look::Differs(leaving(format!("{node} has left")))),
        }
    }

    async fn make_so(self, seen: Seen) -> Result<String, Fault> {
        let (step, known) = (self.clone(), seen.clone());
        let due = off_thread(move || Ok(step.due(&known))).await?;
        let (next, intent, record) = match due {
            Due::Nothing(why) => return Ok(why.to_owned()),
            Due::SettleLater => return Ok("the engine ends".to_owned()),
            Due::Settle(intent) => return off_thread(move || self.settle(*intent)).await,
            Due::Go(go) => (go.next, go.intent, go.record),
        };
        let node = self.settings.node.clone();
        match next {
            Next::Nothing => Ok("nothing to do".to_owned()),
            Next::Wait(wait) => Err(leaving(waits(&wait))),
            Next::Refuse(refusal) => self.refuse(&seen, intent, &record, &refusal).await,
            Next::Begin => {
                self.change(&seen, move |secrets| secrets.begin_leaving(&node, Timestamp::now())).await?;
                Ok("it is recorded that this node leaves".to_owned())
            }
            Next::Move => self.empty(&seen, intent, &record).await,
            Next::NoteStopped => {
                self.change(&seen, move |secrets| secrets.advance_leaving(&node, Stage::Stopped)).await?;
                Ok("it is recorded that this node's engine has ended".to_owned())
            }
            Next::RemovePeer(name) => {
                let SysAt { at, sys, .. } = SysAt::of(&self.settings, &seen)
                    .ok_or_else(|| Fault::new(Reason::SecretsMissing, "no server here takes orders"))?;
                let failed = |err: Unanswered| Fault::new(Reason::Leaving, err.to_string());
                let client = self.link.lock().await.client(at, &sys, ORDER).await.map_err(failed)?;
                sys::remove(&client, &name, ORDER).await.map_err(failed)?;
                Ok(format!("{name} is taken out of the meta group"))
            }
            Next::Bury(gone) => {
                let (forest, id) = (self.settings.forest.clone(), node_id(&gone)?);
                let take_out =
                    move |registry: &_| registry::take_out(registry, &forest, &id, Timestamp::now());
                self.registrar.change(dir(&seen)?, take_out).await?;
                Ok(format!("{gone} is out of the registry"))
            }
            Next::Clear(gone) => {
                let id = node_id(&gone)?;
                self.change(&seen, move |secrets| secrets.left(&id, &node)).await?;
                Ok(format!("{gone} has left the forest"))
            }
        }
    }

    async fn change(
        &self,
        seen: &Seen,
        change: impl Fn(&Secrets) -> Option<Secrets> + Send + 'static,
    ) -> Result<(), Fault> {
        self.keeper.update(dir(seen)?, move |secrets| Ok(change(secrets))).await.map(drop)
    }

    async fn refuse(
        &self,
        seen: &Seen,
        intent: Option<Intent>,
        record: &Record,
        refusal: &Refusal,
    ) -> Result<String, Fault> {
        let Some(mut intent) = intent else { return Ok("nobody asked to leave".to_owned()) };
        let (reason, mut message) = refused(refusal, self.settings.node.as_str());
        if *refusal == Refusal::LastNode {
            intent.lost = Mover::names(&self.settings, seen).await;
            if !intent.lost.is_empty() {
                message = format!("{message}, and these streams would be lost: {}", intent.lost.join(", "));
            }
        }
        (intent.state, intent.reason, intent.message) =
            (State::Refused, Some(reason.code().to_owned()), message.clone());
        if record.leaving.is_some() {
            let node = self.settings.node.clone();
            self.change(seen, move |secrets| secrets.stay(&node)).await?;
        }
        let file = self.file.clone();
        off_thread(move || file.write(&intent)).await?;
        Ok(format!("this node stays: {message}"))
    }

    /// Moves what lies here alone; when all is elsewhere, this node gives up leading, then ends its engine.
    async fn empty(&self, seen: &Seen, intent: Option<Intent>, record: &Record) -> Result<String, Fault> {
        let mut intent = intent.unwrap_or_else(|| self.file.request(false));
        let nodes =
            seen.registry.as_ref().map(|read| members(&read.registry, &self.settings)).unwrap_or_default();
        let stay = staying(&nodes.into_iter().map(|entry| entry.id).collect(), record);
        let mut mover = self.mover.lock().await;
        let node = self.settings.node.clone();
        match mover.run(&self.settings, seen, &self.file, &mut intent, &stay).await? {
            Moved::Waits(why) => Ok(why),
            Moved::Lost(lost) if !intent.force => {
                let list = lost
                    .iter()
                    .map(|(stream, why)| format!("{stream} ({why})"))
                    .collect::<Vec<_>>()
                    .join(", ");
                let message =
                    format!("these streams cannot be moved to a node that stays, and would be lost: {list}");
                self.change(seen, move |secrets| secrets.stay(&node)).await?;
                (intent.state, intent.message) = (State::Refused, message.clone());
                intent.reason = Some(Reason::LeaveStreams.code().to_owned());
                intent.lost = lost.into_iter().map(|(stream, _)| stream).collect();
                self.keep(intent).await?;
                Ok(format!("this node stays: {message}"))
            }
            Moved::Lost(lost) => {
                intent.lost = lost.into_iter().map(|(stream, _)| stream).collect();
                let message = format!("streams are lost by force: {}", intent.lost.join(", "));
                self.keep(intent).await?;
                self.change(seen, move |secrets| secrets.advance_leaving(&node, Stage::Stopping)).await?;
                Ok(message)
            }
            Moved::All
                if seen
                    .view
                    .group
                    .as_ref()
                    .is_some_and(|group| group.leader == self.settings.node.as_str()) =>
            {
                mover.step_down(&self.settings, seen).await?;
                Ok("this node gives up leading the meta group".to_owned())
            }
            Moved::All => {
                self.keep(intent).await?;
                self.change(seen, move |secrets| secrets.advance_leaving(&node, Stage::Stopping)).await?;
                Ok("nothing is left on this node that has to be kept".to_owned())
            }
        }
    }

    async fn keep(&self, intent: Intent) -> Result<(), Fault> {
        let file = self.file.clone();
        off_thread(move || file.write(&intent)).await
    }

    /// The store makes way for an empty one, should the node come back: the group knows this one no more.
    fn settle(&self, mut intent: Intent) -> Result<String, Fault> {
        let aside = store::set_aside(&self.settings.engine.data_dir, "left")?;
        MarkerFile::new(&self.settings.state_dir).remove()?;
        let place = aside.map_or(String::new(), |path| format!("; its store lies in {}", path.display()));
        intent.state = State::Left;
        intent.message = format!("{} has left forest {}{place}", self.settings.node, self.settings.forest);
        self.file.write(&intent)?;
        Ok(intent.message)
    }
}

fn dir(seen: &Seen) -> Result<&ShareDir, Fault> {
    seen.dir.as_deref().ok_or_else(|| leaving("the share's directory went away"))
}

fn node_id(text: &str) -> Result<NodeId, Fault> {
    text.parse().map_err(|err| Fault::new(Reason::Leaving, format!("{text} is no node id: {err}")))
}

fn leaving(message: impl Into<String>) -> Fault {
    Fault::new(Reason::Leaving, message)
}

fn waits(wait: &Wait) -> String {
    match wait {
        Wait::Registry => "to leave, registry and secrets have to be read".to_owned(),
        Wait::Turn(node) => format!("{node} joins or leaves first"),
        Wait::Votes => "those who stay have too few votes for now".to_owned(),
        Wait::Leader => "the meta group has no leader for now".to_owned(),
        Wait::Witness => "a node that stays is to have a witness in the group first".to_owned(),
        Wait::OwnWitness(name) => format!("the witness {name} is to be out of the group first"),
        Wait::Engine => "the engine lets its clients go and ends".to_owned(),
        Wait::Removal => {
            "a node that stays is to take this one out of the group and of the registry".to_owned()
        }
    }
}

fn refused(refusal: &Refusal, node: &str) -> (Reason, String) {
    match refusal {
        Refusal::LastNode => (Reason::LeaveLastNode, format!("{node} is the forest's only node")),
        Refusal::Quorum { alive, of, away } => {
            let away = if away.is_empty() { String::new() } else { format!("; away: {}", away.join(", ")) };
            let message =
                format!("without {node}, {alive} of {of} votes would answer, too few to go on{away}");
            (Reason::LeaveQuorum, message)
        }
    }
}

impl Step for LeaveStep {
    fn look(&self, seen: Seen) -> BoxFuture<'static, Looked> {
        let step = self.clone();
        if let Some(at) = SysAt::of(&self.settings, &seen) {
            if let Ok(mut link) = self.link.try_lock() {
                link.forget_others(&at.sys);
            }
            if let Ok(mut mover) = self.mover.try_lock() {
                mover.forget_others(&at.sys);
            }
        }
        off_thread(move || step.compare(&seen)).map(Looked::from).boxed()
    }

    fn act(&self, seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        self.clone().make_so(seen).boxed()
    }
}
