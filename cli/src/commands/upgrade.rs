//! `morpheus upgrade`

use super::plant;
use crate::args::Upgrade;
use crate::failure::Failure;
use crate::local::record::{Forest, Programs};
use crate::local::teardown::Fate;
use crate::local::{Local, programs};
use crate::report::{ActionReport, NodeAction};
use crate::ui::{Done, Ui, counted};

pub(super) async fn run(local: &Local, forest: &Forest, args: &Upgrade, ui: &Ui) -> Result<Done, Failure> {
    let agent = args.agent.as_ref().map(|path| programs::given(path, "--agent")).transpose()?;
    let engine = args.engine.as_ref().map(|path| programs::given(path, "--engine")).transpose()?;
    let wanted = |before: &Programs| Programs {
        agent: agent.clone().unwrap_or_else(|| before.agent.clone()),
        binary: engine.clone().or_else(|| before.binary.clone()),
        download: if engine.is_some() { None } else { before.download.clone() },
        ..before.clone()
    };
    let limit = args.timeout.local();
    let fates = local.upgrade(&forest.id, &wanted, limit, &mut ui.progress()).await?;
    Ok(done(args, &fates, forest.plan.members.len()))
}

/// What is said of it. `all`: how many nodes the forest has.
pub(super) fn done(args: &Upgrade, fates: &[Fate], all: usize) -> Done {
    let problem = fates.iter().find_map(|(node, _, end)| {
        Some(stopped(&args.forest, node.as_str(), end.as_ref().err()?, fates, all))
    });
    let report = ActionReport {
        forest_id: args.forest.clone(),
        action: "upgrade",
        nodes: fates
            .iter()
            .map(|(node, ip, end)| NodeAction {
                node_id: node.to_string(),
                ip: ip.clone(),
                status: if end.is_ok() { "pass" } else { "failed" }.to_owned(),
            })
            .collect(),
        error: problem.as_ref().map(Failure::json),
        plan: None,
        lost: Vec::new(),
    };
    Done::new(super::json(&report), plant::nodes(&report)).with_problem(problem)
}

/// Where it stopped, and how to go on.
fn stopped(forest: &str, node: &str, failure: &Failure, fates: &[Fate], all: usize) -> Failure {
    let left = counted(all.saturating_sub(fates.len()), "node");
    let message = format!(
        "{node} did not come back: {}; {left} left as before. Next: morpheus logs {forest} {node}; then run the upgrade \
         again to go on, or with the programs of before to go back",
        failure.message
    );
    Failure::new(failure.reason, message)
}
