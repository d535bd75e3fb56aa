//! `morpheus plant cloud`

use std::path::Path;

use forest_core::id::ForestId;
use forest_core::reason::Reason;
use forest_core::registry::Registry;

use super::super::plant::nodes;
use super::super::resolve;
use super::{action, dry_run};
use crate::args::Plant;
use crate::cloud::record::{self, Worker};
use crate::cloud::site::Site;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::names;
use crate::ui::{Done, Ui};

pub(in super::super) async fn run(
    args: &Plant,
    count: u8,
    named: Option<&Path>,
    env: &Environment,
    ui: &Ui,
) -> Result<Done, Failure> {
    let site = Site::open(named, env)?;
    site.api()?;
    let registry = site.registry()?;
    let forest = name(args, &registry);
    if resolve::local(env)?.is_some_and(|local| local.forest(forest.as_str()).is_ok()) {
        let message = format!("there is a forest {forest} on this machine already: choose another --name");
        return Err(Failure::new(Reason::NameTaken, message));
    }
    let plan = record::Plan::find(&registry, &forest);
    let more = plan.as_ref().map_or(usize::from(count), |_| 0);
    let prepared = site.prepare(&registry, plan.as_ref(), more, &args.programs, env).await?;
    // As it would be recorded: a name that is taken costs nothing yet.
    let request = site.request(count, &prepared);
    let (_, plan, members) = record::plant(&registry, &forest, &request, &Worker::current())?;
    site.names_are_free(&plan.mark(&forest), &members).await?;
    if args.dry_run {
        return dry_run::done(&site, &forest, &plan, &prepared);
    }
    for note in &prepared.notes {
        ui.tell(&format!("note: {note}"));
    }
    let limit = args.timeout.cloud();
    let outcome = site.plant(&forest, count, &prepared, limit, &mut ui.progress()).await?;
    let resume = format!("morpheus plant cloud --nodes {count} --name {forest}");
    let problem = outcome.problem(&resume);
    let report = action(&outcome, "plant", &outcome.nodes, problem.as_ref());
    let mut text = nodes(&report);
    if problem.is_none() {
        text = format!(
            "{forest} is ready\n{text}\n\nclients:  morpheus connect {forest}\nhealth:   morpheus status {forest}"
        );
    }
    Ok(Done::new(super::super::json(&report), text).with_problem(problem))
}

fn name(args: &Plant, registry: &Registry) -> ForestId {
    args.name.clone().unwrap_or_else(|| {
        let taken = registry.forest_names();
        names::fresh(rand::random(), |name| taken.iter().any(|taken| taken == name.as_str()))
    })
}
