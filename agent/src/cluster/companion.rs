//! The companion: a nats-server without JetStream that joins a cluster for the time of an order, because nobody
//! else there has a user of the system account. Only NimsForest's clusters need one.
//!
//! It stands where the witness would: an order is given by it only while no witness runs here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use forest_core::address::Address;
use forest_core::reason::Reason;
use forest_core::secrets::Record;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::child::Want;
use crate::cluster::sys::SysLink;
use crate::driver::{ChildName, Wants};
use crate::engine::limits::Limits;
use crate::engine::monitor::Unanswered;
use crate::engine::nats_config::{Cluster, NatsConfig, Role};
use crate::engine::nats_server;
use crate::engine::planned::Planned;
use crate::fault::Fault;
use crate::settings::Settings;

/// Name of its configuration, in runtime_dir.
const FILE_NAME: &str = "companion.conf";
/// How long it may take to start, join, and have its order answered; it takes a fraction of a second.
const VISIT: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(200);

/// How a companion is called.
#[derive(Debug, Clone)]
pub struct Companion {
    settings: Arc<Settings>,
    binary: Result<PathBuf, Fault>,
    wants: Wants,
}

/// The cluster that it is to join.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// The name by which NimsForest calls it.
    pub cluster: &'a str,
    /// Where the servers of all nodes take routes.
    pub routes: &'a [SocketAddr],
    /// The node's address.
    pub address: Address,
    /// The forest's credentials.
    pub record: &'a Record,
}

/// A companion that was called; dropped, it leaves.
struct Visit<'a>(&'a Wants);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        dismiss(self.0, "its order is done");
    }
}

fn dismiss(wants: &Wants, reason: &str) {
    // Nobody listens only while the agent ends.
    let _ = wants.send((ChildName::Companion, Want::Stop { reason: reason.to_owned() }));
}

impl Companion {
    /// For this node; `binary` is a nats-server. One that an earlier agent left behind is sent away.
    #[must_use]
    pub fn new(settings: Arc<Settings>, binary: Result<PathBuf, Fault>, wants: Wants) -> Self {
        dismiss(&wants, "nothing is to be ordered");
        Self { settings, binary, wants }
    }

    /// Starts one, lets it carry `order` until that is answered, and ends it.
    ///
    /// # Errors
    /// It cannot be started, does not get through, or the last refusal of the order.
    pub async fn carry(
        &self,
        destination: Destination<'_>,
        order: impl Fn(Client) -> BoxFuture<'static, Result<(), Unanswered>> + Send,
    ) -> Result<(), Fault> {
        let planned = self.planned(destination)?;
        planned.write()?;
        nats_server::check_config(&planned.command.program, &planned.file).await?;
        let _visit = Visit(&self.wants);
        // Nobody listens only while the agent ends.
        let _ = self.wants.send((ChildName::Companion, Want::Run(planned.command)));
        let (mut link, until) = (SysLink::default(), Instant::now() + VISIT);
        loop {
            // It has no routes in its first moments: the order reaches nobody then.
            let at = self.settings.witness_listen().client;
            let failed =
                match link.client(at, destination.record.in_force().sys, Duration::from_secs(1)).await {
                    Ok(client) => match order(client).await {
                        Ok(()) => return Ok(()),
                        Err(err) => err,
                    },
                    Err(err) => err,
                };
            if Instant::now() >= until {
                let message = format!("a companion could not give an order to the cluster: {failed}");
                return Err(Fault::new(Reason::WitnessDown, message));
            }
            sleep(RETRY).await;
        }
    }

    fn planned(&self, destination: Destination<'_>) -> Result<Planned, Fault> {
        let (settings, binary) = (&self.settings, self.binary.clone()?);
        let listen = settings.witness_listen();
        let name = format!("c-{}", settings.node);
        let config = NatsConfig {
            name: &name,
            role: Role::Companion,
            client: listen.client,
            store_dir: &settings.state_dir,
            limits: Limits { max_memory: 0, max_file: 0 },
            cluster: Some(Cluster {
                name: destination.cluster,
                listen: listen.cluster,
                advertise: SocketAddr::new(destination.address.ip(), listen.cluster.port()),
                routes: destination.routes,
                route: None,
                dial: &[],
                sys: destination.record.in_force().sys,
            }),
        };
        let file = settings.runtime_dir.join(FILE_NAME);
        let command = nats_server::command(&binary, &file, &settings.state_dir);
        Ok(Planned { command, text: config.render(), file })
    }
}
