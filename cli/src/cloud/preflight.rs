//! Looking whether new nodes can be made, before anything costs money: token, machines, key, programs, the way to the
//! nodes, names. Nothing is changed.

use forest_core::id::NodeId;
use forest_core::reason::Reason;
use forest_core::registry::Registry;
use jiff::Timestamp;

use super::elf::Architecture;
use super::key;
use super::labels::Mark;
use super::offers::{Catalogue, Offer, offers};
use super::plan::PublicKey;
use super::programs::{BIN, Supplies, Wanted};
use super::record::{self, Plan, Programs};
use super::site::{CONNECTIONS, Site, has_ipv6};
use crate::args;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::hetzner::wire::Server;
use crate::ui::counted;

/// What is known before anything is done.
pub struct Prepared {
    /// Which machines may be had, the best first.
    pub offers: Vec<Offer>,
    /// In which money their prices are.
    pub currency: String,
    /// Who may log in.
    pub key: PublicKey,
    /// What the nodes run.
    pub programs: Programs,
    /// Where programs come from that are not on the share yet; `None`: they are all there.
    pub supplies: Option<Supplies>,
    /// Are nodes asked by IPv6?
    pub v6: bool,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Site {
    /// Looks whether `count` nodes can be made; for a forest that is there, with what it runs already.
    ///
    /// # Errors
    /// [`Failure`] naming the first thing that would go wrong, and what to do.
    pub async fn prepare(
        &self,
        registry: &Registry,
        plan: Option<&Plan>,
        count: usize,
        args: &args::Programs,
        env: &Environment,
    ) -> Result<Prepared, Failure> {
        let catalogue = Catalogue::fetch(self.api()?, &self.machine.image).await?;
        let mut offers = offers(&self.machine, &catalogue, Timestamp::now())?;
        let v6 = has_ipv6();
        if !v6 && !self.machine.ipv4 {
            let message = format!(
                "this machine has no way into the IPv6 internet, and the nodes have nothing else: {}",
                Reason::NoIpv6.remedy()
            );
            return Err(Failure::new(Reason::NoIpv6, message));
        }
        let Some(key) = key::find(&self.machine, env)? else {
            let message =
                format!("no public key for the new machines is to be found: {}", Reason::SshNoKey.remedy());
            return Err(Failure::new(Reason::SshNoKey, message));
        };
        let recorded = plan.and_then(|plan| plan.programs.clone());
        if let Some(programs) = &recorded {
            offers.retain(|offer| is_of(offer, &programs.architecture));
            if offers.is_empty() {
                let message = format!(
                    "machine.hetzner.server_type: the nodes of this forest are {} machines: name a type of those",
                    programs.architecture
                );
                return Err(Failure::new(Reason::ConfigInvalid, message));
            }
        }
        let (programs, supplies) = self.supplies(recorded, &offers[0], args, env).await?;
        let notes = notes(registry, count);
        Ok(Prepared { offers, currency: catalogue.currency, key, programs, supplies, v6, notes })
    }

    /// What the nodes are to run, and where it comes from unless it lies on the share already.
    async fn supplies(
        &self,
        recorded: Option<Programs>,
        offer: &Offer,
        args: &args::Programs,
        env: &Environment,
    ) -> Result<(Programs, Option<Supplies>), Failure> {
        if let Some(programs) = &recorded {
            let mut missing = false;
            for program in programs.all() {
                missing |= self.shelf.size(&format!("{BIN}/{}", program.file)).await?.is_none();
            }
            if !missing {
                return Ok((programs.clone(), None));
            }
        }
        let architecture = Architecture::of_api(&offer.architecture).ok_or_else(|| {
            let message = format!(
                "{} is of an architecture that is not known here: {}",
                offer.server_type, offer.architecture
            );
            Failure::new(Reason::ConfigInvalid, message)
        })?;
        let wanted = Wanted { architecture, image: self.machine.image.clone() };
        let supplies = Supplies::find(args, &self.engine, wanted, env)?;
        Ok((recorded.unwrap_or_else(|| supplies.record()), Some(supplies)))
    }

    /// Nothing in the project has a name that is to be given.
    ///
    /// # Errors
    /// [`Failure`] naming what is in the way.
    pub async fn names_are_free(&self, mark: &Mark, nodes: &[NodeId]) -> Result<(), Failure> {
        let servers = self.api()?.servers("").await?;
        let ours = |server: &Server| mark.is_on(&server.labels);
        let taken = servers
            .iter()
            .find(|server| nodes.iter().any(|node| node.as_str() == server.name) && !ours(server));
        taken.map_or(Ok(()), |server| {
            let reason = Reason::HetznerNameTaken;
            let message = format!(
                "Hetzner Cloud: the project has another server named {}; {}",
                server.name,
                reason.remedy()
            );
            Err(Failure::new(reason, message))
        })
    }
}

/// Is the offer's machine of this architecture, in the words of compilers?
fn is_of(offer: &Offer, architecture: &str) -> bool {
    Architecture::of_api(&offer.architecture).is_some_and(|of| of.name() == architecture)
}

fn notes(registry: &Registry, more: usize) -> Vec<String> {
    let planned = record::connections(registry) + more;
    // One is the laptop's own.
    (planned + 1 > CONNECTIONS)
        .then(|| {
            format!(
                "{} will hold a connection to the share each; a StorageBox is known to take about {CONNECTIONS} of an \
                 account at the same moment, the laptop's among them: ask for more, or spread forests over accounts",
                counted(planned, "node")
            )
        })
        .into_iter()
        .collect()
}
