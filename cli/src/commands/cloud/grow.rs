//! `morpheus grow` for a forest in the cloud.

use std::path::Path;
use std::time::Duration;

use forest_core::id::{ForestId, NodeId};
use forest_core::registry::Registry;
use jiff::Timestamp;

use super::super::grow::{question, text};
use super::super::remote::find_forest;
use super::super::resolve::There;
use super::Nodes;
use crate::args::Grow;
use crate::cloud::fell::discard;
use crate::cloud::planting::Outcome;
use crate::cloud::record::{self, Plan, Worker, live};
use crate::cloud::repair::Misfits;
use crate::cloud::site::Site;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::probe::Http;
use crate::report::{self, GrowReport, cooling, wants_another};
use crate::ui::{Done, Ui, counted};

pub(in super::super) async fn run(
    there: &There,
    args: &Grow,
    named: Option<&Path>,
    env: &Environment,
    ui: &Ui,
) -> Result<Done, Failure> {
    if there.plan.is_none() && args.nodes.is_none() && !args.auto && !args.repair {
        // Of whoever's making, how it is can be asked.
        let looks = Http::new()?.look(&find_forest(&there.registry, &there.id).targets).await;
        let report = report::grow(there.id.as_str(), &looks, args.threshold);
        return Ok(Done::new(super::super::json(&report), text(&report)));
    }
    there.plan()?;
    let site = Site::open(named, env)?;
    let growing = Growing { site: &site, forest: &there.id, args, env, ui };
    growing.run().await
}

struct Growing<'a> {
    site: &'a Site,
    forest: &'a ForestId,
    args: &'a Grow,
    env: &'a Environment,
    ui: &'a Ui,
}

impl Growing<'_> {
    async fn run(&self) -> Result<Done, Failure> {
        let (mut outcomes, mut reasons) = (Vec::new(), Vec::new());
        if self.args.repair {
            outcomes.extend(self.repair().await?);
        }
        // Whoever interrupts a repair, or whose repair fails, does not want to pay for more machines.
        let stopped = outcomes.iter().any(|outcome| outcome.failure.is_some());
        let add = if stopped { 0 } else { self.add(&mut outcomes, &mut reasons).await? };
        let resume = format!("morpheus grow {} {}", self.forest, self.rest(add));
        let problem = outcomes.iter().find_map(|outcome| outcome.problem(&resume));
        let mut report = match (self.look().await, problem.as_ref()) {
            (Ok(report), _) => report,
            // What stopped it says more than that the forest cannot be looked at now.
            (Err(_), Some(problem)) => return Err(problem.clone()),
            (Err(unseen), None) => return Err(unseen),
        };
        report.reasons.append(&mut reasons);
        report.added = outcomes.iter().flat_map(Outcome::ready).map(ToString::to_string).collect();
        report.error = problem.as_ref().map(Failure::json);
        let done = Done::new(super::super::json(&report), text(&report)).with_problem(problem);
        Ok(Done { always_json: self.args.auto, ..done })
    }

    /// Adds as many nodes as are wanted; how many.
    async fn add(&self, outcomes: &mut Vec<Outcome>, reasons: &mut Vec<String>) -> Result<u8, Failure> {
        let seen = live(&self.site.registry()?, self.forest)?.grown_at;
        let add = self.wanted(reasons).await?;
        if add > 0 {
            let registry = self.site.registry()?;
            let plan = live(&registry, self.forest)?;
            let prepared = self.prepare(&registry, &plan, usize::from(add)).await?;
            // As it would be recorded: a name that is taken is not recorded, for it would never get a machine.
            let (_, planned, nodes) = record::grow(&registry, self.forest, add, &Worker::current())?;
            self.site.names_are_free(&planned.mark(self.forest), &nodes).await?;
            // Of two that find the load too high at the same moment only one adds a node.
            let seen = self.args.auto.then_some(seen.as_deref());
            let (limit, mut progress) = (self.limit(), self.ui.progress());
            let grown = self.site.grow(self.forest, add, seen, &prepared, limit, &mut progress);
            outcomes.push(grown.await?);
        }
        Ok(add)
    }

    /// The options of the command that goes on, once `add` nodes were recorded.
    fn rest(&self, add: u8) -> String {
        match (add, self.args.nodes) {
            (0, Some(nodes)) => format!("--repair --nodes {nodes}"),
            (0, None) => "--repair".to_owned(),
            (add, _) => format!("--nodes {add}"),
        }
    }

    /// How all nodes are.
    async fn look(&self) -> Result<GrowReport, Failure> {
        let registry = self.site.registry()?;
        let plan = live(&registry, self.forest)?;
        let there = There { id: self.forest.clone(), registry, plan: None };
        let nodes = Nodes::find(self.site, &there, &plan).await;
        let looks = self.site.http.look(&nodes.targets).await;
        Ok(report::grow(self.forest.as_str(), &looks, self.args.threshold).with_absent(nodes.absent))
    }

    /// How many nodes to add, and why so many.
    async fn wanted(&self, reasons: &mut Vec<String>) -> Result<u8, Failure> {
        if let Some(nodes) = self.args.nodes {
            return Ok(nodes);
        }
        if self.args.repair && !self.args.auto {
            return Ok(0);
        }
        let report = self.look().await?;
        if !self.args.auto {
            return Ok(u8::from(report.cpu_high && self.ui.ask(&question(&report))));
        }
        let plan = live(&self.site.registry()?, self.forest)?;
        let verdict = automatic(&report, &plan, self.args, Timestamp::now());
        reasons.push(verdict.1);
        Ok(u8::from(verdict.0))
    }

    /// Brings record, machines and entries together again.
    async fn repair(&self) -> Result<Option<Outcome>, Failure> {
        let api = self.site.api()?;
        let selector = live(&self.site.registry()?, self.forest)?.mark(self.forest).forest_selector();
        let before = api.servers(&selector).await?;
        let registry = self.site.registry()?;
        let plan = live(&registry, self.forest)?;
        let after = api.servers(&selector).await?;
        let misfits = Misfits::find(&registry, self.forest, &plan, &before, &after, &Worker::current());
        if !misfits.machines.is_empty() {
            let names: Vec<&str> = misfits.machines.iter().map(|(_, name)| name.as_str()).collect();
            let what = format!(
                "{} of no node of {}, {}, will be deleted with its data",
                counted(names.len(), "machine"),
                self.forest,
                names.join(", ")
            );
            self.ui.confirm(&what, self.forest.as_str())?;
            let machines: Vec<u64> = misfits.machines.iter().map(|(id, _)| *id).collect();
            discard(api, &machines, self.limit()).await?;
        }
        if !misfits.entries.is_empty() {
            self.site.store.update(|registry| {
                Ok(record::drop_entries(registry, self.forest, &misfits.entries, Timestamp::now()))
            })?;
        }
        if misfits.lost.is_empty() {
            return Ok(None);
        }
        let prepared = self.prepare(&registry, &plan, 0).await?;
        let (limit, mut progress) = (self.limit(), self.ui.progress());
        self.site.renew(self.forest, &misfits.lost, &prepared, limit, &mut progress).await.map(Some)
    }

    async fn prepare(
        &self,
        registry: &Registry,
        plan: &Plan,
        more: usize,
    ) -> Result<crate::cloud::preflight::Prepared, Failure> {
        let prepared = self.site.prepare(registry, Some(plan), more, &self.args.programs, self.env).await?;
        for note in &prepared.notes {
            self.ui.tell(&format!("note: {note}"));
        }
        Ok(prepared)
    }

    fn limit(&self) -> Duration {
        self.args.timeout.cloud()
    }
}

/// `--auto`: one node more, or not, and why. Pure.
fn automatic(report: &GrowReport, plan: &Plan, args: &Grow, now: Timestamp) -> (bool, String) {
    let max = args.max_nodes;
    let since = plan.grown_at.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
    match (report.cpu_high, wants_another(report, max), cooling(since, args.cooldown, now)) {
        (false, ..) => (false, "no node is added: the load does not ask for one".to_owned()),
        (true, false, _) => (false, format!("no node is added: there are --max-nodes {max} already")),
        (true, true, Some(left)) => {
            let left = counted(usize::try_from(left).unwrap_or_default(), "second");
            (false, format!("no node is added: the last one came just now, and there is no other for {left}"))
        }
        (true, true, None) => (true, "one node is added: the load asks for it".to_owned()),
    }
}

impl Outcome {
    /// The nodes that became healthy.
    fn ready(&self) -> impl Iterator<Item = &NodeId> {
        self.ends.iter().filter(|(_, end)| end.why().is_none()).map(|(node, _)| node)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::local::record::Status;

    fn args(line: &str) -> Grow {
        let words = format!("morpheus grow grove {line}");
        match Cli::try_parse_from(words.split_whitespace()).unwrap().command {
            Command::Grow(args) => args,
            _ => unreachable!(),
        }
    }

    #[test]
    fn a_node_is_added_for_load_alone_within_the_maximum_and_after_a_pause() {
        let mut plan = Plan {
            status: Status::Active,
            planting: "p".to_owned(),
            next_node: 4,
            members: Vec::new(),
            pending: Vec::new(),
            programs: None,
            upgrading: None,
            older: Vec::new(),
            grown_at: None,
        };
        let mut report = report::grow("grove", &[], 80.0);
        let now: Timestamp = "2026-11-22T20:16:55Z".parse().unwrap();
        let decide = |report: &GrowReport, plan: &Plan, line: &str| automatic(report, plan, &args(line), now);
        assert!(!decide(&report, &plan, "--auto").0);
        (report.cpu_high, report.total_nodes) = (true, 3);
        assert!(decide(&report, &plan, "--auto").0);
        assert!(decide(&report, &plan, "--auto --max-nodes 3").1.contains("--max-nodes 3"));
        plan.grown_at = Some("2026-11-22T20:15:00Z".to_owned());
        assert!(decide(&report, &plan, "--auto").1.contains("no other for 185 seconds"));
        assert!(decide(&report, &plan, "--auto --cooldown 60").0);
    }
}
