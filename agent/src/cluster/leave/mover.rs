//! Empties a node: asks for what each stream needs, until none is on the node that goes. What is moved, and how it
//! was placed before, is noted before it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use forest_core::reason::Reason;
use forest_core::secrets::Credentials;

use crate::cluster::leave::api::{Api, Listed};
use crate::cluster::leave::intent::{Intent, IntentFile, Pin};
use crate::cluster::leave::streams::{Order, Stay, Stream, order};
use crate::cluster::sys::{self, Group, SysLink};
use crate::cluster::view::SysAt;
use crate::driver::Seen;
use crate::engine::monitor::Unanswered;
use crate::fault::Fault;
use crate::settings::{EngineKind, Settings};

const CONNECT: Duration = Duration::from_secs(2);
const ORDER: Duration = Duration::from_secs(5);
/// An act goes on so long, and is then looked at again.
const ACT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(400);
/// So long a stream is to have looked as it does, and nothing to have been asked for it: an old server that is asked
/// for the next before the first is done with everywhere may leave a group without a leader (measured on 2.9.10:
/// lowered, and given up 0.4 s later), or with the one that was to go (moved, and unpinned 0.2 s after that).
const REST: Duration = Duration::from_secs(3);
/// Before the same is asked once more: a leader that steps down every few seconds lets nobody catch up.
const AGAIN: Duration = Duration::from_secs(15);
/// A stream that was refused so often, one try a pause or more apart, is not to be moved.
const TRIES: usize = 6;
/// Streams that nobody leads for so long are not waited for any more.
const LEADERLESS: Duration = Duration::from_secs(45);

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// Every stream is whole without this node.
    All,
    /// Not yet, for this reason.
    Waits(String),
    /// These cannot be moved, and why.
    Lost(Vec<(String, String)>),
}

/// Who leads a stream, who else has it, and whether that is on its way. Who is current changes with every message.
type Look = (Option<String>, BTreeSet<String>, bool);

/// What is remembered from one act to the next.
#[derive(Debug, Default)]
pub struct Mover {
    refusals: BTreeMap<String, (usize, String)>,
    asked: BTreeMap<String, (Instant, Order)>,
    looks: BTreeMap<String, (Instant, Look)>,
    leaderless_since: Option<Instant>,
    link: SysLink,
}

impl Mover {
    /// Goes on for some seconds. `stay`: the nodes that stay.
    ///
    /// # Errors
    /// The servers cannot be asked, or state_dir not be written.
    pub async fn run(
        &mut self,
        settings: &Settings,
        seen: &Seen,
        file: &IntentFile,
        intent: &mut Intent,
        stay: &BTreeSet<String>,
    ) -> Result<Moved, Fault> {
        if seen.engine.pid.is_none() {
            return Ok(if intent.force {
                Moved::All
            } else {
                Moved::Waits("the engine is to run first".to_owned())
            });
        }
        if settings.engine.kind == EngineKind::NatsServer && self.has_tags(settings, seen).await? {
            return Ok(Moved::Waits("the engine is to give up its tag first".to_owned()));
        }
        let api = Api::connect(client_at(settings, seen), CONNECT).await.map_err(|err| fault(&err))?;
        let until = Instant::now() + ACT;
        let mut settled_before = false;
        loop {
            let listed = api.list().await.map_err(|err| fault(&err))?;
            if stay.is_empty() {
                return Ok(lost_with_the_last(listed));
            }
            let group = self.group(settings, seen).await?;
            let open = self.round(&api, settings, file, intent, stay, &group, listed.streams).await?;
            self.leaderless_since = match (&listed.missing[..], self.leaderless_since) {
                ([], _) => None,
                (_, since) => since.or(Some(Instant::now())),
            };
            let lost = self.lost(&listed.missing);
            if !lost.is_empty() && (!intent.force || lost.len() >= open.len() + listed.missing.len()) {
                return Ok(Moved::Lost(lost));
            }
            // A stream that was made just before the tag went may not have been listed yet.
            if open.is_empty() && listed.missing.is_empty() {
                if settled_before {
                    return Ok(Moved::All);
                }
                settled_before = true;
            } else {
                settled_before = false;
            }
            if Instant::now() >= until {
                let names: Vec<_> = open.into_iter().chain(listed.missing).collect();
                return Ok(Moved::Waits(format!("still to be moved: {}", names.join(", "))));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One round: the streams that are not settled.
    #[expect(clippy::too_many_arguments, reason = "everything that one act knows, once")]
    async fn round(
        &mut self,
        api: &Api,
        settings: &Settings,
        file: &IntentFile,
        intent: &mut Intent,
        stay: &BTreeSet<String>,
        group: &Group,
        streams: Vec<Stream>,
    ) -> Result<Vec<String>, Fault> {
        let goes = settings.node.as_str();
        let current: Vec<String> = stay.iter().filter(|node| group.has_current(node)).cloned().collect();
        let mut open = Vec::new();
        for (index, stream) in streams.into_iter().enumerate() {
            let tries = self.refusals.get(&stream.name).map_or(0, |(tries, _)| *tries);
            let pinned = intent.pinned.contains_key(&stream.name);
            let turn = index + tries;
            let refused = tries > 0;
            let due =
                order(&stream, Stay { goes, count: stay.len(), current: &current, pinned, refused, turn });
            if due == Order::Settled {
                self.refusals.remove(&stream.name);
                continue;
            }
            open.push(stream.name.clone());
            let stands = self.stands(&stream);
            let rests = self
                .asked
                .get(&stream.name)
                .is_some_and(|(asked, last)| asked.elapsed() < if *last == due { AGAIN } else { REST });
            if due == Order::Wait || rests || !stands {
                continue;
            }
            let done = self.ask(api, goes, file, intent, &stream, &due).await?;
            // What was refused may be tried again sooner.
            let last = if done.is_ok() { due.clone() } else { Order::Wait };
            self.asked.insert(stream.name.clone(), (Instant::now(), last));
            match done {
                Ok(()) => self.refusals.remove(&stream.name),
                Err(why) => {
                    tracing::info!(stream = stream.name, ?due, why, "refused");
                    self.refusals.insert(stream.name, (tries + 1, why))
                }
            };
        }
        Ok(open)
    }

    /// Has it looked for a while as it does now?
    fn stands(&mut self, stream: &Stream) -> bool {
        let look = (
            stream.leader.clone(),
            stream.others.iter().map(|(name, _)| name.clone()).collect(),
            stream.settling,
        );
        let (since, before) = self.looks.entry(stream.name.clone()).or_insert((Instant::now(), look.clone()));
        if *before != look {
            (*since, *before) = (Instant::now(), look);
        }
        since.elapsed() >= REST
    }

    /// Asks for one thing; the inner error is the server's.
    async fn ask(
        &mut self,
        api: &Api,
        goes: &str,
        file: &IntentFile,
        intent: &mut Intent,
        stream: &Stream,
        due: &Order,
    ) -> Result<Result<(), String>, Fault> {
        if matches!(due, Order::Pin(_)) {
            // A pin that is tried again elsewhere keeps what stood there first.
            let pin = Pin { placement: stream.placement(), last_seq: stream.last_seq };
            intent.pinned.entry(stream.name.clone()).or_insert(pin);
            file.write(intent)?;
        }
        let pin = intent.pinned.get(&stream.name);
        if let (Order::Unpin, Some(pin)) = (due, pin)
            && stream.last_seq < pin.last_seq
        {
            return Ok(Err(format!(
                "the copy ends at {}, the original at {}",
                stream.last_seq, pin.last_seq
            )));
        }
        let original = pin.map(|pin| pin.placement.clone()).unwrap_or_default();
        tracing::info!(stream = stream.name, ?due, "asked");
        if let Err(err) = api.order(stream, due, goes, &original).await {
            return Ok(Err(err.why));
        }
        match due {
            Order::Unpin => {
                intent.pinned.remove(&stream.name);
                note(&mut intent.moved, &stream.name);
                file.write(intent)?;
            }
            Order::Lower(_) => {
                note(&mut intent.lowered, &stream.name);
                file.write(intent)?;
            }
            _ => {}
        }
        Ok(Ok(()))
    }

    fn lost(&self, missing: &[String]) -> Vec<(String, String)> {
        let refused = self.refusals.iter().filter(|(_, (tries, _))| *tries >= TRIES);
        let refused = refused.map(|(stream, (_, why))| (stream.clone(), why.clone()));
        let late = self.leaderless_since.is_some_and(|since| since.elapsed() >= LEADERLESS);
        let leaderless =
            missing.iter().filter(|_| late).map(|stream| (stream.clone(), "it has no leader".to_owned()));
        refused.chain(leaderless).collect()
    }

    /// As [`SysLink::forget_others`].
    pub fn forget_others(&mut self, sys: &Credentials) {
        self.link.forget_others(sys);
    }

    async fn group(&mut self, settings: &Settings, seen: &Seen) -> Result<Group, Fault> {
        let client = self.sys(settings, seen).await?;
        let group = sys::group(&client, ORDER).await.map_err(|err| fault(&err))?;
        group.ok_or_else(|| Fault::new(Reason::Leaving, "the meta group has no leader for now"))
    }

    async fn sys(&mut self, settings: &Settings, seen: &Seen) -> Result<async_nats::Client, Fault> {
        let SysAt { at, sys, .. } = SysAt::of(settings, seen)
            .ok_or_else(|| Fault::new(Reason::SecretsMissing, "no server here takes orders"))?;
        self.link.client(at, &sys, ORDER).await.map_err(|err| fault(&err))
    }

    async fn has_tags(&mut self, settings: &Settings, seen: &Seen) -> Result<bool, Fault> {
        let client = self.sys(settings, seen).await?;
        let tags = sys::tags(&client, settings.node.as_str(), ORDER).await.map_err(|err| fault(&err))?;
        Ok(!tags.is_empty())
    }

    /// Lets another server lead the meta group.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn step_down(&mut self, settings: &Settings, seen: &Seen) -> Result<(), Fault> {
        let client = self.sys(settings, seen).await?;
        sys::step_down(&client, ORDER).await.map_err(|err| fault(&err))
    }

    /// The names of all streams, as far as they can be had.
    pub async fn names(settings: &Settings, seen: &Seen) -> Vec<String> {
        let Ok(api) = Api::connect(client_at(settings, seen), CONNECT).await else { return Vec::new() };
        api.names().await.unwrap_or_default()
    }
}

fn lost_with_the_last(listed: Listed) -> Moved {
    let names = listed.streams.into_iter().map(|stream| stream.name).chain(listed.missing);
    let lost: Vec<_> = names.map(|name| (name, "this is the last node".to_owned())).collect();
    if lost.is_empty() { Moved::All } else { Moved::Lost(lost) }
}

fn note(list: &mut Vec<String>, name: &str) {
    if !list.iter().any(|known| known == name) {
        list.push(name.to_owned());
    }
}

/// Where the engine takes clients.
fn client_at(settings: &Settings, seen: &Seen) -> SocketAddr {
    match (settings.engine.kind, seen.client_port) {
        (EngineKind::Nimsforest, Some(port)) => SocketAddr::new(settings.listen.monitor.ip(), port),
        _ => settings.listen.client,
    }
}

fn fault(err: &Unanswered) -> Fault {
    Fault::new(Reason::Leaving, err.to_string())
}
