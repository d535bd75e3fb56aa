//! Everything that commands work with on forests in the cloud: the provider, the share's two doors, the registry.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;

use forest_core::id::ForestId;
use forest_core::reason::Reason;
use forest_core::registry::{Door as _, Kind, Registry};
use forest_core::secrets;
use jiff::{SignedDuration, Timestamp};

use super::forest::{Cloud, Edit, Ledger};
use super::programs::BIN;
use super::record::{self, Shelved};
use crate::config::registry::{Share, storage};
use crate::config::{Config, Engine, Machine, RegistryAt, find, machine, token};
use crate::environment::Environment;
use crate::failure::{Failure, chain};
use crate::hetzner::{Access, Hetzner, access};
use crate::probe::Http;
use crate::store::Store;
use crate::webdav::shelf::PARTIAL;
use crate::webdav::{Client, Shelf, WebDav, dirs};

/// So many connections at the same moment are what a StorageBox is known to take.
pub const CONNECTIONS: usize = 10;
/// Some address of the internet's: no packet is ever sent to it.
const FAR_AWAY: &str = "[2a01:4f8::1]:443";

/// What is configured, and opened.
pub struct Site {
    /// Which machines.
    pub machine: Machine,
    /// What their engine is.
    pub engine: Engine,
    /// The share as nodes mount it.
    pub share: Share,
    /// Programs on the share.
    pub shelf: Shelf,
    /// The registry.
    pub store: Store,
    /// How nodes are asked.
    pub http: Http,
    door: WebDav,
    /// The provider, or why it cannot be asked.
    api: Result<Hetzner, Failure>,
}

impl Site {
    /// Opens all that is configured; nobody is asked anything yet.
    ///
    /// # Errors
    /// [`Failure`] naming what is not configured, and how it is.
    pub fn open(named: Option<&Path>, env: &Environment) -> Result<Self, Failure> {
        let Some(path) = find(named, env).path else {
            let message = "forests in the cloud need a configuration, and there is none: morpheus init writes one with \
                           comments on what to get where";
            return Err(Failure::new(Reason::ConfigUnreadable, message));
        };
        let config = Config::load(&path, env)?;
        let machine = machine(&path, env)?;
        let Some((place, login, share)) = storage(&path, env)? else {
            let message = format!(
                "{}: forests in the cloud need a share which laptop and nodes both reach: set registry.type to \
                 storagebox, and url, username and password",
                path.display()
            );
            return Err(Failure::new(Reason::ConfigInvalid, message));
        };
        let api = || Hetzner::new(Access::find(env, token(&path, env)?)?, access::timing(env)?);
        let client = Client::new(&place, login.clone())?;
        Ok(Self {
            machine,
            engine: config.engine,
            api: api(),
            share,
            shelf: Shelf::new(place.clone(), login.clone())?,
            store: Store::configured(RegistryAt::Storagebox(place.clone(), login))?,
            http: Http::new()?,
            door: WebDav::new(place, Box::new(Arc::new(client))),
        })
    }

    /// The provider.
    ///
    /// # Errors
    /// [`Failure`] where there is no token for it.
    pub fn api(&self) -> Result<&Hetzner, Failure> {
        self.api.as_ref().map_err(Clone::clone)
    }

    /// Provider and registry.
    ///
    /// # Errors
    /// As [`Self::api`].
    pub fn cloud(&self) -> Result<Cloud<'_>, Failure> {
        Ok(Cloud { api: self.api()?, ledger: self })
    }

    /// Is the share's directory there?
    ///
    /// # Errors
    /// [`Failure`] where the server cannot be asked.
    pub fn has_directory(&self) -> Result<bool, Failure> {
        match self.door.list("") {
            Ok(_) => Ok(true),
            Err(err) if err.kind == Kind::NotFound => Ok(false),
            Err(err) => Err(Failure::new(err.reason(), chain(&err))),
        }
    }

    /// Writes a file into the share's directory and takes it away again. Does the server heed If-Match?
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn try_writing(&self) -> Result<bool, Failure> {
        let failed = |err: &forest_core::registry::DoorError| Failure::new(err.reason(), chain(err));
        let name = format!(".check.{:016x}", rand::random::<u64>());
        self.door.write_new(&name, b"{}\n").map_err(|err| failed(&err))?;
        let heeds = self.door.heeds_conditions(&name);
        self.door.remove(&name).map_err(|err| failed(&err))?;
        heeds.map_err(|err| failed(&err))
    }

    /// Makes the share's directory, and those of programs and secrets in it.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn make_directories(&self) -> Result<(), Failure> {
        let failed = |err: &forest_core::registry::DoorError| Failure::new(err.reason(), chain(err));
        dirs::make(&self.door).map_err(|err| failed(&err))?;
        for dir in [BIN, secrets::DIR] {
            match self.door.mkdir(dir) {
                Err(err) if err.kind != Kind::Exists => return Err(failed(&err)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The registry; of a share whose directory is not there yet, an empty one.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be read.
    pub fn registry(&self) -> Result<Registry, Failure> {
        match self.has_directory()? {
            true => self.store.read(),
            false => Ok(forest_core::registry::Document::empty()),
        }
    }

    /// No upload takes as long.
    fn is_old(&self, path: &str) -> bool {
        let modified = self.door.modified(path);
        modified.is_ok_and(|time| Timestamp::now().duration_since(time) > SignedDuration::from_hours(24))
    }

    fn remove(&self, path: &str) {
        match self.door.remove(path) {
            Err(err) if err.kind != Kind::NotFound => tracing::warn!(%err, "a file stays on the share"),
            _ => {}
        }
    }
}

impl Ledger for Site {
    fn read(&self) -> Result<Registry, Failure> {
        self.registry()
    }

    fn update(&self, change: Edit<'_>) -> Result<(), Failure> {
        self.store.update(change)
    }

    fn forget_secrets(&self, forest: &ForestId) -> Result<(), Failure> {
        self.store.forget_secrets(forest)
    }

    /// With the last forest their directories go too. What stays is no failure.
    fn sweep(&self, registry: &Registry, files: &[Shelved]) {
        for file in record::unused(registry, files) {
            self.remove(&format!("{BIN}/{}", file.file));
        }
        let last = record::connections(registry) == 0;
        let names = self.door.list(BIN).unwrap_or_default();
        for name in names.iter().filter(|name| name.starts_with(PARTIAL)) {
            let path = format!("{BIN}/{name}");
            if last || self.is_old(&path) {
                self.remove(&path);
            }
        }
        if last {
            // Only empty ones go.
            for dir in [BIN, secrets::DIR] {
                let _ = self.door.rmdir(dir);
            }
        }
    }
}

/// Has this machine a way into the IPv6 internet? Only the routes are looked at.
#[must_use]
pub fn has_ipv6() -> bool {
    UdpSocket::bind("[::]:0").is_ok_and(|socket| socket.connect(FAR_AWAY).is_ok())
}
