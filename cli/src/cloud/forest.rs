//! A forest in the cloud from its first record to its last: what stands where when a command is cut short.
//!
//! Planting: the record, then firewall and groups, then servers. Tearing down: tombstones, servers, entries, secrets,
//! programs, and last the record, which alone knows what the forest's things are called.

use std::time::Duration;

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use forest_core::registry::{Registry, remove_forest};
use jiff::Timestamp;

use super::fell::{drop_keys, fell};
use super::labels::rules;
use super::offers::Offer;
use super::plan::{PublicKey, Wish};
use super::raise::Raising;
use super::record::{self, Change, Plan, Request, Shelved, Worker};
use crate::failure::Failure;
use crate::hetzner::Hetzner;
use crate::hetzner::wire::Server;
use crate::progress::Progress;

/// A change of the registry; it may be applied more than once.
pub type Edit<'a> = &'a mut dyn FnMut(&Registry) -> Result<Option<Registry>, Failure>;

/// The forests' registry and secrets, through whichever door.
pub trait Ledger {
    /// The registry as it stands.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be read.
    fn read(&self) -> Result<Registry, Failure>;

    /// Changes the registry.
    ///
    /// # Errors
    /// The change's own, or a [`Failure`] that says who or what is in the way.
    fn update(&self, change: Edit<'_>) -> Result<(), Failure>;

    /// Deletes the secrets of a forest; that there are none is no failure.
    ///
    /// # Errors
    /// [`Failure`]
    fn forget_secrets(&self, forest: &ForestId) -> Result<(), Failure>;

    /// Takes those programs away that no forest of `registry` runs. Called under the lease: a forest that is just
    /// being recorded is seen, or finds them gone.
    fn sweep(&self, registry: &Registry, files: &[Shelved]);
}

/// What new servers are made with.
pub struct Kit<'a> {
    /// Which machines, the best first.
    pub offers: &'a [Offer],
    /// Who may log in.
    pub key: Option<PublicKey>,
    /// What cloud-init of a node is given.
    pub user_data: &'a dyn Fn(&NodeId) -> String,
    /// Do they get an IPv4 as well?
    pub ipv4: bool,
}

/// The cloud and the registry.
pub struct Cloud<'a> {
    /// The provider.
    pub api: &'a Hetzner,
    /// The registry.
    pub ledger: &'a dyn Ledger,
}

impl Cloud<'_> {
    /// Records a new forest, or takes up one whose planting was cut short; its plan, and its nodes.
    ///
    /// # Errors
    /// [`Failure`] where the name is taken, or the registry cannot be written.
    pub fn plant(&self, forest: &ForestId, request: &Request) -> Result<(Plan, Vec<NodeId>), Failure> {
        self.change(|registry| record::plant(registry, forest, request, &Worker::current()))
    }

    /// Records `count` more nodes; the plan, and the nodes to be made.
    ///
    /// # Errors
    /// [`Failure`] where the forest is gone, or the registry cannot be written.
    pub fn grow(&self, forest: &ForestId, count: u8) -> Result<(Plan, Vec<NodeId>), Failure> {
        self.change(|registry| record::grow(registry, forest, count, &Worker::current()))
    }

    /// The same, unless somebody has grown it since it was last grown at `seen`; then there are no nodes.
    ///
    /// # Errors
    /// As [`Self::grow`].
    pub fn grow_unless_grown(
        &self,
        forest: &ForestId,
        count: u8,
        seen: Option<&str>,
    ) -> Result<(Plan, Vec<NodeId>), Failure> {
        self.change(|registry| {
            let plan = record::live(registry, forest)?;
            match plan.grown_at.as_deref() == seen {
                true => record::grow(registry, forest, count, &Worker::current()),
                false => Ok((None, plan, Vec::new())),
            }
        })
    }

    /// Makes the servers of these nodes, as far as they are missing.
    ///
    /// # Errors
    /// [`Failure`]; what was made stays, and the next command goes on from there. Where another command tore the
    /// forest down meanwhile nothing stays.
    pub async fn raise(
        &self,
        forest: &ForestId,
        plan: &Plan,
        nodes: Vec<NodeId>,
        kit: &Kit<'_>,
        limit: Duration,
        progress: &mut Progress,
    ) -> Result<Vec<Server>, Failure> {
        let wish = Wish { mark: plan.mark(forest), nodes, key: kit.key.clone(), rules: rules() };
        let Kit { offers, user_data, ipv4, .. } = *kit;
        let standing = || Ok(record::standing(&self.ledger.read()?, &wish.mark, &wish.nodes));
        let raising = Raising { api: self.api, wish: &wish, offers, user_data, ipv4, standing: &standing };
        let made = raising.run(limit, progress).await;
        if made.as_ref().is_err_and(|failure| failure.reason == Reason::TornDown) {
            self.sweep(plan)?;
        }
        made
    }

    /// Takes everything of the forest down.
    ///
    /// # Errors
    /// [`Failure`]; the record stays, and the next command goes on from there.
    pub async fn teardown(&self, forest: &ForestId, limit: Duration) -> Result<(), Failure> {
        let Some(plan) = Plan::find(&self.ledger.read()?, forest) else {
            let message =
                format!("no forest {forest} of the cloud: morpheus list shows those that there are");
            return Err(Failure::new(Reason::ForestUnknown, message));
        };
        self.ledger.update(&mut |registry| Ok(record::bury(registry, forest, Timestamp::now())))?;
        fell(self.api, &plan.mark(forest), limit).await?;
        drop_keys(self.api).await?;
        self.ledger.update(&mut |registry| Ok(record::clear(registry, forest, Timestamp::now())))?;
        self.ledger.forget_secrets(forest)?;
        let files = plan.files();
        self.ledger.update(&mut |registry| {
            let next = remove_forest(registry, forest, Timestamp::now());
            self.ledger.sweep(next.as_ref().unwrap_or(registry), &files);
            Ok(next)
        })
    }

    /// Takes those programs of the plan away that no forest runs.
    fn sweep(&self, plan: &Plan) -> Result<(), Failure> {
        let files = plan.files();
        self.ledger.update(&mut |registry| {
            self.ledger.sweep(registry, &files);
            Ok(None)
        })
    }

    fn change(
        &self,
        change: impl Fn(&Registry) -> Result<Change, Failure>,
    ) -> Result<(Plan, Vec<NodeId>), Failure> {
        let mut done = None;
        self.ledger.update(&mut |registry| {
            let (next, plan, nodes) = change(registry)?;
            done = Some((plan, nodes));
            Ok(next)
        })?;
        done.ok_or_else(|| Failure::new(Reason::RegistryWrite, "the registry was not asked"))
    }
}
