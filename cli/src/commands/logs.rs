//! `morpheus logs`

use forest_core::id::NodeId;
use forest_core::reason::Reason;
use forest_core::time::rfc3339;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args;
use crate::failure::Failure;
use crate::local::logs::{Line, since};
use crate::local::record::Forest;
use crate::local::{Local, unknown};
use crate::ui::{Done, Ui};

/// Prints line by line; as JSON, one object a line.
pub(super) async fn run(local: &Local, forest: &Forest, args: &args::Logs, ui: &Ui) -> Result<Done, Failure> {
    let mut nodes: Vec<NodeId> = forest.plan.members.iter().map(|member| member.id.clone()).collect();
    if let Some(name) = &args.node {
        let all: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        nodes.retain(|node| node.as_str() == name);
        if nodes.is_empty() {
            return Err(unknown("node", name, &all, Reason::NodeUnknown));
        }
    }
    let from = args.since.as_deref().map(|text| since(text, Timestamp::now())).transpose();
    let from = from.map_err(|message| Failure::new(Reason::Usage, message))?;
    let mut logs = local.logs(&forest.id, nodes);
    loop {
        for line in logs.read().into_iter().filter(|line| from.is_none() || line.time >= from) {
            if !ui.stream(&as_json(&line), &format!("{} {} | {}", line.node, line.source, line.text)) {
                return Ok(quiet());
            }
        }
        if !args.follow {
            return Ok(quiet());
        }
        logs.pause().await;
    }
}

fn as_json(line: &Line) -> Value {
    json!({
        "node_id": line.node.as_str(),
        "source": line.source,
        "time": line.time.map(rfc3339),
        "line": line.text,
    })
}

/// Everything was printed already.
pub(super) fn quiet() -> Done {
    Done::new(Value::Null, "")
}
