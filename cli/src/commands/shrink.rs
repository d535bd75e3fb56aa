//! `morpheus shrink`

use super::plant;
use crate::args::Shrink;
use crate::failure::Failure;
use crate::local::Local;
use crate::local::record::Forest;
use crate::report::{ActionReport, NodeAction};
use crate::ui::{Done, Ui, counted};

pub(super) async fn run(local: &Local, forest: &Forest, args: &Shrink, ui: &Ui) -> Result<Done, Failure> {
    let (name, nodes) = (&args.forest, counted(args.nodes.len(), "node"));
    let loss = if args.force { ", with whatever only they have" } else { "" };
    ui.confirm(&format!("{nodes} will leave forest {name} for good{loss}"), name)?;
    let shrunk = local.shrink(&forest.id, &args.nodes, args.force, &mut ui.progress()).await?;
    let problem = shrunk.fates.iter().find_map(|(_, _, end)| end.clone().err());
    let report = ActionReport {
        forest_id: name.clone(),
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
    };
    let mut text = plant::nodes(&report);
    if !shrunk.lost.is_empty() {
        text.push_str(&format!("\ndestroyed by --force: {}", shrunk.lost.join(", ")));
    }
    Ok(Done::new(super::json(&report), text).with_problem(problem))
}
