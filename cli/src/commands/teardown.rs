//! `morpheus teardown`

use forest_core::reason::Reason;

use super::plant;
use crate::failure::Failure;
use crate::local::Local;
use crate::local::record::Forest;
use crate::local::teardown::Fate;
use crate::report::{ActionReport, NodeAction};
use crate::ui::{Done, Ui, counted};

pub(super) async fn run(local: &Local, forest: &Forest, ui: &Ui) -> Result<Done, Failure> {
    let name = forest.id.as_str();
    let nodes = counted(forest.plan.members.len(), "node");
    ui.confirm(&format!("forest {name} and the data of its {nodes} will be gone for good"), name)?;
    let fates = local.teardown(&forest.id, &mut ui.progress()).await?;
    let problem = problem(name, &fates);
    let status = |end: &Result<(), Failure>| if end.is_ok() { "removed" } else { "failed" }.to_owned();
    let report = ActionReport {
        forest_id: name.to_owned(),
        action: "teardown",
        nodes: fates
            .iter()
            .map(|(node, ip, end)| NodeAction {
                node_id: node.to_string(),
                ip: ip.clone(),
                status: status(end),
            })
            .collect(),
        error: problem.as_ref().map(Failure::json),
        plan: None,
        lost: Vec::new(),
    };
    let text = match problem {
        None => format!("{name} is gone"),
        Some(_) => plant::nodes(&report),
    };
    Ok(Done::new(super::json(&report), text).with_problem(problem))
}

/// All that went wrong, in one.
fn problem(name: &str, fates: &[Fate]) -> Option<Failure> {
    let failures: Vec<&Failure> = fates.iter().filter_map(|(_, _, end)| end.as_ref().err()).collect();
    let reason = failures.first().map_or(Reason::StillRunning, |failure| failure.reason);
    let all: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
    (!all.is_empty()).then(|| {
        let message = format!("{}; then run it again: morpheus teardown {name}", all.join("; "));
        Failure::new(reason, message)
    })
}
