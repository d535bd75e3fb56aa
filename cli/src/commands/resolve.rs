//! Which forest is meant: one of this machine, else one of the configured registry.

use std::path::Path;

use forest_core::id::ForestId;
use forest_core::reason::Reason;
use forest_core::registry::Registry;

use super::remote;
use crate::cloud::record::Plan;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::local::record::Forest;
use crate::local::{Local, unknown};

/// A forest that was found.
pub(super) enum Resolved {
    /// Of this machine.
    Local(Box<Local>, Forest),
    /// Of the configured registry.
    Remote(There),
}

/// A forest of the configured registry.
pub(super) struct There {
    pub(super) id: ForestId,
    pub(super) registry: Registry,
    /// What is wanted of it; `None`: it is no forest of the cloud.
    pub(super) plan: Option<Plan>,
}

impl There {
    /// What is wanted of it.
    ///
    /// # Errors
    /// [`Failure`] where it is no forest of the cloud.
    pub(super) fn plan(&self) -> Result<&Plan, Failure> {
        self.plan.as_ref().ok_or_else(|| {
            let message =
                format!("forest {} was not planted by morpheus: its nodes are others' business", self.id);
            Failure::new(Reason::NotSupported, message)
        })
    }
}

/// The forests of this machine; `None` where it can have none.
pub(super) fn local(env: &Environment) -> Result<Option<Local>, Failure> {
    match Local::open(env) {
        Ok(local) => Ok(Some(local)),
        Err(err) if err.reason == Reason::NotSupported => Ok(None),
        Err(err) => Err(err),
    }
}

/// The forest `name`; the configured registry is asked only where this machine has none of that name.
pub(super) fn resolve(name: &str, named: Option<&Path>, env: &Environment) -> Result<Resolved, Failure> {
    let mut known = Vec::new();
    if let Some(local) = local(env)? {
        match local.forest(name) {
            Ok(forest) => return Ok(Resolved::Local(Box::new(local), forest)),
            Err(err) if err.reason == Reason::ForestUnknown => {
                known.extend(local.store.read()?.forest_names());
            }
            Err(err) => return Err(err),
        }
    }
    if let Some(store) = remote::store(named, env)? {
        let registry = store.read()?;
        if let Some(there) = there(registry.clone(), name) {
            return Ok(Resolved::Remote(there));
        }
        known.extend(registry.forest_names());
    }
    Err(unknown("forest", name, &known, Reason::ForestUnknown))
}

fn there(registry: Registry, name: &str) -> Option<There> {
    let id: ForestId = name.parse().ok()?;
    if registry.forest(&id).is_none() && registry.entries(&id).is_empty() {
        return None;
    }
    let plan = Plan::find(&registry, &id);
    Some(There { id, registry, plan })
}
