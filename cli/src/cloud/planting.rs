//! Planting and growing a forest in the cloud, from its record to healthy nodes.
//!
//! What can be known to fail has failed before ([`super::preflight`]). From the record on nothing is undone when
//! something fails: what there is can be looked into, and the same command goes on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use super::forest::Kit;
use super::preflight::Prepared;
use super::programs::{BIN, Supplies};
use super::ready::{self, Due};
use super::record::{self, Plan, Programs, Request, Worker};
use super::site::Site;
use super::told::Telling;
use crate::failure::Failure;
use crate::hetzner::wire::Server;
use crate::local::ready::End;
use crate::probe::Target;
use crate::progress::{Progress, size};
use crate::ui::counted;

/// So long the provider may take to make machines: `--timeout` is for what comes after.
const MAKING: Duration = Duration::from_secs(900);

/// What was done, and how it ended for each node that was worked on.
pub struct Outcome {
    /// The forest.
    pub forest: ForestId,
    /// What is wanted of it.
    pub plan: Plan,
    /// The nodes that were worked on.
    pub nodes: Vec<NodeId>,
    /// Where they are, as far as that is known.
    pub addresses: BTreeMap<NodeId, IpAddr>,
    /// How the waiting for each ended; none where it did not come to that.
    pub ends: BTreeMap<NodeId, End>,
    /// What stopped it.
    pub failure: Option<Failure>,
}

impl Site {
    /// Plants a forest, or finishes planting it.
    ///
    /// # Errors
    /// [`Failure`] where it was not begun; what came after the record is in the outcome.
    pub async fn plant(
        &self,
        forest: &ForestId,
        count: u8,
        prepared: &Prepared,
        limit: Duration,
        progress: &mut Progress,
    ) -> Result<Outcome, Failure> {
        let request = self.request(count, prepared);
        self.make_directories()?;
        let (plan, nodes) = self.cloud()?.plant(forest, &request)?;
        Ok(self.work(forest, plan, nodes, prepared, limit, progress).await)
    }

    /// What is recorded of a new forest.
    #[must_use]
    pub fn request(&self, count: u8, prepared: &Prepared) -> Request {
        Request {
            count,
            location: prepared.offers[0].location.clone(),
            planting: format!("{:016x}", rand::random::<u64>()),
            programs: Some(prepared.programs.clone()),
        }
    }

    /// Adds nodes to a forest; with `seen`, when it was last grown, only if nobody has grown it since.
    ///
    /// # Errors
    /// As [`Self::plant`].
    pub async fn grow(
        &self,
        forest: &ForestId,
        count: u8,
        seen: Option<Option<&str>>,
        prepared: &Prepared,
        limit: Duration,
        progress: &mut Progress,
    ) -> Result<Outcome, Failure> {
        let (plan, nodes) = match seen {
            None => self.cloud()?.grow(forest, count)?,
            Some(seen) => self.cloud()?.grow_unless_grown(forest, count, seen)?,
        };
        Ok(self.work(forest, plan, nodes, prepared, limit, progress).await)
    }

    /// Makes machines anew for members whose own are gone.
    ///
    /// # Errors
    /// As [`Self::plant`].
    pub async fn renew(
        &self,
        forest: &ForestId,
        lost: &[NodeId],
        prepared: &Prepared,
        limit: Duration,
        progress: &mut Progress,
    ) -> Result<Outcome, Failure> {
        let mut done = None;
        self.store.update(|registry| {
            let (next, plan, nodes) = record::renew(registry, forest, lost, &Worker::current())?;
            done = Some((plan, nodes));
            Ok(next)
        })?;
        let (plan, nodes) =
            done.ok_or_else(|| Failure::new(Reason::RegistryWrite, "the registry was not asked"))?;
        Ok(self.work(forest, plan, nodes, prepared, limit, progress).await)
    }

    /// From the record to healthy nodes.
    async fn work(
        &self,
        forest: &ForestId,
        plan: Plan,
        nodes: Vec<NodeId>,
        prepared: &Prepared,
        limit: Duration,
        progress: &mut Progress,
    ) -> Outcome {
        let (addresses, ends) = (BTreeMap::new(), BTreeMap::new());
        let mut outcome = Outcome { forest: forest.clone(), plan, nodes, addresses, ends, failure: None };
        let work = self.steps(&mut outcome, prepared, limit, progress);
        let interrupted = async {
            // Without a handler the signal ends the process as ever.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let failure = tokio::select! {
            done = work => done.err(),
            () = interrupted => Some(Failure::new(Reason::Interrupted, "interrupted")),
        };
        outcome.failure = failure;
        outcome
    }

    async fn steps(
        &self,
        outcome: &mut Outcome,
        prepared: &Prepared,
        limit: Duration,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        if outcome.nodes.is_empty() {
            return Ok(());
        }
        let forest = outcome.forest.clone();
        // Another laptop may have recorded other programs first: those are what the forest runs.
        let programs = outcome.plan.programs.clone().unwrap_or_else(|| prepared.programs.clone());
        self.upload(&programs, prepared.supplies.as_ref(), progress).await?;
        let telling =
            Telling { forest: &forest, programs: &programs, share: &self.share, shelf: &self.shelf };
        let mut told = BTreeMap::new();
        for node in &outcome.nodes {
            told.insert(node.clone(), telling.user_data(node)?);
        }
        let user_data =
            |node: &NodeId| told.get(node).map(|text| text.expose_secret().to_owned()).unwrap_or_default();
        let kit = Kit {
            offers: &prepared.offers,
            key: Some(prepared.key.clone()),
            user_data: &user_data,
            ipv4: self.machine.ipv4,
        };
        let servers = self
            .cloud()?
            .raise(&forest, &outcome.plan, outcome.nodes.clone(), &kit, MAKING, progress)
            .await?;
        let targets = targets(&servers, prepared.v6);
        outcome.addresses = targets.iter().map(|target| (target.node.clone(), target.ip)).collect();
        let peers = known(&outcome.plan, &outcome.nodes).saturating_sub(1);
        // Without IPv6 here the others are asked in vain, and are not away for that.
        let away = if prepared.v6 { self.away(&forest, &outcome.nodes).await? } else { Vec::new() };
        let due = Due { peers, away };
        outcome.ends = ready::wait(&self.http, &targets, &due, limit, progress).await;
        let is_ready = |(node, end): (&NodeId, &End)| (*end == End::Ready).then(|| node.clone());
        let healthy: Vec<NodeId> = outcome.ends.iter().filter_map(is_ready).collect();
        self.store.update(|registry| Ok(record::settle(registry, &forest, &healthy, Timestamp::now())))
    }

    /// Those of the forest's other nodes that do not answer: no new one can reach them either.
    async fn away(&self, forest: &ForestId, new: &[NodeId]) -> Result<Vec<NodeId>, Failure> {
        let entries = self.registry()?.entries(forest);
        let mut others: Vec<Target> = entries.iter().filter_map(Target::of).collect();
        others.retain(|other| !new.contains(&other.node));
        // One that is only slow has answered by the third time.
        for _ in 0..3 {
            let looks = self.http.look(&others).await;
            let silent = looks.into_iter().filter(|look| look.health.is_err());
            others = silent.map(|look| look.target).collect();
        }
        Ok(others.into_iter().map(|other| other.node).collect())
    }

    /// Puts those programs onto the share that are not there, whole.
    ///
    /// # Errors
    /// [`Failure`] naming the program that this laptop lacks, or what the share refused.
    pub async fn upload(
        &self,
        programs: &Programs,
        supplies: Option<&Supplies>,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        for program in programs.all() {
            let path = format!("{BIN}/{}", program.file);
            if self.shelf.size(&path).await?.is_some() {
                continue;
            }
            let Some(supplies) = supplies else {
                let message = format!("{} went away just now; run it again", self.shelf.url(&path));
                return Err(Failure::new(Reason::UploadFailed, message));
            };
            let bytes = supplies.bytes(program, progress).await?;
            let (what, length) = (format!("uploading {}", program.file), bytes.len() as u64);
            progress.part(&what, 0, length);
            self.shelf.put(BIN, &program.file, &bytes, |sent| progress.part(&what, sent, length)).await?;
            progress.end(&what, &format!("{} on the share", size(length)));
        }
        Ok(())
    }
}

fn targets(servers: &[Server], v6: bool) -> Vec<Target> {
    let address = |server: &Server| match v6 {
        true => server.address(),
        false => server.address_v4().or(server.address_v6()),
    };
    let target = |server: &Server| Some(Target::at(server.name.parse().ok()?, address(server)?));
    servers.iter().filter_map(target).collect()
}

/// How many nodes each of `nodes` is to know, itself among them: what another laptop is still making does not count.
fn known(plan: &Plan, nodes: &[NodeId]) -> usize {
    let of_others =
        |node: &&NodeId| !nodes.contains(node) && plan.pending.iter().any(|pending| pending.id == **node);
    plan.members.len() - plan.members.iter().filter(of_others).count()
}

impl Outcome {
    /// What went wrong, and the two ways on: `resume` is the command that goes on.
    #[must_use]
    pub fn problem(&self, resume: &str) -> Option<Failure> {
        let next = format!("next: go on with `{resume}`, or `morpheus teardown {}`", self.forest);
        if let Some(failure) = &self.failure {
            if failure.reason == Reason::TornDown {
                return Some(failure.clone());
            }
            return Some(Failure::new(failure.reason, format!("{}\n{next}", failure.message)));
        }
        let why = |(id, end): (&NodeId, &End)| Some(format!("\n  {id}: {}", end.why()?));
        let ill: Vec<String> = self.ends.iter().filter_map(why).collect();
        if ill.is_empty() {
            return None;
        }
        let count = counted(self.ends.len(), "node");
        let message = format!("{} of {count} not healthy in time:{}\n{next}", ill.len(), ill.concat());
        Some(Failure::new(Reason::NotHealthy, message))
    }
}
