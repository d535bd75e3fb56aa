//! Planting: the record first, then the nodes, all at once; then waiting until each is healthy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use jiff::Timestamp;

use super::ready::{self, Awaited, End};
use super::record::{self, Member, Plan, Programs, Request};
use super::{Local, launch, lock, node, ports, process};
use crate::config::EngineKind;
use crate::failure::Failure;
use crate::names;
use crate::probe::Target;
use crate::progress::Progress;
use crate::ui::counted;

/// What is to be planted.
#[derive(Debug, Clone)]
pub struct Order {
    /// The forest's name, if one was given.
    pub name: Option<ForestId>,
    /// How many nodes.
    pub count: u8,
    /// What they run.
    pub programs: Programs,
    /// How long to wait for them.
    pub limit: Duration,
}

/// How nodes were brought up.
#[derive(Debug, Clone)]
pub struct Raised {
    /// The forest.
    pub forest: ForestId,
    /// Its nodes.
    pub plan: Plan,
    /// How it ended for those that were waited for.
    pub ends: BTreeMap<NodeId, End>,
}

impl Order {
    /// The search for a network begins at a place that follows from the name and the home, so that a dry run tells it.
    fn request(&self, forest: &ForestId, root: &Path) -> Request {
        Request {
            count: self.count,
            programs: self.programs.clone(),
            busy: ports::busy(),
            seed: names::seed(forest, root),
            now: Timestamp::now(),
        }
    }
}

impl Local {
    /// What [`Self::plant`] would do, as far as it can be told beforehand.
    ///
    /// # Errors
    /// [`Failure`] where the name or a port is taken, or the registry cannot be read.
    pub fn preview(&self, order: &Order) -> Result<(ForestId, Plan), Failure> {
        let forest = self.name(order)?;
        let request = order.request(&forest, self.layout.root());
        let (_, plan) = record::plant(&self.store.read()?, &forest, &request)?;
        self.check_ports(&forest, &plan, &plan.members)?;
        Ok((forest, plan))
    }

    /// Plants a forest, or finishes planting it.
    ///
    /// # Errors
    /// [`Failure`] where it cannot even be begun; how it went with each node is in the result.
    pub async fn plant(&self, order: &Order, progress: &mut Progress) -> Result<Raised, Failure> {
        let forest = self.name(order)?;
        let _lock = lock::acquire(&self.layout, &forest)?;
        let request = order.request(&forest, self.layout.root());
        // Before anything is written: a port that is taken is no reason to leave half a forest behind.
        let registry = self.store.read()?;
        let (_, plan) = record::plant(&registry, &forest, &request)?;
        self.check_ports(&forest, &plan, &plan.members)?;
        if registry.forest(&forest).is_none() {
            // Of an earlier forest of this name, whose founding nobody could go on from.
            self.store.forget_secrets(&forest)?;
        }
        let mut plan = None;
        self.store.update(|registry| {
            let (next, wanted) = record::plant(registry, &forest, &request)?;
            plan = Some(wanted);
            Ok(next)
        })?;
        let plan = plan.ok_or_else(|| Failure::new(Reason::RegistryWrite, "the registry was not asked"))?;
        let members = plan.members.clone();
        self.raise(&forest, plan, &members, order.limit, progress).await
    }

    fn name(&self, order: &Order) -> Result<ForestId, Failure> {
        if let Some(name) = &order.name {
            return Ok(name.clone());
        }
        let taken: BTreeSet<String> = self.store.read()?.forest_names().into_iter().collect();
        Ok(names::fresh(rand::random(), |name| taken.contains(name.as_str())))
    }

    /// Starts those of `members` that do not run, waits until all of them are healthy, and notes which were.
    pub(super) async fn raise(
        &self,
        forest: &ForestId,
        plan: Plan,
        members: &[Member],
        limit: Duration,
        progress: &mut Progress,
    ) -> Result<Raised, Failure> {
        let mut awaited = Vec::new();
        for member in members {
            awaited.push(self.start(forest, &plan, member)?);
        }
        let ends =
            ready::wait(&self.http, awaited, plan.members.len().saturating_sub(1), limit, progress).await;
        let healthy: Vec<NodeId> =
            ends.iter().filter(|(_, end)| **end == End::Ready).map(|(id, _)| id.clone()).collect();
        self.store.update(|registry| Ok(record::settle(registry, forest, &healthy, Timestamp::now())))?;
        Ok(Raised { forest: forest.clone(), plan, ends })
    }

    /// Starts one node's agent, unless it runs.
    fn start(&self, forest: &ForestId, plan: &Plan, member: &Member) -> Result<Awaited, Failure> {
        let dir = self.layout.node(forest, &member.id);
        let agent = if process::agents(&dir).is_empty() {
            node::prepare(&self.layout, forest, plan, member)?;
            Some(launch::start(&plan.programs, &dir)?)
        } else {
            None
        };
        let target = Target::local(member.id.clone(), member.ip);
        Ok(Awaited { target, dir, agent })
    }

    /// Checks the ports of those of `members` that have no process yet.
    pub(super) fn check_ports(
        &self,
        forest: &ForestId,
        plan: &Plan,
        members: &[Member],
    ) -> Result<(), Failure> {
        for member in members {
            let dir = self.layout.node(forest, &member.id);
            if process::agents(&dir).is_empty() && process::children(&dir).is_empty() {
                ports::check(member.ip, plan.programs.engine == EngineKind::Nimsforest)?;
            }
        }
        Ok(())
    }
}

impl Raised {
    /// What is wrong, if not all nodes are healthy: which, what, and what next.
    #[must_use]
    pub fn problem(&self) -> Option<Failure> {
        let why = |(id, end): (&NodeId, &End)| Some(format!("\n  {id}: {}", end.why()?));
        let ill: Vec<String> = self.ends.iter().filter_map(why).collect();
        let first = self.ends.iter().find(|(_, end)| end.why().is_some())?.0;
        let message = format!(
            "{} of {} not healthy:{}\nnext: morpheus logs {forest} {first}; then morpheus grow {forest} \
             --repair, or morpheus teardown {forest}",
            ill.len(),
            counted(self.ends.len(), "node"),
            ill.concat(),
            forest = self.forest,
        );
        Some(Failure::new(Reason::NotHealthy, message))
    }
}
