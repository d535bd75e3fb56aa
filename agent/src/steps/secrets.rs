//! Step `secrets`: the forest is founded, once, and its credentials are there; a copy of them is kept, and put
//! back where they were lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use forest_core::reason::Reason;
use forest_core::registry::{
    self, Document, Door, FsDoor, Kind, Outcome, Owner, ReadError, Registry, SystemClock, UpdateError,
    UpdateOptions,
};
use forest_core::secrets::{self, Password, Secrets};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::disk::off_thread;
use super::registry::{READ, Registrar};
use super::share::hung;
use crate::cluster::machine::{SecretsDue, secrets_due};
use crate::cluster::marker::{MarkerFile, Phase};
use crate::driver::{Fact, Look, Looked, SecretsRead, Seen, Step};
use crate::fault::{Fault, chain};
use crate::files::put;
use crate::share::ShareDir;

/// The secrets as one node meets them: on the share, and the copy it keeps.
#[derive(Debug, Clone)]
pub struct SecretsKeeper {
    registrar: Registrar,
    kept: PathBuf,
    writes: bool,
}

impl SecretsKeeper {
    /// For this node.
    #[must_use]
    pub fn new(registrar: Registrar) -> Self {
        let kept = registrar.settings.state_dir.join("secrets.json");
        Self { registrar, kept, writes: true }
    }

    /// The same, which keeps nothing.
    #[must_use]
    pub fn that_only_looks(registrar: Registrar) -> Self {
        Self { writes: false, ..Self::new(registrar) }
    }

    /// Makes sure that the forest is founded and its secrets are on the share; `true`: something was written.
    ///
    /// # Errors
    /// `secrets_lost`, `removed`, or why they cannot be written.
    pub async fn ensure(&self, dir: &ShareDir) -> Result<bool, Fault> {
        let settings = Arc::clone(&self.registrar.settings);
        let (kept, marker) = (kept(&settings.state_dir), MarkerFile::new(&settings.state_dir));
        let door = self.registrar.door(dir)?;
        let (limits, files) = (self.registrar.limits.clone(), self.registrar.files());
        let change = move |shared: &Secrets| {
            let registry = match registry::read::<Registry>(&door, &SystemClock, &limits, &files) {
                Ok(snapshot) => snapshot.doc,
                // On a share the laptop makes it; without one we look at the wrong directory.
                Err(ReadError::Missing(_)) if settings.share.is_none() => Registry::empty(),
                Err(err) => return Err(Fault::new(err.reason(), chain(&err))),
            };
            if let Some(since) = registry.tombstone(&settings.forest, &settings.node) {
                let message = format!("{} was taken out on purpose at {since}", settings.node);
                return Err(Fault::new(Reason::Removed, message));
            }
            let entries = registry.entries(&settings.forest);
            let others = entries.iter().any(|entry| entry.id != settings.node.as_str());
            match secrets_due(shared.record().is_some(), kept.is_some(), others) {
                SecretsDue::Nothing => Ok(None),
                SecretsDue::PutBack => Ok(kept.clone()),
                SecretsDue::Refuse => {
                    let message = format!(
                        "{} is gone, this node has no copy of it, and other nodes live by what it said",
                        secrets::files(&settings.forest).file
                    );
                    Err(Fault::new(Reason::SecretsLost, message))
                }
                SecretsDue::Found => {
                    let founding = Password::generate().expose().to_owned();
                    // First the marker: a record without it would leave a forest that nobody may begin.
                    marker.write(&founding, Phase::Founding)?;
                    Ok(shared.found(&settings.node, &founding, Timestamp::now()))
                }
            }
        };
        self.update(dir, change).await
    }

    /// Changes the secrets under the lease; `true`: they were written.
    ///
    /// # Errors
    /// The change's own fault, or why it could not be written.
    pub async fn update(
        &self,
        dir: &ShareDir,
        change: impl FnMut(&Secrets) -> Result<Option<Secrets>, Fault> + Send + 'static,
    ) -> Result<bool, Fault> {
        let registrar = &self.registrar;
        let (door, limits) = (registrar.door(dir)?, registrar.limits.clone());
        let files = secrets::files(&registrar.settings.forest);
        let owner = Owner::current(&format!("forest-agent {}", registrar.settings.node));
        let what = format!("updating {}", dir.path().join(&files.file).display());
        let deadline = limits.give_up + limits.give_up / 2;
        let options = UpdateOptions { files, create_missing: true };
        let job = move || {
            make_dir(&door)?;
            registry::update(&door, &SystemClock, &owner, &limits, &options, change).map_err(
                |err| match err {
                    UpdateError::Change(fault) => fault,
                    err => Fault::new(err.reason().unwrap_or(Reason::RegistryWrite), chain(&err)),
                },
            )
        };
        let outcome = registrar.updates.run(&what, deadline, job).await.map_err(|err| hung(&err))??;
        Ok(matches!(outcome, Outcome::Committed { .. }))
    }

    /// The secrets on the share.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub async fn current(&self, dir: &ShareDir) -> Result<Secrets, Fault> {
        self.read(dir).await.map_err(|result| match result {
            Ok(Look::Differs(fault)) | Err(fault) => fault,
            Ok(Look::Stands(detail)) => Fault::new(Reason::SecretsMissing, detail),
        })
    }

    async fn look(self, seen: Seen) -> Looked {
        let settings = &self.registrar.settings;
        if let Some(since) = &seen.removed {
            let message = format!("{} was taken out on purpose at {since}", settings.node);
            return Err(Fault::new(Reason::Removed, message)).into();
        }
        let Some(dir) = &seen.dir else {
            return Err(Fault::new(Reason::SecretsMissing, "the share's directory is not known yet")).into();
        };
        match self.read(dir).await {
            Ok(secrets) if secrets.record().is_some() => self.stands(secrets).await,
            Ok(_) => self.missing().into(),
            Err(result) => result.into(),
        }
    }

    /// The secrets as they stand; `Err`: what the look comes to.
    async fn read(&self, dir: &ShareDir) -> Result<Secrets, Result<Look, Fault>> {
        let registrar = &self.registrar;
        let (door, limits) = (registrar.door(dir).map_err(Err)?, registrar.limits.clone());
        let files = secrets::files(&registrar.settings.forest);
        let path = dir.path().join(&files.file).display().to_string();
        let read = move || registry::read::<Secrets>(&door, &SystemClock, &limits, &files);
        let read = registrar.reads.run(&format!("reading {path}"), READ, read).await;
        match read.map_err(|err| Err(hung(&err)))? {
            Ok(snapshot) => Ok(snapshot.doc),
            Err(ReadError::Missing(_)) => Err(self.missing()),
            Err(err @ ReadError::Corrupt { .. }) => {
                Err(Ok(Look::Differs(Fault::new(err.reason(), format!("{path}: {}", chain(&err))))))
            }
            Err(err) => Err(Err(Fault::new(err.reason(), chain(&err)))),
        }
    }

    fn missing(&self) -> Result<Look, Fault> {
        let file = secrets::files(&self.registrar.settings.forest).file;
        Ok(Look::Differs(Fault::new(Reason::SecretsMissing, format!("{file} is not there yet"))))
    }

    async fn stands(&self, secrets: Secrets) -> Looked {
        let mut is_kept = true;
        if self.writes {
            let (kept, text) = (self.kept.clone(), secrets.render());
            let keep = move || match std::fs::read(&kept) {
                Ok(found) if found == text.as_bytes() => Ok(()),
                _ => put(&kept, text.as_bytes(), 0o600)
                    .map_err(|err| Fault::new(Reason::StateDir, chain(&err))),
            };
            if let Err(fault) = off_thread(keep).await {
                is_kept = false;
                tracing::warn!("{}; a boot without the share would find no credentials", fault.message);
            }
        }
        let founder = secrets.record().map_or(String::new(), |record| record.founder.clone());
        let read = SecretsRead { secrets, at: Some(Instant::now()), kept: is_kept };
        Looked::with(
            Ok(Look::Stands(format!("the forest was founded by {founder}"))),
            vec![Fact::Secrets(Arc::new(read))],
        )
    }
}

/// The secrets as an earlier life of this node kept them.
#[must_use]
pub fn kept(state_dir: &Path) -> Option<Secrets> {
    let secrets = Secrets::parse(&std::fs::read(state_dir.join("secrets.json")).ok()?).ok()?;
    secrets.record().is_some().then_some(secrets)
}

fn make_dir(door: &FsDoor) -> Result<(), Fault> {
    match door.mkdir(secrets::DIR) {
        Err(err) if err.kind != Kind::Exists => Err(Fault::new(err.reason(), chain(&err))),
        _ => Ok(()),
    }
}

/// The step.
pub struct SecretsStep(SecretsKeeper);

impl SecretsStep {
    /// The step for this node.
    #[must_use]
    pub fn new(keeper: SecretsKeeper) -> Self {
        Self(keeper)
    }
}

impl Step for SecretsStep {
    fn look(&self, seen: Seen) -> BoxFuture<'static, Looked> {
        self.0.clone().look(seen).boxed()
    }

    fn act(&self, seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        let keeper = self.0.clone();
        async move {
            let Some(dir) = &seen.dir else {
                return Err(Fault::new(Reason::SecretsMissing, "the share's directory went away"));
            };
            Ok(match keeper.ensure(dir).await? {
                true => "the forest's secrets are written".to_owned(),
                false => "the forest's secrets are there already".to_owned(),
            })
        }
        .boxed()
    }
}
