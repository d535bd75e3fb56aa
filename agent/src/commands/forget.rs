//! `forest-agent forget NODE`: records that a node is dead for good; the agents of those who stay take it out of the
//! group and of the registry. With `--rescue` it first brings back the quorum that went with it.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use forest_core::address::Address;
use forest_core::id::NodeId;
use forest_core::reason::Reason;
use forest_core::registry::{Entry, Registry};
use forest_core::secrets::{Record, Stage};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::output::{explain, print, print_json};
use super::{CommandResult, Environment, Failure, block_on, register, status};
use crate::cli::Common;
use crate::cluster::leave::api::{Api, Listed};
use crate::cluster::leave::streams::Order;
use crate::cluster::rescue::{self, Rescued};
use crate::engine::monitor::{Monitor, Unanswered};
use crate::fault::Fault;
use crate::files::private_dir;
use crate::health::client;
use crate::settings::Settings;
use crate::share::ShareDir;
use crate::share::lane::Lane;
use crate::steps::{self, Registrar, SecretsKeeper};

/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(300);
/// Longer than taking a node out takes; what is not done then goes on without this command.
const PATIENCE: Duration = Duration::from_secs(300);
/// Once the node is out, its streams are waited for so long: one whose only copy was there never finds a leader.
const STREAMS: Duration = Duration::from_secs(20);
const ASK: Duration = Duration::from_secs(3);

pub(super) fn run(
    settings: &Arc<Settings>,
    common: &Common,
    environment: &Environment,
    node: &NodeId,
    rescue: bool,
) -> CommandResult {
    private_dir(&settings.runtime_dir)?;
    let lane = Arc::new(Lane::new("registry-read"));
    let registrar = Registrar::new(Arc::clone(settings), environment.limits(), Arc::clone(&lane));
    let keeper = SecretsKeeper::new(registrar.clone());
    let command = Forget { settings, registrar, keeper, node, rescue };
    let told = block_on(command.run(lane))??;
    if common.json {
        print_json(&told.json(settings, node));
    } else {
        print(&told.text(settings, node));
    }
    Ok(ExitCode::SUCCESS)
}

struct Forget<'a> {
    settings: &'a Arc<Settings>,
    registrar: Registrar,
    keeper: SecretsKeeper,
    node: &'a NodeId,
    rescue: bool,
}

/// What came of it.
#[derive(Default)]
struct Told {
    already: bool,
    rescued: Option<Rescued>,
    lowered: BTreeSet<String>,
    leaderless: Vec<String>,
}

impl Told {
    fn json(&self, settings: &Settings, node: &NodeId) -> Value {
        json!({
            "forest_id": settings.forest.as_str(), "node_id": node.as_str(), "status": "forgotten",
            "rescued": self.rescued.map(Rescued::as_str), "lowered": self.lowered, "leaderless": self.leaderless, "error": null,
        })
    }

    fn text(&self, settings: &Settings, node: &NodeId) -> String {
        let forest = &settings.forest;
        if self.already {
            return format!("{node} is out of forest {forest} already");
        }
        let rescued = self.rescued.map_or("", |_| "the quorum is back; ");
        let leaderless = match &self.leaderless[..] {
            [] => String::new(),
            streams => format!(
                "\nstreams without a leader: {}. Their only copy was there; or there are others that were too few to go on \
                 (an old nats-server does not mend that), whose files are untouched",
                streams.join(", ")
            ),
        };
        let lowered = match self.lowered.len() {
            0 => String::new(),
            _ => {
                let streams = self.lowered.iter().cloned().collect::<Vec<_>>().join(", ");
                format!("\nwith fewer replicas now, for fewer nodes stay: {streams}")
            }
        };
        format!("{rescued}{node} is out of the group and of forest {forest}{lowered}{leaderless}")
    }
}

impl Forget<'_> {
    async fn run(self, lane: Arc<Lane>) -> Result<Told, Failure> {
        let dir = register::open(self.settings, lane, false).await?;
        let dir =
            dir.ok_or_else(|| Fault::new(Reason::RegistryMissing, "the registry's directory went away"))?;
        let (registry, record) = self.read(&dir).await?;
        if self.is_out(&registry, &record) {
            return Ok(Told { already: true, ..Told::default() });
        }
        self.judge(&registry, &record).await?;
        status::ask(self.settings).await?;
        let leader = rescue::leader(self.settings, &record).await?;
        if leader.is_none() && !self.rescue {
            let message = format!("the group has no leader, so that it cannot take {} out", self.node);
            let advice = format!("if its host is gone for good: forest-agent forget {} --rescue", self.node);
            return Err(Fault::new(Reason::QuorumLost, message).advise(advice).into());
        }
        let node = self.node.clone();
        self.keeper.update(&dir, move |secrets| Ok(secrets.forget(&node, Timestamp::now()))).await?;
        let rescued = match leader {
            Some(_) => None,
            None => Some(self.bring_back(&dir, &record).await?),
        };
        let lowered = self.follow(&dir).await?;
        Ok(Told { already: false, rescued, lowered, leaderless: self.leaderless().await })
    }

    async fn read(&self, dir: &ShareDir) -> Result<(Registry, Record), Failure> {
        let snapshot = self.registrar.read(dir).await?.0;
        let registry = snapshot.map_err(|err| steps::read_fault(self.settings, &err))?.doc;
        let secrets = self.keeper.current(dir).await?;
        let record = secrets.record().cloned().ok_or_else(|| {
            Fault::new(Reason::SecretsMissing, format!("forest {} is not founded", self.settings.forest))
        })?;
        Ok((registry, record))
    }

    fn entry(&self, registry: &Registry) -> Option<Entry> {
        registry.entries(&self.settings.forest).into_iter().find(|entry| entry.id == self.node.as_str())
    }

    fn is_out(&self, registry: &Registry, record: &Record) -> bool {
        let leaves = record.leaving.as_ref().is_some_and(|leaving| leaving.node == self.node.as_str());
        let buried = registry.tombstone(&self.settings.forest, self.node).is_some();
        buried && !leaves && self.entry(registry).is_none()
    }

    /// May it be forgotten?
    async fn judge(&self, registry: &Registry, record: &Record) -> Result<(), Failure> {
        let Self { settings, node, .. } = self;
        if **node == settings.node {
            let message = format!("{node} is this very node");
            return Err(Fault::new(Reason::NodeLives, message).into());
        }
        if let Some(leaving) = record.leaving.as_ref().filter(|leaving| leaving.node != node.as_str()) {
            let stage = if leaving.stage == Stage::Stopped { "is being taken out" } else { "leaves" };
            let error =
                anyhow!("{} {stage}; one node at a time: run it again when that is done", leaving.node);
            return Err(Failure::new(Reason::Busy.code(), error));
        }
        let Some(entry) = self.entry(registry) else {
            if record.leaving.is_some() {
                return Ok(());
            }
            let known: Vec<_> =
                registry.entries(&settings.forest).into_iter().map(|entry| entry.id).collect();
            let message =
                format!("forest {} has no node {node}; it has {}", settings.forest, known.join(", "));
            return Err(Fault::new(Reason::NodeUnknown, message).into());
        };
        match self.answers(&entry).await {
            Some(what) => {
                Err(Fault::new(Reason::NodeLives, format!("{what} of {node} answers at {}", entry.ip)).into())
            }
            None => Ok(()),
        }
    }

    /// What of it answers still.
    async fn answers(&self, entry: &Entry) -> Option<&'static str> {
        let ip = entry.ip.parse::<Address>().ok()?.ip();
        let agent = client::identity((ip, entry.health_port()).into()).await;
        if agent
            .is_ok_and(|found| found.node_id == entry.id && found.forest_id == self.settings.forest.as_str())
        {
            return Some("the agent");
        }
        let varz = Monitor::new(ASK).ok()?.varz((ip, entry.monitor_port()).into()).await;
        varz.is_ok_and(|varz| varz.server_name == entry.id).then_some("the server")
    }

    async fn bring_back(&self, dir: &ShareDir, record: &Record) -> Result<Rescued, Failure> {
        if let Some(rescued) = rescue::by_order(self.settings, record).await? {
            return Ok(rescued);
        }
        if record.witness.as_ref().is_none_or(|duty| duty.node != self.node.as_str()) {
            let message = format!(
                "this nats-server is too old to be rescued without its peers, and {} kept no witness that another could \
                 stand in for",
                self.node
            );
            let advice = "bring one of the others back, or put a nats-server of 2.15 or newer at engine.binary and restart";
            return Err(Fault::new(Reason::QuorumLost, message).advise(advice).into());
        }
        explain(&format!(
            "this nats-server knows no rescue: an empty witness stands in for that of {}",
            self.node
        ));
        let (node, heir) = (self.node.clone(), self.settings.node.clone());
        self.keeper.update(dir, move |secrets| Ok(secrets.stand_in(&node, &heir))).await?;
        Ok(Rescued::ByStandIn)
    }

    /// Until the agents have taken it out, and no stream wants more replicas than there are nodes: what is lowered
    /// while a server stands in for the dead one needs that one no more.
    async fn follow(&self, dir: &ShareDir) -> Result<BTreeSet<String>, Failure> {
        let until = Instant::now() + PATIENCE;
        let (mut lowered, mut open, mut asked) = (BTreeSet::new(), true, Instant::now());
        while Instant::now() < until {
            let (registry, record) = self.read(dir).await?;
            if !open && self.is_out(&registry, &record) {
                return Ok(lowered);
            }
            let others = registry
                .entries(&self.settings.forest)
                .into_iter()
                .filter(|entry| entry.id != self.node.as_str());
            open = match self.lower(others.count().max(1), &mut lowered).await {
                Ok(open) => open && asked.elapsed() < STREAMS,
                Err(_) => true,
            };
            if record.leaving.is_some() {
                asked = Instant::now();
            }
            tokio::time::sleep(PAUSE).await;
        }
        let message = format!("{} is not out yet; the agents go on by themselves", self.node);
        Err(Fault::new(Reason::Leaving, message).into())
    }

    async fn leaderless(&self) -> Vec<String> {
        let Ok(api) = Api::connect(self.settings.listen.client, ASK).await else { return Vec::new() };
        let Listed { streams, mut missing } = api.list().await.unwrap_or_default();
        missing
            .extend(streams.into_iter().filter(|stream| stream.leader.is_none()).map(|stream| stream.name));
        missing
    }

    /// `true`: some stream wants more still, or has no leader. Nothing is asked for one without a leader: an old server
    /// would begin it anew, empty (measured on 2.9).
    async fn lower(&self, count: usize, lowered: &mut BTreeSet<String>) -> Result<bool, Unanswered> {
        let api = Api::connect(self.settings.listen.client, ASK).await?;
        let listed = api.list().await?;
        let mut open = !listed.missing.is_empty();
        for stream in listed.streams.iter().filter(|stream| stream.replicas > count) {
            open = true;
            if stream.leader.is_none() {
                continue;
            }
            let leads = stream.leader.as_deref() == Some(self.node.as_str());
            let order = if leads { Order::StepDown } else { Order::Lower(count) };
            // An old server may refuse what it does; what it is then says.
            if api.order(stream, &order, self.node.as_str(), &Value::Null).await.is_ok() && !leads {
                lowered.insert(stream.name.clone());
            }
        }
        Ok(open)
    }
}
