//! Growing: more nodes for a forest, and dead agents started again.

use std::time::Duration;

use forest_core::id::ForestId;
use forest_core::reason::Reason;
use jiff::Timestamp;

use super::plant::Raised;
use super::record::{self, Member, Plan};
use super::{Local, lock, process};
use crate::failure::Failure;
use crate::progress::Progress;

/// What to do for a forest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// How many nodes to add; those that an earlier growth left pending are among them.
    pub add: u8,
    /// Start dead agents?
    pub repair: bool,
    /// How long to wait for nodes to be healthy.
    pub limit: Duration,
}

impl Local {
    /// Adds nodes and starts dead agents.
    ///
    /// # Errors
    /// [`Failure`] where it cannot even be begun; how it went with each node is in the result.
    pub async fn grow(
        &self,
        forest: &ForestId,
        wish: Wish,
        progress: &mut Progress,
    ) -> Result<Raised, Failure> {
        let _lock = lock::acquire(&self.layout, forest)?;
        // As for plant: looked at before anything is written.
        let (_, plan) = record::grow(&self.store.read()?, forest, wish.add, Timestamp::now())?;
        self.check_ports(forest, &plan, &self.chosen(forest, &plan, wish))?;
        let mut plan = None;
        self.store.update(|registry| {
            let (next, wanted) = record::grow(registry, forest, wish.add, Timestamp::now())?;
            plan = Some(wanted);
            Ok(next)
        })?;
        let plan = plan.ok_or_else(|| Failure::new(Reason::RegistryWrite, "the registry was not asked"))?;
        let members = self.chosen(forest, &plan, wish);
        self.raise(forest, plan, &members, wish.limit, progress).await
    }

    /// The members to be brought up: the pending ones for a growth, those without an agent for a repair.
    fn chosen(&self, forest: &ForestId, plan: &Plan, wish: Wish) -> Vec<Member> {
        let is_dead = |member: &Member| process::agents(&self.layout.node(forest, &member.id)).is_empty();
        let is_pending = |member: &Member| plan.pending.contains(&member.id);
        let wanted =
            |member: &&Member| (wish.add > 0 && is_pending(member)) || (wish.repair && is_dead(member));
        plan.members.iter().filter(wanted).cloned().collect()
    }
}
