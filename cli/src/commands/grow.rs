//! `morpheus grow`: how loaded a forest is; more nodes; dead agents started.

use forest_core::health::Status;
use jiff::Timestamp;

use super::table::{or_dash, table};
use crate::args::Grow;
use crate::config::EngineKind;
use crate::failure::Failure;
use crate::local::grow::Wish;
use crate::local::plant::Raised;
use crate::local::record::Forest;
use crate::local::{Local, record, targets};
use crate::report::{self, GrowReport};
use crate::ui::{Done, Ui, counted, note};

pub(super) async fn run(local: &Local, forest: &Forest, args: &Grow, ui: &Ui) -> Result<Done, Failure> {
    let add = match args.nodes {
        Some(count) => count,
        None => due(local, forest, args, ui).await,
    };
    let raised = if add > 0 || args.repair {
        let limit = args.timeout.local();
        let wish = Wish { add, repair: args.repair, limit };
        Some(local.grow(&forest.id, wish, &mut ui.progress()).await?)
    } else {
        None
    };
    let plan = match &raised {
        Some(raised) => raised.plan.clone(),
        None => record::live(&local.store.read()?, &forest.id)?,
    };
    let looks = local.http.look(&targets(&plan)).await;
    let mut report = report::grow(&args.forest, &looks, args.threshold);
    report.added = added(raised.as_ref());
    let problem = raised.as_ref().and_then(Raised::problem);
    report.error = problem.as_ref().map(Failure::json);
    let text = text(&report);
    let done = Done::new(super::json(&report), text).with_problem(problem);
    Ok(Done { always_json: args.auto, ..done })
}

/// How many nodes are to be added though no number was given: with `--auto` as the load asks for it, on a terminal
/// as a person says.
async fn due(local: &Local, forest: &Forest, args: &Grow, ui: &Ui) -> u8 {
    if !args.auto && !ui.may_ask() {
        return 0;
    }
    let looks = local.http.look(&targets(&forest.plan)).await;
    let report = report::grow(&args.forest, &looks, args.threshold);
    if !report::wants_another(&report, args.max_nodes) {
        return 0;
    }
    if forest.plan.programs.engine == EngineKind::Nimsforest {
        note(record::ONE_NIMSFOREST, "\n");
        return 0;
    }
    if !args.auto {
        return u8::from(ui.ask(&question(&report)));
    }
    match report::cooling(forest.plan.grown_at, args.cooldown, Timestamp::now()) {
        None => 1,
        Some(left) => {
            let message = "the load is high, and the last node was added just now: no other for";
            note(
                &format!("{message} {}", counted(usize::try_from(left).unwrap_or_default(), "second")),
                "\n",
            );
            0
        }
    }
}

/// Those that were pending when they were started.
fn added(raised: Option<&Raised>) -> Vec<String> {
    let raised = raised.into_iter();
    raised
        .flat_map(|raised| raised.plan.pending.iter().filter(|id| raised.ends.contains_key(id)))
        .map(ToString::to_string)
        .collect()
}

/// What a person is asked once the load is high.
pub(super) fn question(report: &GrowReport) -> String {
    format!("{}: add a node to {}?", report.reasons.first().map_or("", String::as_str), report.forest_id)
}

pub(super) fn text(report: &GrowReport) -> String {
    let rows = report.nodes.iter().map(|node| {
        vec![
            node.node_id.clone(),
            node.ip.clone(),
            node.health.map_or("unreachable", word).to_owned(),
            or_dash(node.cpu_percent),
            or_dash(node.mem_mb),
            or_dash(node.connections),
            node.error.clone().unwrap_or_default(),
        ]
    });
    let table = table(&["node", "address", "health", "cpu %", "mem MB", "clients", ""], rows);
    let mut text = format!(
        "{table}\n\n{} of {} answer; {}, the agents' own among them; {} MB on average",
        report.reachable_nodes,
        counted(report.total_nodes, "node"),
        counted(usize::try_from(report.total_connections).unwrap_or(usize::MAX), "client"),
        report.avg_mem_mb,
    );
    for reason in &report.reasons {
        text.push_str(&format!("\n- {reason}"));
    }
    if report.cpu_high {
        text.push_str(&format!("\nthe load is high: morpheus grow {} --nodes 1", report.forest_id));
    }
    text
}

/// The word for a status.
pub(super) fn word(status: Status) -> &'static str {
    match status {
        Status::Pass => "pass",
        Status::Warn => "warn",
        Status::Fail => "fail",
    }
}
