//! `morpheus teardown` for a forest in the cloud.

use std::path::Path;

use forest_core::reason::Reason;

use super::super::plant::nodes;
use super::super::resolve::There;
use crate::cloud::seen::Seen;
use crate::cloud::site::Site;
use crate::cloud::ssh;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::report::{ActionReport, NodeAction};
use crate::ui::{Done, Ui, counted};

/// So long the provider may take to delete.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(600);

pub(in super::super) async fn run(
    there: &There,
    named: Option<&Path>,
    env: &Environment,
    ui: &Ui,
) -> Result<Done, Failure> {
    let (name, plan) = (&there.id, there.plan()?);
    let site = Site::open(named, env)?;
    let cloud = site.cloud()?;
    let count = counted(plan.members.len(), "node");
    ui.confirm(
        &format!("forest {name}, the machines and the data of its {count} will be gone for good"),
        name.as_str(),
    )?;
    let mut progress = ui.progress();
    progress.at(name.as_str(), "deleting machines, firewall, entries and secrets");
    let mark = plan.mark(name);
    let end = cloud.teardown(name, LIMIT).await;
    progress.end(name.as_str(), if end.is_ok() { "gone" } else { "not all is gone" });
    let gone = end.is_ok();
    let problem = match end {
        Ok(()) => {
            ssh::forget(&mark, env);
            leftovers(&Seen::look(site.api()?, &mark).await?, name.as_str()).err()
        }
        Err(err) => {
            let next = format!("next: run it again: morpheus teardown {name}");
            Some(Failure::new(err.reason, format!("{}\n{next}", err.message)))
        }
    };
    let entries = there.registry.entries(name);
    let report = ActionReport {
        forest_id: name.to_string(),
        action: "teardown",
        nodes: plan
            .members
            .iter()
            .map(|node| NodeAction {
                node_id: node.to_string(),
                ip: entries
                    .iter()
                    .find(|entry| entry.id == node.as_str())
                    .map(|entry| entry.ip.clone())
                    .unwrap_or_default(),
                status: if gone { "removed" } else { "failed" }.to_owned(),
            })
            .collect(),
        error: problem.as_ref().map(Failure::json),
        plan: None,
        lost: Vec::new(),
    };
    let text = match problem {
        None => format!("{name} is gone"),
        Some(_) => nodes(&report),
    };
    Ok(Done::new(super::super::json(&report), text).with_problem(problem))
}

/// What bears the forest's label still is of another planting: it is told, and left to a person.
fn leftovers(seen: &Seen, forest: &str) -> Result<(), Failure> {
    if seen.is_empty() {
        return Ok(());
    }
    let names = seen.names();
    let message = format!(
        "{forest} is gone, and the project has things of another forest of that name, which this registry knows nothing \
         of: {}; if they are nobody's, delete them in the Hetzner Cloud Console",
        names.join(", ")
    );
    Err(Failure::new(Reason::HetznerNameTaken, message))
}
