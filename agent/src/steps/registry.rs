//! Step `registry`: this node's entry stands in the registry, and the registry is one.

use std::convert::Infallible;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forest_core::address::Address;
use forest_core::reason::Reason;
use forest_core::registry::{
    self, Action, Change, Claim, ClaimError, Entry, Files, FsDoor, Limits, Outcome, Owner, Ports, Probes,
    Queue, ReadError, Registry, Snapshot, SystemClock, UpdateError, UpdateOptions, claim,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;

use super::kept::Kept;
use super::share::hung;
use crate::driver::{Fact, LastRead, Look, Looked, Seen, Step};
use crate::fault::{Fault, SUDO, chain};
use crate::health::client;
use crate::removal;
use crate::settings::Settings;
use crate::share::ShareDir;
use crate::share::lane::Lane;

/// How long a read may take; a torn one is tried again for two seconds in it.
pub(super) const READ: Duration = Duration::from_secs(5);
/// Rounds of asking the entries in the way whether they live. Others may appear between two rounds.
const PROBE_ROUNDS: usize = 4;

/// The registry as one node meets it: what it may claim there, and how to get at it. Shared by the daemon and by
/// `forest-agent register`.
#[derive(Debug, Clone)]
pub struct Registrar {
    pub(super) settings: Arc<Settings>,
    instance: Arc<str>,
    pub(super) limits: Limits,
    queue: Arc<Queue>,
    pub(super) reads: Arc<Lane>,
    pub(super) updates: Arc<Lane>,
}

/// What a claim did.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// What was done.
    pub action: Action,
    /// The entry as it stands now.
    pub entry: Value,
    /// What was put right on the way, in words.
    pub restored: Option<String>,
}

impl Registrar {
    /// For this node. `reads` is the lane of the looks, so that one thread alone ever hangs there.
    #[must_use]
    pub fn new(settings: Arc<Settings>, limits: Limits, reads: Arc<Lane>) -> Self {
        let queue = Arc::new(Queue::new(super::queue::path(&settings)));
        let instance = super::instance(&settings.state_dir).into();
        Self { settings, instance, limits, queue, reads, updates: Arc::new(Lane::new("registry-update")) }
    }

    pub(super) fn files(&self) -> Files {
        Files::of(&self.settings.registry.file_name().unwrap_or_default().to_string_lossy())
    }

    pub(super) fn door(&self, dir: &ShareDir) -> Result<FsDoor, Fault> {
        let fd = dir.as_fd().try_clone_to_owned().map_err(|err| {
            Fault::new(Reason::RegistryUnreadable, format!("failed to open {}: {err}", dir.path().display()))
        })?;
        Ok(FsDoor::new(fd, dir.path(), Some(Arc::clone(&self.queue))))
    }

    /// Reads the registry, and what lies beside it of corrupt copies.
    ///
    /// # Errors
    /// `registry_hung`, or why it cannot be read.
    pub async fn read(
        &self,
        dir: &ShareDir,
    ) -> Result<(Result<Snapshot<Registry>, ReadError>, Vec<String>), Fault> {
        let (door, files, limits) = (self.door(dir)?, self.files(), self.limits.clone());
        let what = format!("reading {}", self.settings.registry.display());
        let read = move || {
            let snapshot = registry::read::<Registry>(&door, &SystemClock, &limits, &files);
            let copies = registry::corrupt_copies(&door, &files).unwrap_or_default();
            (snapshot, copies)
        };
        self.reads.run(&what, READ, read).await.map_err(|err| hung(&err))
    }

    /// What claiming the entry would do to `registry`, once the entries in its way have been asked.
    ///
    /// # Errors
    /// `removed`, `id_conflict`, `address_conflict`.
    pub async fn plan(&self, registry: &Registry, address: Address) -> Result<(Change, Probes), Fault> {
        let mut probes = Probes::default();
        for _ in 0..PROBE_ROUNDS {
            match claim(registry, &self.claim(address, probes.clone())) {
                Err(ClaimError::NeedsProbe(entries)) => self.ask(entries, &mut probes).await,
                result => return Ok((result.map_err(|err| claim_fault(&err))?, probes)),
            }
        }
        Err(restless())
    }

    /// Puts the entry into the registry, by the whole algorithm; makes a missing registry where no share is
    /// configured.
    ///
    /// # Errors
    /// Why it could not be done; nothing is lost then.
    pub async fn register(&self, dir: &ShareDir, address: Address) -> Result<Claimed, Fault> {
        let mut probes = Probes::default();
        for _ in 0..PROBE_ROUNDS {
            match self.update(dir, self.claim(address, probes.clone())).await? {
                Ok(claimed) => return Ok(claimed),
                Err(entries) => self.ask(entries, &mut probes).await,
            }
        }
        Err(restless())
    }

    /// Puts a corrupt registry right, and claims nothing: before the forest's secrets are known.
    async fn settle(&self, dir: &ShareDir) -> Result<String, Fault> {
        let outcome = self.change(dir, |_| None).await?;
        Ok(restored(&outcome).unwrap_or_else(|| "the registry is as it was".to_owned()))
    }

    /// Changes the registry by the whole algorithm; a missing one is not made.
    ///
    /// # Errors
    /// Why it could not be done; nothing is lost then.
    pub async fn change(
        &self,
        dir: &ShareDir,
        change: impl Fn(&Registry) -> Option<Registry> + Send + 'static,
    ) -> Result<Outcome, Fault> {
        let (door, limits) = (self.door(dir)?, self.limits.clone());
        let options = UpdateOptions { create_missing: false, files: self.files() };
        let owner = Owner::current(&format!("forest-agent {}", self.settings.node));
        let what = format!("updating {}", self.settings.registry.display());
        let deadline = limits.give_up + limits.give_up / 2;
        let job = move || {
            registry::update(&door, &SystemClock, &owner, &limits, &options, |registry: &Registry| {
                Ok::<_, Infallible>(change(registry))
            })
        };
        let settled = self.updates.run(&what, deadline, job).await.map_err(|err| hung(&err))?;
        settled.map_err(|err| Fault::new(err.reason().unwrap_or(Reason::RegistryWrite), chain(&err)))
    }

    /// One update; `Err` inside: these entries are to be asked first.
    async fn update(&self, dir: &ShareDir, claim: Claim) -> Result<Result<Claimed, Vec<Entry>>, Fault> {
        let door = self.door(dir)?;
        let limits = self.limits.clone();
        let options = UpdateOptions { create_missing: self.settings.share.is_none(), files: self.files() };
        let owner = Owner::current(&format!("forest-agent {}", self.settings.node));
        let what = format!("updating {}", self.settings.registry.display());
        // It gives up by itself; bad bytes have a time of their own in it.
        let deadline = 2 * limits.give_up + 4 * limits.stale;
        let job = move || {
            let (mut action, mut entry) = (Action::None, Value::Null);
            let outcome = registry::update(&door, &SystemClock, &owner, &limits, &options, |registry| {
                let change = registry::claim(registry, &claim)?;
                (action, entry) = (change.action, change.entry);
                Ok(change.registry)
            });
            outcome.map(|outcome| Claimed { action, entry, restored: restored(&outcome) })
        };
        match self.updates.run(&what, deadline, job).await.map_err(|err| hung(&err))? {
            Ok(claimed) => Ok(Ok(claimed)),
            Err(UpdateError::Change(ClaimError::NeedsProbe(entries))) => Ok(Err(entries)),
            Err(UpdateError::Change(err)) => Err(claim_fault(&err)),
            Err(err) => Err(Fault::new(err.reason().unwrap_or(Reason::RegistryWrite), chain(&err))),
        }
    }

    fn claim(&self, address: Address, probes: Probes) -> Claim {
        let listen = self.settings.listen;
        Claim {
            forest: self.settings.forest.clone(),
            node: self.settings.node.clone(),
            address,
            instance: self.instance.to_string(),
            ports: Ports {
                cluster: listen.cluster.port(),
                monitor: listen.monitor.port(),
                health: listen.health.port(),
            },
            now: Timestamp::now(),
            probes,
        }
    }

    /// Asks every entry, at its address, whether the agent that wrote it lives.
    async fn ask(&self, entries: Vec<Entry>, probes: &mut Probes) {
        let asked = entries.into_iter().map(|entry| async move {
            let answered = self.lives(&entry).await;
            (entry, answered)
        });
        for (entry, answered) in futures::future::join_all(asked).await {
            probes.note(&entry, answered);
        }
    }

    /// Does the node of this entry answer? One that answers as somebody else, or as this very agent, is not it.
    async fn lives(&self, entry: &Entry) -> bool {
        let Ok(address) = entry.ip.parse::<Address>() else {
            return false;
        };
        let at = (address.ip(), entry.health_port()).into();
        match client::identity(at).await {
            Ok(found) => {
                let same = found.node_id == entry.id && found.forest_id == self.settings.forest.as_str();
                same && found.instance != *self.instance
            }
            Err(_) => false,
        }
    }
}

fn restored(outcome: &Outcome) -> Option<String> {
    let Outcome::Committed { restored: Some(restored) } = outcome else {
        return None;
    };
    Some(match &restored.quarantined {
        Some(name) => format!(
            "the registry was corrupt; its last good copy was put back, and {name} keeps what stood there"
        ),
        None => "the registry was missing; its last good copy was put back".to_owned(),
    })
}

fn claim_fault(err: &ClaimError) -> Fault {
    // The sentence names other nodes and their addresses.
    Fault::new(err.reason(), err.to_string()).withhold(err.reason().meaning().trim())
}

fn restless() -> Fault {
    let message = "other nodes with this id or address come and go faster than they can be asked";
    Fault::new(Reason::EntryDiffers, message)
}

/// The step.
pub struct RegistryStep {
    registrar: Registrar,
    kept: Kept,
}

impl RegistryStep {
    /// The step for this node; the last good registry is kept in `kept`.
    #[must_use]
    pub fn new(registrar: Registrar, kept: Kept) -> Self {
        Self { registrar, kept }
    }
}

impl Step for RegistryStep {
    fn look(&self, seen: Seen) -> BoxFuture<'static, Looked> {
        look(self.registrar.clone(), self.kept.clone(), seen).boxed()
    }

    fn act(&self, seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        let registrar = self.registrar.clone();
        async move {
            let (Some(dir), Some(address)) = (&seen.dir, seen.address) else {
                return Err(Fault::new(
                    Reason::EntryMissing,
                    "the share's directory or the address went away",
                ));
            };
            if seen.secrets.is_none() {
                return registrar.settle(dir).await;
            }
            let claimed = registrar.register(dir, address).await?;
            let restored = claimed.restored.map(|what| format!("; {what}")).unwrap_or_default();
            Ok(format!(
                "the entry in {}: {}{restored}",
                registrar.settings.registry.display(),
                claimed.action.as_str()
            ))
        }
        .boxed()
    }
}

async fn look(registrar: Registrar, kept: Kept, seen: Seen) -> Looked {
    let (Some(dir), Some(address)) = (&seen.dir, seen.address) else {
        return Err(Fault::new(
            Reason::EntryMissing,
            "the share's directory or the address is not known yet",
        ))
        .into();
    };
    let (snapshot, copies) = match registrar.read(dir).await {
        Ok(read) => read,
        Err(fault) => return Err(fault).into(),
    };
    let mut facts = vec![Fact::CorruptCopies(copies)];
    let snapshot = match snapshot {
        Ok(snapshot) => snapshot,
        // Of a registry that is not there yet, the forest's secrets are the first.
        Err(ReadError::Missing(_)) if seen.secrets.is_none() && registrar.settings.share.is_none() => {
            let message = "the registry waits for the forest's secrets, which come first";
            return Looked::with(Err(Fault::new(Reason::SecretsMissing, message)), facts);
        }
        Err(err) => {
            let result = match unread(&registrar, &err) {
                // The secrets come first: an act would only say that they are not there.
                Ok(Look::Differs(fault)) if seen.secrets.is_none() => Err(fault),
                result => result,
            };
            return Looked::with(result, facts);
        }
    };
    let registry = snapshot.doc;
    let settings = &registrar.settings;
    let tombstone = registry.tombstone(&settings.forest, &settings.node);
    let removed = kept.note(snapshot.bytes, tombstone).await;
    facts.push(Fact::Registry(Arc::new(LastRead { registry: registry.clone(), at: Some(Instant::now()) })));
    facts.push(Fact::Removed(removed.clone()));
    if let Some(since) = removed {
        return Looked::with(Err(removal::fault(settings, &since)), facts);
    }
    let result = match registrar.plan(&registry, address).await {
        // An entry is seen by others, who then live by what was founded: that comes first.
        Ok((change, _)) if change.action == Action::Add && seen.secrets.is_none() => {
            let message = "the entry waits for the forest's secrets, which come first";
            Err(Fault::new(Reason::SecretsMissing, message))
        }
        Ok((change, _)) => Ok(stands_or_differs(settings, &registry, &change)),
        Err(fault) => Err(fault),
    };
    let result = result.and_then(|look| match look {
        Look::Stands(_) if settings.share.is_some() && registry.forest(&settings.forest).is_none() => {
            let path = settings.registry.display();
            let message =
                format!("{path} has this node's entry, and does not know the forest {}", settings.forest);
            Err(Fault::new(Reason::ForestUnknown, message))
        }
        look => Ok(look),
    });
    Looked::with(result, facts)
}

/// What a registry that cannot be read calls for: one that is missing or corrupt is an update's work, which knows
/// when a fresh one may be made, and when the last good copy is to be put back.
fn unread(registrar: &Registrar, err: &ReadError) -> Result<Look, Fault> {
    let fault = read_fault(&registrar.settings, err);
    match err {
        ReadError::Unreadable(_) => Err(fault),
        ReadError::Missing(_) if registrar.settings.share.is_none() => {
            Ok(Look::Differs(fault.advise("wait: the agent makes it, or puts its last good copy back")))
        }
        ReadError::Missing(_) | ReadError::Corrupt { .. } => Ok(Look::Differs(fault)),
    }
}

/// Why the registry cannot be read, with its path; who lacks the right is told so.
#[must_use]
pub fn read_fault(settings: &Settings, err: &ReadError) -> Fault {
    let mut message = chain(err);
    let path = settings.registry.display().to_string();
    if !message.contains(&path) {
        message = format!("{path}: {message}");
    }
    let fault = Fault::new(err.reason(), message);
    let denied = matches!(err, ReadError::Unreadable(err) if err.kind == registry::Kind::Denied);
    if denied { fault.advise(SUDO) } else { fault }
}

fn stands_or_differs(settings: &Settings, registry: &Registry, change: &Change) -> Look {
    let path = settings.registry.display();
    let others = registry.entries(&settings.forest).len().saturating_sub(1);
    match &change.action {
        Action::None => Look::Stands(match others {
            0 => format!("the entry stands in {path}, the only one of its forest"),
            1 => format!("the entry stands in {path}, beside one other"),
            others => format!("the entry stands in {path}, beside {others} others"),
        }),
        Action::Add => Look::Differs(Fault::new(
            Reason::EntryMissing,
            format!("{path} has no entry of {}", settings.node),
        )),
        Action::Update | Action::Replace(_) => {
            let message = format!("the entry of {} in {path} is not as it should be", settings.node);
            Look::Differs(Fault::new(Reason::EntryDiffers, message))
        }
    }
}
