//! Child processes of the agent: started, followed, ended, and found again by the next agent. Which programs
//! they are is not known here.
//!
//! ```text
//!   SupervisorHandle ──► driver (one task a child) ──► machine: decides, pure
//!                          │        │       │
//!                       spawner   pidfd    log (one thread a child)
//!                     (one thread)
//! ```
//!
//! A child outlives its agent, unless it is shut down. At any instant a kill of the agent leaves it in a state
//! that the next agent finds: by `children.json`, else by the token in the child's environment. What the module
//! may touch: `<runtime_dir>/children.{json,lock}`, `<state_dir>/log/` and `instance`, and processes that carry a
//! token of theirs.

mod adopt;
mod command;
mod driver;
mod limits;
mod log;
mod machine;
mod mark;
mod process;
mod record;
mod spawn;
mod status;
mod supervisor;
mod token;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forest_core::reason::Reason;

pub use self::command::{Command, inherited};
pub use self::limits::{Limits, LogLimits};
pub use self::spawn::{SpawnError, SpawnErrorKind};
pub use self::status::{ChildPhase, ChildStatus};
pub use self::supervisor::{SupervisorHandle, Want};

use self::driver::Parts;
use self::log::Log;
use self::record::Records;
use self::spawn::Spawner;
use crate::fault::{Fault, chain};

/// What the children of one agent have in common. Made once; the thread that starts processes lives as long as
/// it and its supervisors do.
#[derive(Debug)]
pub struct Children {
    state_dir: PathBuf,
    instance: String,
    records: Arc<Records>,
    mark_path: PathBuf,
    spawner: Spawner,
}

impl Children {
    /// `env` is what every child has in its environment, see [`inherited`]. Only one agent at a time may do this
    /// with a state_dir.
    ///
    /// # Errors
    /// `state_dir` where the directory of the logs or the installation's id cannot be made, or the thread not be
    /// started.
    pub fn open(state_dir: &Path, runtime_dir: &Path, env: Vec<(OsString, OsString)>) -> Result<Self, Fault> {
        log::make_dir(state_dir).map_err(|err| {
            let dir = state_dir.join("log");
            Fault::new(Reason::StateDir, format!("cannot make {}: {err}", dir.display()))
        })?;
        let instance = crate::instance::of(state_dir, true);
        let instance = instance.map_err(|err| Fault::new(Reason::StateDir, chain(&err)))?;
        let records = Arc::new(Records::open(runtime_dir.join("children.json")));
        let mark_path = runtime_dir.join("children.lock");
        let spawner = Spawner::start(Arc::clone(&records), mark_path.clone(), env);
        Ok(Self {
            state_dir: state_dir.to_owned(),
            instance: instance.unwrap_or_default(),
            records,
            mark_path,
            spawner: spawner.map_err(|err| no_thread(&err))?,
        })
    }

    /// Supervises the child `name`, which also names its log: it is adopted if it lives, and else waits for what
    /// is wanted of it. One supervisor a name at a time; within a tokio runtime.
    ///
    /// # Errors
    /// `state_dir` where no thread for its log can be started.
    pub fn supervise(&self, name: &str, limits: Limits) -> Result<SupervisorHandle, Fault> {
        let log_path = log::path(&self.state_dir, name);
        let log = Log::follow(log_path.clone(), limits.log.clone(), log::to_tracing(name));
        Ok(SupervisorHandle::start(Parts {
            name: name.to_owned(),
            prefix: token::prefix(&self.instance, name),
            limits,
            records: Arc::clone(&self.records),
            mark_path: self.mark_path.clone(),
            spawner: self.spawner.clone(),
            log_path,
            log: log.map_err(|err| no_thread(&err))?,
        }))
    }
}

fn no_thread(err: &std::io::Error) -> Fault {
    Fault::new(Reason::StateDir, format!("cannot start a thread: {err}"))
}
