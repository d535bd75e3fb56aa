//! `morpheus rotate-secrets`

use std::path::Path;

use forest_core::id::ForestId;
use forest_core::registry::Registry;

use super::cloud::Nodes;
use super::plant;
use super::resolve::There;
use crate::args::RotateSecrets;
use crate::cloud::site::Site;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::local::record::{self, Forest};
use crate::local::{Local, lock, targets};
use crate::probe::Target;
use crate::report::{ActionReport, NodeAction};
use crate::rotation::Rotator;
use crate::ui::{Done, Ui};

pub(super) async fn local(
    local: &Local,
    forest: &Forest,
    args: &RotateSecrets,
    ui: &Ui,
) -> Result<Done, Failure> {
    let _lock = lock::acquire(&local.layout, &forest.id)?;
    let nodes = || {
        let registry = local.store.read()?;
        Ok(with_strangers(&registry, &forest.id, targets(&record::live(&registry, &forest.id)?)))
    };
    let rotator = Rotator { forest: &forest.id, store: &local.store, http: &local.http, targets: &nodes };
    run(&rotator, args, args.timeout.local(), ui).await
}

pub(super) async fn remote(
    there: &There,
    args: &RotateSecrets,
    named: Option<&Path>,
    env: &Environment,
    ui: &Ui,
) -> Result<Done, Failure> {
    let plan = there.plan()?;
    let site = Site::open(named, env)?;
    let found = Nodes::find(&site, there, plan).await;
    if let Some(absent) = found.absent.first() {
        let message = format!("{}: {}; nothing was changed", absent.node_id, absent.error);
        return Err(Failure::new(forest_core::reason::Reason::AgentUnreachable, message));
    }
    let asked = found.targets;
    let nodes = || {
        let registry = site.store.read()?;
        // Where a node is asked is known from before; one that has left is not waited for.
        let stays = |target: &Target| registry.tombstone(&there.id, &target.node).is_none();
        let known = asked.iter().filter(|target| stays(target)).cloned().collect();
        Ok(with_strangers(&registry, &there.id, known))
    };
    let rotator = Rotator { forest: &there.id, store: &site.store, http: &site.http, targets: &nodes };
    run(&rotator, args, args.timeout.cloud(), ui).await
}

/// The nodes that are known, and those that have registered themselves beside them: they live by the same secrets.
fn with_strangers(registry: &Registry, forest: &ForestId, mut known: Vec<Target>) -> Vec<Target> {
    for target in registry.entries(forest).iter().filter_map(Target::of) {
        let is_known = known.iter().any(|known| known.node == target.node);
        if !is_known && registry.tombstone(forest, &target.node).is_none() {
            known.push(target);
        }
    }
    known
}

async fn run(
    rotator: &Rotator<'_>,
    args: &RotateSecrets,
    limit: std::time::Duration,
    ui: &Ui,
) -> Result<Done, Failure> {
    let (asked, end) = rotator.run(limit, &mut ui.progress()).await?;
    let report = ActionReport {
        forest_id: args.forest.clone(),
        action: "rotate-secrets",
        nodes: asked
            .iter()
            .map(|target| NodeAction {
                node_id: target.node.to_string(),
                ip: target.ip.to_string(),
                status: if end.is_ok() { "pass" } else { "failed" }.to_owned(),
            })
            .collect(),
        error: end.as_ref().err().map(Failure::json),
        plan: None,
        lost: Vec::new(),
    };
    Ok(Done::new(super::json(&report), plant::nodes(&report)).with_problem(end.err()))
}
