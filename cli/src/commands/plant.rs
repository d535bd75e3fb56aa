//! `morpheus plant`

use std::path::Path;

use forest_core::reason::Reason;

use super::cloud;
use super::table::table;
use crate::args::{Plant, Word};
use crate::config::{Config, Provider, find};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::local::plant::{Order, Raised};
use crate::local::record::Plan;
use crate::local::{Local, programs, targets};
use crate::report::{ActionReport, NodeAction, client_urls};
use crate::ui::{Done, Ui};

pub(super) async fn run(
    args: &Plant,
    named: Option<&Path>,
    env: &Environment,
    ui: &Ui,
) -> Result<Done, Failure> {
    let config = match find(named, env).path {
        Some(path) => Config::load(&path, env)?,
        None => Config::default(),
    };
    let (place, size) = words(&args.words)?;
    let count = count(size, args.nodes)?;
    match place.or(config.provider) {
        Some(Provider::Local) => {}
        Some(Provider::Hetzner) => return cloud::plant::run(args, count, named, env, ui).await,
        None => return Err(Failure::new(Reason::Usage, BOTH_WAYS)),
    }
    let local = Local::open(env)?;
    let order = Order {
        name: args.name.clone(),
        count,
        programs: programs::find(&args.programs, &config.engine, count, env)?,
        limit: args.timeout.local(),
    };
    if args.dry_run {
        let (forest, plan) = local.preview(&order)?;
        let report = report(forest.as_str(), &plan, |_| "planned".to_owned());
        let text = format!("{forest} would be planted:\n{}", nodes(&report));
        return Ok(Done::new(super::json(&report), text));
    }
    let raised = local.plant(&order, &mut ui.progress()).await?;
    done(&local, &raised).await
}

/// Without a word and a configuration there is nothing to go by.
const BOTH_WAYS: &str = "where? There is no configuration that says it, and no word either. Two ways:\n  \
                         morpheus plant local     on this machine, with nothing but nats-server installed\n  \
                         morpheus plant cloud     on machines of a provider: morpheus init writes the configuration";

fn words(words: &[Word]) -> Result<(Option<Provider>, Option<u8>), Failure> {
    let (mut place, mut size) = (None, None);
    for word in words {
        let before = match word {
            Word::Cloud => place.replace(Provider::Hetzner).is_some(),
            Word::Local => place.replace(Provider::Local).is_some(),
            Word::Small => size.replace(1).is_some(),
            Word::Medium => size.replace(3).is_some(),
            Word::Large => size.replace(5).is_some(),
        };
        if before {
            let message = "one word says where (cloud, local), another how many (small, medium, large)";
            return Err(Failure::new(Reason::Usage, message));
        }
    }
    Ok((place, size))
}

fn count(size: Option<u8>, nodes: Option<u8>) -> Result<u8, Failure> {
    match (size, nodes) {
        (Some(_), Some(_)) => {
            Err(Failure::new(Reason::Usage, "a size and --nodes say the same: give one of them"))
        }
        (size, nodes) => Ok(size.or(nodes).unwrap_or(1)),
    }
}

async fn done(local: &Local, raised: &Raised) -> Result<Done, Failure> {
    let problem = raised.problem();
    let mut report = report(raised.forest.as_str(), &raised.plan, |id| {
        raised.ends.get(id).map_or("pass", |end| end.word()).to_owned()
    });
    report.error = problem.as_ref().map(Failure::json);
    let mut text = nodes(&report);
    if problem.is_none() {
        let urls = client_urls(&local.http.look(&targets(&raised.plan)).await);
        text = format!("{} is ready\n{text}{}", raised.forest, connect(&urls));
    }
    Ok(Done::new(super::json(&report), text).with_problem(problem))
}

/// How a client gets in: the addresses, and one command to paste.
pub(super) fn connect(urls: &[String]) -> String {
    match urls.first() {
        None => String::new(),
        Some(first) => {
            format!("\n\nclients:  {}\ntry:      nats --server {first} pub hello world", urls.join(","))
        }
    }
}

fn report(forest: &str, plan: &Plan, status: impl Fn(&forest_core::id::NodeId) -> String) -> ActionReport {
    let nodes = plan.members.iter().map(|member| NodeAction {
        node_id: member.id.to_string(),
        ip: member.ip.to_string(),
        status: status(&member.id),
    });
    ActionReport {
        forest_id: forest.to_owned(),
        action: "plant",
        nodes: nodes.collect(),
        error: None,
        plan: None,
        lost: Vec::new(),
    }
}

/// The nodes of a report, for people.
pub(super) fn nodes(report: &ActionReport) -> String {
    let rows =
        report.nodes.iter().map(|node| vec![node.node_id.clone(), node.ip.clone(), node.status.clone()]);
    table(&["node", "address", "status"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_a_meaning() {
        assert_eq!(words(&[Word::Local, Word::Large]).unwrap(), (Some(Provider::Local), Some(5)));
        assert_eq!(words(&[Word::Medium]).unwrap(), (None, Some(3)));
        for wrong in [[Word::Local, Word::Cloud], [Word::Small, Word::Large]] {
            assert_eq!(words(&wrong).unwrap_err().reason, Reason::Usage);
        }
        assert_eq!((count(None, None), count(None, Some(7)), count(Some(3), None)), (Ok(1), Ok(7), Ok(3)));
        assert_eq!(count(Some(3), Some(3)).unwrap_err().reason, Reason::Usage);
    }
}
