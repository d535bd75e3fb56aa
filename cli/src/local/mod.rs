//! Local mode: the nodes of a forest are background agents on this machine, each on a loopback address of its
//! own, all sharing one registry in a plain directory.
//!
//! What is wanted stands in the registry's record of the forest ([`record`]), written before anything is
//! started and removed after everything is gone; so a command that was killed at any moment is finished by
//! running it again. One command at a time works on a forest ([`lock`]).

pub mod grow;
pub mod launch;
pub mod layout;
pub mod lock;
pub mod logs;
pub mod network;
pub mod node;
pub mod plant;
pub mod ports;
pub mod process;
pub mod programs;
pub mod ready;
pub mod record;
pub mod shrink;
pub mod teardown;
pub mod upgrade;

use forest_core::id::ForestId;
use forest_core::reason::Reason;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::probe::{Http, Target};
use crate::store::Store;
use layout::Layout;
use record::{Forest, Plan};

/// Everything that the local commands work with.
pub struct Local {
    /// Where things lie.
    pub layout: Layout,
    /// The registry.
    pub store: Store,
    /// How nodes are asked.
    pub http: Http,
}

impl Local {
    /// The local mode of this machine.
    ///
    /// # Errors
    /// [`Failure`] where this is no Linux, no home directory is known, or the state cannot be made.
    pub fn open(env: &Environment) -> Result<Self, Failure> {
        if !cfg!(target_os = "linux") {
            let message = "local forests need Linux: its loopback has an address for every node";
            return Err(Failure::new(Reason::NotSupported, message));
        }
        let state = env.xdg("XDG_STATE_HOME", ".local/state").ok_or_else(|| {
            Failure::new(Reason::LocalState, "neither HOME nor XDG_STATE_HOME is set: set one of them")
        })?;
        let layout = Layout::new(state.join("morpheus/local"));
        let store = Store::local(&layout)?;
        let http = Http::new()?;
        Ok(Self { layout, store, http })
    }

    /// The forest `name`, which has to be there.
    ///
    /// # Errors
    /// [`Failure`] naming the known forests, and the nearest.
    pub fn forest(&self, name: &str) -> Result<Forest, Failure> {
        let registry = self.store.read()?;
        let found = name.parse::<ForestId>().ok().and_then(|id| Forest::find(&registry, &id));
        found.ok_or_else(|| unknown("forest", name, &registry.forest_names(), Reason::ForestUnknown))
    }
}

/// The addresses at which the members are asked.
#[must_use]
pub fn targets(plan: &Plan) -> Vec<Target> {
    plan.members.iter().map(|member| Target::local(member.id.clone(), member.ip)).collect()
}

/// `kind` `name` is not among `known`.
pub(crate) fn unknown(kind: &str, name: &str, known: &[String], reason: Reason) -> Failure {
    let near = forest_core::suggest::nearest(name, known.iter().map(String::as_str));
    let near = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
    let known = match known.is_empty() {
        true => "there is none yet".to_owned(),
        false => format!("known: {}", known.join(", ")),
    };
    Failure::new(reason, format!("no {kind} `{}`{near}; {known}", name.escape_default()))
}
