//! `morpheus shrink` for a forest in the cloud.

use std::path::Path;

use super::super::resolve::There;
use super::super::shrink::{confirm, done};
use super::Nodes;
use crate::args::Shrink;
use crate::cloud::record::{self, Plan};
use crate::cloud::shrink::Shrinking;
use crate::cloud::site::Site;
use crate::cloud::ssh::{self, Ssh};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::shrinking::chosen;
use crate::ui::{Done, Ui};

pub(in super::super) async fn run(
    there: &There,
    args: &Shrink,
    named: Option<&Path>,
    env: &Environment,
    ui: &Ui,
) -> Result<Done, Failure> {
    there.plan()?;
    let plan = &record::live(&there.registry, &there.id)?;
    // Also those who have left: a command that was cut short is finished.
    let mut known = plan.members.clone();
    known.extend(Plan::left(&there.registry, &there.id));
    let leavers = chosen(&there.id, &known, &args.nodes)?;
    let live = leavers.iter().filter(|node| plan.members.contains(node));
    let live: Vec<String> = live.map(ToString::to_string).collect();
    if !live.is_empty() {
        // Somebody is to be left.
        chosen(&there.id, &plan.members, &live)?;
    }
    let site = Site::open(named, env)?;
    site.api()?;
    let program = ssh::program(env)?;
    let ssh = Ssh::new(&site.machine, &plan.mark(&there.id), env)?;
    confirm(args, ui)?;
    let nodes = Nodes::find(&site, there, plan).await;
    let shrinking = Shrinking {
        site: &site,
        forest: &there.id,
        plan,
        targets: &nodes.targets,
        ssh: &ssh,
        program: &program,
        force: args.force,
    };
    let shrunk = shrinking.run(&leavers, &mut ui.progress()).await;
    Ok(done(args, &shrunk))
}
