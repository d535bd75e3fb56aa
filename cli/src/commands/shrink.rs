//! `morpheus shrink`

use super::plant;
use crate::args::Shrink;
use crate::failure::Failure;
use crate::local::Local;
use crate::local::record::Forest;
use crate::report::{ActionReport, NodeAction};
use crate::shrinking::Shrunk;
use crate::ui::{Done, Ui, counted};

pub(super) async fn run(local: &Local, forest: &Forest, args: &Shrink, ui: &Ui) -> Result<Done, Failure> {
    confirm(args, ui)?;
    let shrunk = local.shrink(&forest.id, &args.nodes, args.force, &mut ui.progress()).await?;
    Ok(done(args, &shrunk))
}

/// Asks a person, who is told what is at stake.
pub(super) fn confirm(args: &Shrink, ui: &Ui) -> Result<(), Failure> {
    let (name, nodes) = (&args.forest, counted(args.nodes.len(), "node"));
    let loss = if args.force { ", with whatever only they have" } else { "" };
    ui.confirm(&format!("{nodes} will leave forest {name} for good{loss}"), name)
}

/// What became of each.
pub(super) fn done(args: &Shrink, shrunk: &Shrunk) -> Done {
    let problem = shrunk.fates.iter().find_map(|(_, _, end)| end.clone().err());
    let report = ActionReport {
        forest_id: args.forest.clone(),
        action: "shrink",
        nodes: shrunk
            .fates
            .iter()
            .map(|(node, ip, end)| NodeAction {
                node_id: node.to_string(),
                ip: ip.clone(),
                status: if end.is_ok() { "removed" } else { "failed" }.to_owned(),
            })
            .collect(),
        error: problem.as_ref().map(Failure::json),
        plan: None,
        lost: shrunk.lost.clone(),
    };
    let mut text = plant::nodes(&report);
    if !shrunk.lost.is_empty() {
        text.push_str(&format!("\nlost, or without a leader: {}", shrunk.lost.join(", ")));
    }
    Done::new(super::json(&report), text).with_problem(problem)
}
