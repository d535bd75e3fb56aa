//! `morpheus list` and `morpheus status`

use std::path::Path;

use forest_core::health::Status;
use forest_core::id::ForestId;
use forest_core::reason::Reason;
use forest_core::registry::Registry;
use serde_json::{Value, json};

use super::cloud::Nodes;
use super::grow::word;
use super::plant::connect;
use super::remote::{Remote, find_forest};
use super::resolve::There;
use super::table::{or_dash, table};
use crate::cloud::ready::cause;
use crate::cloud::record as cloud;
use crate::cloud::site::Site;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::local::record::{Forest, PROVIDER};
use crate::local::{Local, targets};
use crate::probe::{Http, Look};
use crate::report::{self, Listed, Orphan, StatusReport};
use crate::store::Store;
use crate::ui::Done;

/// The forests of this machine, and those of the configured registry.
pub(super) fn list(local: Option<&Local>, remote: Option<&Store>) -> Result<Done, Failure> {
    let mut forests = match local {
        Some(local) => listed_in(&local.store.read()?),
        None => Vec::new(),
    };
    if let Some(remote) = remote {
        forests.extend(listed_in(&remote.read()?));
    }
    let rows = forests.iter().map(|forest| {
        let Listed { forest_id, provider, location, size, status, created_at, nodes } = forest.clone();
        vec![
            forest_id,
            or_dash(provider),
            or_dash(location),
            or_dash(size),
            nodes.to_string(),
            or_dash(status),
            or_dash(created_at),
        ]
    });
    let text = match forests.is_empty() {
        true => "no forests yet: morpheus plant local".to_owned(),
        false => table(&["forest", "provider", "location", "size", "nodes", "status", "created"], rows),
    };
    Ok(Done::new(json!({"forests": super::json(&forests)}), text))
}

fn listed_in(registry: &Registry) -> Vec<Listed> {
    let ids = registry.forest_names().into_iter().filter_map(|name| name.parse().ok());
    ids.map(|id| listed(registry, &id)).collect()
}

fn listed(registry: &Registry, id: &ForestId) -> Listed {
    let record = registry.forest(id);
    let text =
        |key: &str| record.and_then(|record| record.get(key)).and_then(Value::as_str).map(str::to_owned);
    let members = Forest::find(registry, id).map(|forest| forest.plan.members.len());
    let members = members.or_else(|| cloud::Plan::find(registry, id).map(|plan| plan.members.len()));
    Listed {
        forest_id: id.to_string(),
        provider: text("provider"),
        location: text("location"),
        size: text("size"),
        status: text("status"),
        created_at: text("created_at"),
        nodes: members.unwrap_or_else(|| registry.entries(id).len()),
    }
}

/// How a forest of this machine is.
pub(super) async fn status(local: &Local, forest: &Forest) -> Result<Done, Failure> {
    let name = forest.id.as_str();
    let looks = local.http.look(&targets(&forest.plan)).await;
    let provider = forest.text("provider").unwrap_or(PROVIDER);
    let report = report::status(name, provider, &looks, orphans(local, forest)?);
    let next = format!("morpheus grow {name} --repair, morpheus logs {name}");
    Ok(shown(&report, &looks, &next))
}

/// How a forest of the configured registry is.
pub(super) async fn remote_status(
    there: &There,
    named: Option<&Path>,
    env: &Environment,
) -> Result<Done, Failure> {
    let name = there.id.as_str();
    let Some(plan) = &there.plan else {
        let Remote { provider, targets, orphans } = find_forest(&there.registry, &there.id);
        let looks = Http::new()?.look(&targets).await;
        let report = report::status(name, &provider, &looks, orphans);
        return Ok(shown(&report, &looks, "look at the nodes named above"));
    };
    let site = Site::open(named, env)?;
    let seen = Nodes::find(&site, there, plan).await;
    let looks = site.http.look(&seen.targets).await;
    let report = report::status(name, cloud::PROVIDER, &looks, seen.orphans).with_absent(seen.absent);
    let next = match report.orphans.is_empty() && report.nodes.iter().all(|node| !node.ip.is_empty()) {
        true => format!("morpheus logs {name}, morpheus connect {name}"),
        false => format!("morpheus grow {name} --repair, morpheus logs {name}"),
    };
    Ok(shown(&report, &looks, &next))
}

/// `next` is what a person can do about a forest that is not healthy.
fn shown(report: &StatusReport, looks: &[Look], next: &str) -> Done {
    let name = &report.forest_id;
    let rows = report.nodes.iter().map(|node| {
        let look = looks.iter().find(|look| look.target.node.as_str() == node.node_id);
        let (status, what) =
            look.map_or_else(|| ("unreachable", node.error.clone().unwrap_or_default()), words);
        vec![node.node_id.clone(), node.ip.clone(), status.to_owned(), what]
    });
    let mut text =
        format!("{name}: {}\n{}", word(report.status), table(&["node", "address", "health", ""], rows));
    for orphan in &report.orphans {
        text.push_str(&format!("\nleft over: {} {}", orphan.kind, orphan.id));
    }
    text.push_str(&connect(&report.client_urls));
    if report.client_urls.is_empty() && report.provider == cloud::PROVIDER {
        text.push_str(&format!("\n\nclients:  morpheus connect {name}"));
    }
    let problem = (report.status != Status::Pass)
        .then(|| Failure::new(Reason::NotHealthy, format!("forest {name} is not healthy; next: {next}")));
    Done::new(super::json(report), text).with_problem(problem)
}

fn words(look: &Look) -> (&'static str, String) {
    match &look.health {
        Err(why) => ("unreachable", why.clone()),
        Ok(health) if health.report.status == Status::Pass => ("pass", String::new()),
        Ok(health) => (word(health.report.status), cause(&health.report)),
    }
}

/// Entries and directories of nodes that the forest does not have.
fn orphans(local: &Local, forest: &Forest) -> Result<Vec<Orphan>, Failure> {
    let is_member = |id: &str| forest.plan.members.iter().any(|member| member.id.as_str() == id);
    let entries = local.store.read()?.entries(&forest.id).into_iter().map(|entry| ("entry", entry.id));
    let directories = local.directories(&forest.id).into_iter().map(|id| ("directory", id.to_string()));
    let all = entries.chain(directories).filter(|(_, id)| !is_member(id));
    Ok(all.map(|(kind, id)| Orphan { kind, id }).collect())
}
