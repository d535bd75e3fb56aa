//! Our rules on this machine: what stands of them, putting them right, taking them out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use forest_core::reason::Reason;

use super::blocker;
use super::policy::Policy;
use super::table::{self, FAMILY, Table};
use super::tools::{ToolError, Tools};
use super::ufw;
use crate::fault::Fault;

/// Keeps the rules known by one tag.
#[derive(Clone)]
pub struct Keeper {
    tag: Arc<str>,
    tools: Arc<dyn Tools>,
    echo: Arc<Mutex<Option<Echo>>>,
}

/// How nft listed what was written, where it did so in other words: other versions may. Heard once, that may as well
/// be what somebody changed in the same moment; heard again after the next writing, it is nft's way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Echo {
    written: Table,
    heard: Table,
    again: bool,
}

impl Echo {
    /// After `written` was written once more, and listed as `heard`.
    fn after(last: Option<&Self>, written: Table, heard: Table) -> Option<Self> {
        let again = last.is_some_and(|last| last.written == written && last.heard == heard);
        (written != heard).then_some(Self { written, heard, again })
    }

    fn confirms(&self, wanted: &Table, found: &Table) -> bool {
        self.again && self.written == *wanted && self.heard == *found
    }
}

/// What stands of our rules, beside what should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    wanted: Table,
    standing: Option<Table>,
    table_stands: bool,
    ufw: ufw::Plan,
    ufw_rules: usize,
}

impl Comparison {
    /// Is everything as it should be?
    #[must_use]
    pub fn stands(&self) -> bool {
        self.table_stands && self.ufw.is_empty()
    }

    /// How many rules of ours stand.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.standing.as_ref().map_or(0, Table::rules) + self.ufw_rules
    }

    /// What putting it right would change.
    #[must_use]
    pub fn changes(&self, tag: &str) -> String {
        let mut changes = Vec::new();
        match &self.standing {
            _ if self.table_stands => {}
            None => {
                let rules = self.wanted.rules();
                changes.push(format!("table {FAMILY} {tag} is not there; it would get {rules} rules"));
            }
            Some(standing) => {
                let list = |all: BTreeSet<&str>, but: &BTreeSet<&str>| {
                    all.difference(but).copied().collect::<Vec<_>>().join(", ")
                };
                let let_in = list(self.wanted.peers(), &standing.peers());
                let shut_out = list(standing.peers(), &self.wanted.peers());
                changes.extend((!let_in.is_empty()).then(|| format!("would let in {let_in}")));
                changes.extend((!shut_out.is_empty()).then(|| format!("would shut out {shut_out}")));
                if changes.is_empty() {
                    changes.push(format!("the rules in table {FAMILY} {tag} are not ours; they would be"));
                }
            }
        }
        if !self.ufw.is_empty() {
            let (add, delete) = (self.ufw.add.len(), self.ufw.delete.len());
            changes.push(format!("ufw would get {add} rules more and {delete} less"));
        }
        changes.join("; ")
    }
}

impl Keeper {
    /// For the rules known by `tag`.
    #[must_use]
    pub fn new(tag: &str, tools: Arc<dyn Tools>) -> Self {
        Self { tag: tag.into(), tools, echo: Arc::default() }
    }

    /// By what the rules are known.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Compares what stands with what `policy` calls for.
    ///
    /// # Errors
    /// Why nobody can tell.
    pub async fn compare(&self, policy: &Policy) -> Result<Comparison, Fault> {
        let wanted = Table::of(&self.tag, policy);
        let standing = self.table().await?;
        let echo = self.echo();
        let confirmed = |found: &Table| echo.as_ref().is_some_and(|echo| echo.confirms(&wanted, found));
        let same = |found: &Table| *found == wanted || confirmed(found);
        let table_stands = standing.as_ref().is_some_and(same);
        let (ufw, ufw_rules) = match self.ufw()? {
            (true, found) => (found.plan(&ufw::wanted(policy)), found.ours.len()),
            // What is not active drops nothing, and is looked at again as soon as it is.
            (false, _) => (ufw::Plan::default(), 0),
        };
        Ok(Comparison { wanted, standing, table_stands, ufw, ufw_rules })
    }

    /// Puts right what differs.
    ///
    /// # Errors
    /// What nft or ufw refused.
    pub async fn enforce(&self, policy: &Policy) -> Result<String, Fault> {
        let found = self.compare(policy).await?;
        if !found.table_stands {
            self.nft(&["-j", "-f", "-"], found.wanted.transaction()).await?;
            let heard = self.table().await?;
            let echo = heard.and_then(|heard| Echo::after(self.echo().as_ref(), found.wanted.clone(), heard));
            *self.echo.lock().unwrap_or_else(PoisonError::into_inner) = echo;
        }
        self.change_ufw(&found.ufw).await?;
        Ok(format!("{} rules stand in table {FAMILY} {}", found.wanted.rules(), self.tag))
    }

    /// Takes out everything of ours, and nothing else; says whether there was anything.
    ///
    /// # Errors
    /// What nft or ufw refused.
    pub async fn take_out(&self) -> Result<bool, Fault> {
        let there = self.table().await?.is_some();
        if there {
            self.nft(&["-j", "-f", "-"], table::removal(&self.tag)).await?;
        }
        let plan = self.ufw()?.1.plan(&BTreeSet::new());
        self.change_ufw(&plan).await?;
        Ok(there || !plan.is_empty())
    }

    /// Is anything of ours there?
    ///
    /// # Errors
    /// Why nobody can tell.
    pub async fn is_there(&self) -> Result<bool, Fault> {
        Ok(self.table().await?.is_some() || !self.ufw()?.1.ours.is_empty())
    }

    /// A chain of somebody else that drops what `policy` lets in.
    ///
    /// # Errors
    /// `firewall_blocked_by_other`, naming it; or why nobody can tell.
    pub async fn unblocked(&self, policy: &Policy, own: Option<IpAddr>) -> Result<(), Fault> {
        // Without counters, and without what is in large sets of others.
        let listing = self.nft(&["-j", "-s", "-t", "list", "ruleset"], String::new()).await?;
        let Some(found) = blocker::find(&listing, &self.tag, policy, own).map_err(|err| unreadable(&err))?
        else {
            return Ok(());
        };
        let ports: Vec<_> = found.ports.iter().map(ToString::to_string).collect();
        let blocker::Blocker { family, table, chain, .. } = found;
        let message = format!(
            "chain {chain} of table {family} {table}, which is not ours, drops what comes in for TCP {}",
            ports.join(", ")
        );
        Err(Fault::new(Reason::FirewallBlockedByOther, message))
    }

    fn echo(&self) -> Option<Echo> {
        self.echo.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn table(&self) -> Result<Option<Table>, Fault> {
        match self.run(&["-j", "-s", "list", "table", FAMILY, &self.tag], String::new()).await {
            Ok(listing) => Table::parse(&self.tag, &listing).map_err(|err| unreadable(&err)),
            Err(err) if err.is_not_found() => Ok(None),
            Err(err) => Err(err.into()),
        }
    }

    async fn nft(&self, args: &[&str], input: String) -> Result<String, Fault> {
        Ok(self.run(args, input).await?)
    }

    async fn run(&self, args: &[&str], input: String) -> Result<String, ToolError> {
        self.tools.run("nft", args, input).await
    }

    /// Is ufw active, and what stands there?
    fn ufw(&self) -> Result<(bool, ufw::Standing), Fault> {
        let found = self.tools.ufw()?;
        Ok(found.map(|(active, text)| (active, ufw::Standing::parse(&text, &self.tag))).unwrap_or_default())
    }

    async fn change_ufw(&self, plan: &ufw::Plan) -> Result<(), Fault> {
        for command in plan.commands(&self.tag) {
            let args: Vec<&str> = command.iter().map(String::as_str).collect();
            self.tools.run("ufw", &args, String::new()).await?;
        }
        Ok(())
    }
}

fn unreadable(err: &serde_json::Error) -> Fault {
    Fault::new(Reason::FirewallFailed, format!("nft's list of rules is not JSON: {err}"))
}
