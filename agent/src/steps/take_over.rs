//! Step `take_over`: tells of a take-over that is under way, or was cut short. `forest-agent take-over` does it.

use forest_core::reason::Reason;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::disk::off_thread;
use crate::cluster::take_over::journal::JournalFile;
use crate::driver::{Look, Looked, Seen, Step};
use crate::fault::Fault;
use crate::settings::Settings;

/// The step.
#[derive(Debug, Clone)]
pub struct TakeOverStep {
    file: JournalFile,
}

impl TakeOverStep {
    /// The step for this node.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { file: JournalFile::new(settings) }
    }
}

impl Step for TakeOverStep {
    fn look(&self, _seen: Seen) -> BoxFuture<'static, Looked> {
        let file = self.file.clone();
        let look = off_thread(move || match file.read()?.and_then(|journal| journal.unfinished()) {
            Some(message) => Err(Fault::new(Reason::TakingOver, message)),
            None => Ok(Look::Stands("no store is being taken over".to_owned())),
        });
        look.map(Looked::from).boxed()
    }

    fn act(&self, _seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        std::future::ready(Ok("nothing to do".to_owned())).boxed()
    }
}
