//! The commands on forests in the cloud.

pub(super) mod dry_run;
pub(super) mod grow;
pub(super) mod logs;
pub(super) mod plant;
pub(super) mod shrink;
pub(super) mod teardown;
pub(super) mod upgrade;

use forest_core::id::NodeId;
use forest_core::reason::Reason;

use super::resolve::There;
use crate::cloud::planting::Outcome;
use crate::cloud::record::{Plan, Worker};
use crate::cloud::repair::Misfits;
use crate::cloud::site::{Site, has_ipv6};
use crate::failure::Failure;
use crate::hetzner::wire::Server;
use crate::local::unknown;
use crate::probe::Target;
use crate::report::{Absent, ActionReport, NodeAction, Orphan};

/// Where the nodes of a forest are asked, and what does not fit together.
pub(super) struct Nodes {
    pub(super) targets: Vec<Target>,
    pub(super) absent: Vec<Absent>,
    pub(super) orphans: Vec<Orphan>,
}

impl Nodes {
    /// From the registry, and the provider's list where that can be had.
    pub(super) async fn find(site: &Site, there: &There, plan: &Plan) -> Self {
        let servers = servers(site, there, plan).await;
        let listed = servers.as_deref();
        let v6 = has_ipv6();
        let (mut targets, mut absent) = (Vec::new(), Vec::new());
        let entries = there.registry.entries(&there.id);
        for node in &plan.members {
            let entry = entries.iter().find(|entry| entry.id == node.as_str()).and_then(Target::of);
            let server = listed.into_iter().flatten().find(|server| server.name == node.as_str());
            match (entry, server) {
                (Some(target), server) => targets.push(reached(target, server, v6)),
                (None, _) => absent.push(missing(node, listed.is_some(), server)),
            }
        }
        Self { targets, absent, orphans: orphans(there, plan, listed) }
    }

    /// Where one node is asked.
    ///
    /// # Errors
    /// [`Failure`] where there is no such node, or no address of it.
    pub(super) fn one(&self, plan: &Plan, name: &str) -> Result<Target, Failure> {
        if let Some(target) = self.targets.iter().find(|target| target.node.as_str() == name) {
            return Ok(target.clone());
        }
        match self.absent.iter().find(|absent| absent.node_id == name) {
            Some(absent) => Err(Failure::new(Reason::AgentUnreachable, format!("{name}: {}", absent.error))),
            None => {
                let all: Vec<String> = plan.members.iter().map(ToString::to_string).collect();
                Err(unknown("node", name, &all, Reason::NodeUnknown))
            }
        }
    }
}

/// The forest's machines; `None` where the provider does not tell, which costs no more than some detail.
async fn servers(site: &Site, there: &There, plan: &Plan) -> Option<Vec<Server>> {
    let selector = plan.mark(&there.id).forest_selector();
    let listed = match site.api() {
        Ok(api) => api.servers(&selector).await.map_err(Failure::from),
        Err(err) => Err(err),
    };
    listed.inspect_err(|err| tracing::info!(%err, "the provider is not asked")).ok()
}

/// Without IPv6 here, a node is asked by its IPv4.
fn reached(target: Target, server: Option<&Server>, v6: bool) -> Target {
    let v4 = server.and_then(Server::address_v4).filter(|_| !v6 && target.ip.is_ipv6());
    Target { ip: v4.unwrap_or(target.ip), ..target }
}

fn missing(node: &NodeId, listed: bool, server: Option<&Server>) -> Absent {
    let error = match (listed, server) {
        (true, None) => "it has no machine: morpheus grow FOREST --repair makes one".to_owned(),
        (_, Some(server)) => format!(
            "its machine at {} has not registered itself yet",
            server.address().map_or_else(|| "an unknown address".to_owned(), |ip| ip.to_string())
        ),
        (false, None) => "it has not registered itself yet".to_owned(),
    };
    Absent { node_id: node.to_string(), error }
}

fn orphans(there: &There, plan: &Plan, listed: Option<&[Server]>) -> Vec<Orphan> {
    let servers = listed.unwrap_or_default();
    let misfits = Misfits::find(&there.registry, &there.id, plan, servers, servers, &Worker::current());
    let machines = misfits.machines.into_iter().map(|(_, id)| Orphan { kind: "server", id });
    let entries = misfits.entries.into_iter().map(|node| Orphan { kind: "entry", id: node.to_string() });
    machines.chain(entries).collect()
}

/// How it went with each node of `nodes`, and what went wrong.
pub(super) fn action(
    outcome: &Outcome,
    action: &'static str,
    nodes: &[NodeId],
    problem: Option<&Failure>,
) -> ActionReport {
    let node = |node: &NodeId| NodeAction {
        node_id: node.to_string(),
        ip: outcome.addresses.get(node).map(ToString::to_string).unwrap_or_default(),
        status: outcome.ends.get(node).map_or("planned", |end| end.word()).to_owned(),
    };
    ActionReport {
        forest_id: outcome.forest.to_string(),
        action,
        nodes: nodes.iter().map(node).collect(),
        error: problem.map(Failure::json),
        plan: None,
        lost: Vec::new(),
    }
}
