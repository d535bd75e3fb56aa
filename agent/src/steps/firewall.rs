//! Step `firewall`: the node's own firewall lets in whom it should, and follows the registry.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forest_core::address::Address;
use forest_core::reason::Reason;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::driver::{Fact, Look, Looked, Seen, Step};
use crate::fault::Fault;
use crate::firewall::keeper::Keeper;
use crate::firewall::policy::Policy;
use crate::firewall::tools::Tools;
use crate::settings::Settings;

/// The step.
#[derive(Clone)]
pub struct FirewallStep {
    settings: Arc<Settings>,
    keeper: Keeper,
    /// Nothing of ours is there any more, and nobody but this step would put it there.
    cleared: Arc<AtomicBool>,
}

/// What is wanted of the firewall.
enum Wanted {
    Rules(Policy),
    /// None of our rules, and why.
    Nothing(&'static str),
}

impl FirewallStep {
    /// The step for this node.
    #[must_use]
    pub fn new(settings: Arc<Settings>, tools: Arc<dyn Tools>) -> Self {
        let keeper = keeper(&settings, tools);
        Self { settings, keeper, cleared: Arc::default() }
    }

    fn wanted(&self, seen: &Seen) -> Wanted {
        if !self.settings.firewall.manage {
            return Wanted::Nothing("not managed: firewall.manage is false");
        }
        if seen.removed.is_some() {
            return Wanted::Nothing("no rules: the node was taken out on purpose");
        }
        let registry = seen.registry.as_ref().map(|read| &read.registry);
        Wanted::Rules(Policy::of(&self.settings, registry, seen.client_port))
    }

    async fn compare(self, seen: Seen) -> Looked {
        match self.wanted(&seen) {
            Wanted::Rules(policy) => {
                self.cleared.store(false, Ordering::Relaxed);
                let own = seen.address.map(Address::ip);
                self.compare_rules(&policy, own).await
            }
            Wanted::Nothing(why) => {
                Looked::with(self.compare_nothing(why).await, vec![Fact::FirewallRules(None)])
            }
        }
    }

    async fn compare_rules(&self, policy: &Policy, own: Option<IpAddr>) -> Looked {
        let found = match self.keeper.compare(policy).await {
            Ok(found) => found,
            Err(fault) => return Looked::with(Err(fault), vec![Fact::FirewallRules(None)]),
        };
        let facts = vec![Fact::FirewallRules(u64::try_from(found.rules()).ok())];
        if !found.stands() {
            let fault = Fault::new(Reason::FirewallDiffers, found.changes(self.keeper.tag()));
            // It names addresses of other nodes.
            let fault = fault.withhold(Reason::FirewallDiffers.meaning().trim());
            return Looked::with(Ok(Look::Differs(fault)), facts);
        }
        let stands = format!("{} rules stand as {}", found.rules(), self.keeper.tag());
        let result = self.keeper.unblocked(policy, own).await;
        Looked::with(result.map(|()| Look::Stands(stands)), facts)
    }

    async fn compare_nothing(&self, why: &str) -> Result<Look, Fault> {
        let stands = || Ok(Look::Stands(why.to_owned()));
        if self.cleared.load(Ordering::Relaxed) {
            return stands();
        }
        match self.keeper.is_there().await {
            Ok(true) => {
                let message = format!("rules of this node stand as {}; {why}", self.keeper.tag());
                Ok(Look::Differs(Fault::new(Reason::FirewallDiffers, message)))
            }
            Ok(false) => {
                self.cleared.store(true, Ordering::Relaxed);
                stands()
            }
            // Who cannot look cannot have put anything there.
            Err(fault) if is_out_of_reach(&fault) => stands(),
            Err(fault) => Err(fault),
        }
    }

    async fn make_so(self, seen: Seen) -> Result<String, Fault> {
        match self.wanted(&seen) {
            Wanted::Rules(policy) => self.keeper.enforce(&policy).await,
            Wanted::Nothing(_) => {
                self.keeper.take_out().await?;
                Ok(format!("took out the rules known as {}", self.keeper.tag()))
            }
        }
    }
}

/// Takes out everything that this node's agent ever put into the firewall, and touches nothing else; says whether
/// there was anything. For a node that leaves. An agent that runs here takes its rules out itself once it sees
/// that the node was removed, and would put them back before.
///
/// # Errors
/// What nft or ufw refused.
pub async fn take_out(settings: &Settings, tools: Arc<dyn Tools>) -> Result<bool, Fault> {
    match keeper(settings, tools).take_out().await {
        Err(fault) if is_out_of_reach(&fault) && !settings.firewall.manage => Ok(false),
        result => result,
    }
}

fn keeper(settings: &Settings, tools: Arc<dyn Tools>) -> Keeper {
    Keeper::new(&crate::firewall::tag(&super::instance(&settings.state_dir)), tools)
}

fn is_out_of_reach(fault: &Fault) -> bool {
    matches!(fault.reason, Reason::NftMissing | Reason::NftUnsupported | Reason::FirewallNotPermitted)
}

impl Step for FirewallStep {
    fn look(&self, seen: Seen) -> BoxFuture<'static, Looked> {
        self.clone().compare(seen).boxed()
    }

    fn act(&self, seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        self.clone().make_so(seen).boxed()
    }
}

#[cfg(test)]
mod tests;
