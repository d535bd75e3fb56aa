//! Carries out [`super::plan`]: looks, does all steps of a round at once, waits for their actions, looks again.

use std::time::Duration;

use forest_core::id::NodeId;
use forest_core::reason::Reason;
use futures::future::join_all;
use tokio::time::Instant;

use super::fell::{discard, drop_keys, fell};
use super::labels::Mark;
use super::offers::Offer;
use super::plan::{self, Learnt, Step, Wish};
use super::record::Standing;
use super::seen::Seen;
use crate::failure::Failure;
use crate::hetzner::wire::{Action, FirewallRef, NewPublicNet, NewServer, Server};
use crate::hetzner::{ApiError, Code, Hetzner};
use crate::progress::Progress;
use crate::ui::counted;

/// Between two looks at something that only time helps.
const PAUSE: Duration = Duration::from_secs(1);

/// Servers to be made.
pub struct Raising<'a> {
    /// Where.
    pub api: &'a Hetzner,
    /// What is wanted.
    pub wish: &'a Wish,
    /// Which machines, the best first.
    pub offers: &'a [Offer],
    /// What cloud-init of a node is given.
    pub user_data: &'a dyn Fn(&NodeId) -> String,
    /// Do they get an IPv4 as well?
    pub ipv4: bool,
    /// What the record says of the nodes now.
    pub standing: &'a dyn Fn() -> Result<Standing, Failure>,
}

impl Raising<'_> {
    /// Makes what is missing; the servers of the nodes, in their order.
    ///
    /// The provider does not tell what another command has taken down from what was never made; the record does. It is
    /// read before each round, and once more at the end: a teardown that wrote into it later sees all that was made.
    ///
    /// # Errors
    /// [`Failure`]; what was made stays, and the next command goes on from there, unless the nodes are not wanted any
    /// more: then it is deleted.
    pub async fn run(&self, limit: Duration, progress: &mut Progress) -> Result<Vec<Server>, Failure> {
        let made = self.make(limit, progress).await;
        match (self.standing)() {
            Ok(Standing::Wanted) => made,
            Ok(standing) => Err(self.take_back(&standing, limit).await),
            Err(unread) => made.and(Err(unread)),
        }
    }

    async fn make(&self, limit: Duration, progress: &mut Progress) -> Result<Vec<Server>, Failure> {
        let (mut learnt, until) = (Learnt::default(), Instant::now() + limit);
        loop {
            let seen = Seen::look(self.api, &self.wish.mark).await?;
            let steps = plan::steps(self.wish, self.offers.len(), &seen, &learnt)?;
            if steps.is_empty() {
                let of = |node: &NodeId| seen.servers.iter().find(|server| server.name == node.as_str());
                return Ok(self.wish.nodes.iter().filter_map(of).cloned().collect());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late(&self.wish.mark, limit));
            }
            let standing = (self.standing)()?;
            if standing != Standing::Wanted {
                return Err(unwanted(&self.wish.mark, &standing));
            }
            for step in &steps {
                self.say(step, progress);
            }
            self.round(&steps, &mut learnt, left).await?;
        }
    }

    /// Deletes what was made for nothing; what then is to be said.
    async fn take_back(&self, standing: &Standing, limit: Duration) -> Failure {
        let mark = &self.wish.mark;
        let failure = unwanted(mark, standing);
        let deleted = match standing {
            Standing::Wanted => Ok(()),
            Standing::Gone => self.take_all_back(limit).await,
            Standing::Without(nodes) => self.take_servers_back(nodes, limit).await.map_err(Failure::from),
        };
        let Err(err) = deleted else { return failure };
        let message = format!(
            "{}; what was made for it could not be deleted: {}; delete what bears the label planting={} in the Hetzner \
             console",
            failure.message, err.message, mark.planting
        );
        Failure::new(failure.reason, message)
    }

    async fn take_all_back(&self, limit: Duration) -> Result<(), Failure> {
        fell(self.api, &self.wish.mark, limit).await?;
        Ok(drop_keys(self.api).await?)
    }

    async fn take_servers_back(&self, nodes: &[NodeId], limit: Duration) -> Result<(), ApiError> {
        let seen = Seen::look(self.api, &self.wish.mark).await?.of(&self.wish.mark);
        let is_out = |server: &&Server| nodes.iter().any(|node| node.as_str() == server.name);
        let servers: Vec<u64> = seen.servers.iter().filter(is_out).map(|server| server.id).collect();
        discard(self.api, &servers, limit).await
    }

    /// Does the steps, all at once, and waits for what they began. What one learns from is taken up; the first of
    /// the other failures is told once all have ended.
    async fn round(&self, steps: &[Step], learnt: &mut Learnt, left: Duration) -> Result<(), ApiError> {
        let results = join_all(steps.iter().map(|step| self.step(step))).await;
        let (mut actions, mut failure) = (Vec::new(), None);
        for (step, result) in steps.iter().zip(results) {
            match result {
                Ok(begun) => actions.extend(begun.actions.into_iter().map(|action| (action, begun.server))),
                Err(err) if learnt.note(self.wish, step, &err) => {}
                Err(err) => failure = failure.or(Some(err)),
            }
        }
        let ended = self.api.ended(actions.iter().map(|(action, _)| action.clone()), left).await?;
        for (action, server) in actions {
            let Some(err) = ended.get(&action.id).and_then(Action::failure) else { continue };
            match server {
                Some((server, offer)) => {
                    learnt.failed.insert(server);
                    if err.is(&Code::Unavailable) {
                        learnt.sold_out.insert(offer);
                    } else if learnt.failed.len() > self.wish.nodes.len() {
                        failure = failure.or(Some(err));
                    }
                }
                None => failure = failure.or(Some(err)),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn step(&self, step: &Step) -> Result<Begun, ApiError> {
        let mark = &self.wish.mark;
        let actions = match step {
            Step::Key => {
                if let Some(key) = &self.wish.key {
                    let ours = [super::labels::MANAGED].map(|(k, v)| (k.to_owned(), v.to_owned()));
                    self.api.create_ssh_key(&key.name, &key.text, &ours.into()).await?;
                }
                Vec::new()
            }
            Step::Firewall => {
                let before = mark.firewall_selector();
                self.api.create_firewall(&mark.firewall(), &mark.labels(), &self.wish.rules, &before).await?;
                Vec::new()
            }
            Step::Rules(firewall) => self.api.set_rules(*firewall, &self.wish.rules).await?,
            Step::Group(name) => {
                self.api.create_placement_group(name, &mark.labels()).await?;
                Vec::new()
            }
            Step::Server { node, offer, .. } => {
                let created = self.api.create_server(&self.server(step, node, *offer)).await?;
                let server = Some((created.server.id, *offer));
                return Ok(Begun { actions: created.actions().cloned().collect(), server });
            }
            Step::PowerOn(server) => vec![self.api.power_on(*server).await?],
            Step::Discard(server) => self.api.delete_server(*server).await?.into_iter().collect(),
            Step::Wait => {
                tokio::time::sleep(PAUSE).await;
                Vec::new()
            }
        };
        Ok(Begun { actions, server: None })
    }

    fn server(&self, step: &Step, node: &NodeId, offer: usize) -> NewServer {
        let (firewalls, group, keys) = match step {
            Step::Server { firewall, group, key, .. } => {
                (vec![FirewallRef { firewall: *firewall }], Some(*group), key.iter().copied().collect())
            }
            _ => (Vec::new(), None, Vec::new()),
        };
        let offer = &self.offers[offer];
        NewServer {
            name: node.to_string(),
            server_type: offer.server_type.clone(),
            location: offer.location.clone(),
            image: offer.image,
            ssh_keys: keys,
            user_data: (self.user_data)(node),
            labels: self.wish.mark.node_labels(node),
            firewalls,
            placement_group: group,
            public_net: NewPublicNet { enable_ipv4: self.ipv4, enable_ipv6: true },
            start_after_create: true,
        }
    }

    fn say(&self, step: &Step, progress: &mut Progress) {
        if let Step::Server { node, offer, .. } = step {
            let Offer { server_type, location, .. } = &self.offers[*offer];
            progress.at(node.as_str(), &format!("a {server_type} in {location} is being made"));
        }
    }
}

/// What a step has begun, and the server it made, on which offer.
struct Begun {
    actions: Vec<Action>,
    server: Option<(u64, usize)>,
}

fn unwanted(mark: &Mark, standing: &Standing) -> Failure {
    let (forest, reason) = (&mark.forest, Reason::TornDown);
    let what = match standing {
        Standing::Without(nodes) => {
            let names: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
            format!("{} of forest {forest} was taken out", names.join(", "))
        }
        _ => format!("forest {forest} was torn down"),
    };
    let message =
        format!("{what} by another command while its machines were being made; {}", reason.remedy());
    Failure::new(reason, message)
}

pub(super) fn late(mark: &Mark, limit: Duration) -> Failure {
    let seconds = counted(usize::try_from(limit.as_secs()).unwrap_or(usize::MAX), "second");
    let message =
        format!("forest {} is not done after {seconds}; {}", mark.forest, Reason::HetznerSlow.remedy());
    Failure::new(Reason::HetznerSlow, message)
}
