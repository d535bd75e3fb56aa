//! The driver: the one task that changes anything.
//!
//! [`machine`] decides, purely; [`task::Driver`] carries out what it decides, merges what it learns, and publishes
//! a [`crate::health::Snapshot`] after every turn; everybody else reads that. [`findings`] says, purely, how the
//! checks stand.

mod complaint;
mod diagnosis;
mod findings;
pub mod machine;
mod publish;
mod seen;
mod step;
mod task;

pub use findings::{Sources, findings};
pub use seen::{ChildView, Fact, FileIdentity, LastRead, SecretsRead, Seen};
pub use step::{Look, Looked, Step, StepName};
pub use task::{ChildName, Driver, Ending, Parts, ReloadCheck, Request, Supervisors, Wants};
