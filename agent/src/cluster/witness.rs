//! The witness: a second small nats-server that has a vote in the meta group and no place for streams.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use forest_core::address::Address;
use forest_core::reason::Reason;
use forest_core::secrets::{Credentials, Record};

use crate::cluster::routes;
use crate::engine::limits::Limits;
use crate::engine::nats_config::{Cluster, Dial, NatsConfig, Role};
use crate::engine::nats_server;
use crate::engine::planned::Planned;
use crate::fault::{Fault, chain};
use crate::settings::{EngineKind, Settings};

pub mod note;

/// Name of its configuration, in runtime_dir.
const FILE_NAME: &str = "witness.conf";
/// The smallest limits that both ends of the supported versions take.
const LIMITS: Limits = Limits { max_memory: 1 << 20, max_file: 1 << 20 };

/// Where all witnesses that this node ever kept have their stores.
fn root(settings: &Settings) -> PathBuf {
    settings.state_dir.join("witness")
}

/// The store of the witness `name`.
#[must_use]
pub fn store_dir(settings: &Settings, name: &str) -> PathBuf {
    root(settings).join(name)
}

/// Lies the store of any witness here, or a configuration with the forest's credentials?
#[must_use]
pub fn is_stored(settings: &Settings) -> bool {
    root(settings).exists() || settings.runtime_dir.join(FILE_NAME).exists()
}

/// Deletes the stores of all witnesses here, and their configuration: nobody would replace the passwords in it. None
/// may run.
///
/// # Errors
/// `state_dir` where something of them stays.
pub fn delete_stores(settings: &Settings) -> Result<(), Fault> {
    let (root, file) = (root(settings), settings.runtime_dir.join(FILE_NAME));
    for (path, deleted) in [(&root, std::fs::remove_dir_all(&root)), (&file, std::fs::remove_file(&file))] {
        if let Err(err) = deleted
            && err.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Fault::new(Reason::StateDir, format!("cannot delete {}: {err}", path.display())));
        }
    }
    Ok(())
}

/// Makes the store of `name`, before the first start.
///
/// # Errors
/// `state_dir` where it cannot be made.
pub fn make_store(settings: &Settings, name: &str) -> Result<(), Fault> {
    crate::files::private_dir(&store_dir(settings, name))
        .map_err(|err| Fault::new(Reason::StateDir, chain(&err)))
}

/// Where its executable is put that is fetched.
const FETCHED: &str = "/opt/nimsforest/bin/nats-server";

/// Its executable: as configured, else the engine's own where that is a nats-server, else the one that is fetched,
/// else the first in `path`.
///
/// # Errors
/// `no_witness` where there is none.
pub fn binary(settings: &Settings, path: Option<&std::ffi::OsStr>) -> Result<PathBuf, Fault> {
    if let Some(binary) = &settings.witness.binary {
        return Ok(binary.clone());
    }
    if settings.engine.kind == EngineKind::NatsServer {
        return Ok(settings.engine.binary.clone());
    }
    if settings.witness.download.is_some() {
        return Ok(PathBuf::from(FETCHED));
    }
    let dirs = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    let found = dirs.iter().map(|dir| dir.join("nats-server")).find(|file| file.is_file());
    found.ok_or_else(|| Fault::new(Reason::NoWitness, "there is no nats-server in PATH to be the witness"))
}

/// What the start of a witness is made of.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The node's settings.
    pub settings: &'a Settings,
    /// Its executable.
    pub binary: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// The forest's credentials.
    pub record: &'a Record,
    /// The node's address.
    pub address: Address,
}

impl Plan<'_> {
    /// Beside a nats-server of ours, which asks every server for the forest's password.
    #[must_use]
    pub fn beside_nats_server(&self, routes: &[SocketAddr]) -> Planned {
        let dial = routes::dials_of_witness(self.record);
        self.planned(self.settings.forest.as_str(), routes, Some((self.record.in_force().accept, &dial)))
    }

    /// Beside NimsForest, which names its cluster itself and asks nobody for a password.
    #[must_use]
    pub fn beside_nimsforest(&self, cluster: &str, routes: &[SocketAddr]) -> Planned {
        self.planned(cluster, routes, None)
    }

    fn planned(
        &self,
        cluster: &str,
        routes: &[SocketAddr],
        route: Option<(&Credentials, &[Dial<'_>])>,
    ) -> Planned {
        let listen = self.settings.witness_listen();
        let store_dir = store_dir(self.settings, self.name);
        let config = NatsConfig {
            name: self.name,
            role: Role::Witness,
            client: listen.client,
            store_dir: &store_dir,
            limits: LIMITS,
            cluster: Some(Cluster {
                name: cluster,
                listen: listen.cluster,
                advertise: SocketAddr::new(self.address.ip(), listen.cluster.port()),
                routes,
                route: route.map(|(accept, _)| accept),
                dial: route.map_or(&[], |(_, dial)| dial),
                sys: self.record.in_force().sys,
            }),
        };
        let file = self.settings.runtime_dir.join(FILE_NAME);
        let command = nats_server::command(self.binary, &file, &store_dir);
        Planned { command, text: config.render(), file }
    }
}
