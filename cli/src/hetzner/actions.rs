//! Waiting for actions: all of them by one request, and the longer it takes the seldomer.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::calls::Hetzner;
use super::error::{ApiError, Code};
use super::wire::{Action, ActionStatus};

/// So many are asked for by one request.
const TOGETHER: usize = 25;

impl Action {
    /// What went wrong, once it has ended so.
    #[must_use]
    pub fn failure(&self) -> Option<ApiError> {
        (self.status == ActionStatus::Error).then(|| {
            let (code, message) = match &self.error {
                Some(told) => (Code::of(&told.code), told.sentence()),
                None => (Code::Other("unknown".to_owned()), "no cause is given".to_owned()),
            };
            ApiError::Action { command: self.command.clone(), code, message }
        })
    }
}

impl Hetzner {
    /// Waits until all of the actions have ended, well or badly; for at most `limit`. How each ended, by number.
    ///
    /// # Errors
    /// [`ApiError`] where they cannot be asked for, or do not end in time.
    pub async fn ended(
        &self,
        actions: impl IntoIterator<Item = Action>,
        limit: Duration,
    ) -> Result<BTreeMap<u64, Action>, ApiError> {
        let mut all: BTreeMap<u64, Action> = actions.into_iter().map(|action| (action.id, action)).collect();
        let began = Instant::now();
        loop {
            let running = |action: &&Action| action.status == ActionStatus::Running;
            let open: Vec<String> =
                all.values().filter(running).map(|action| action.id.to_string()).collect();
            if open.is_empty() {
                return Ok(all);
            }
            if began.elapsed() >= limit {
                let commands: Vec<&str> =
                    all.values().filter(running).map(|action| action.command.as_str()).collect();
                return Err(ApiError::Slow { commands: commands.join(", "), waited: limit });
            }
            tokio::time::sleep(self.transport.timing.poll.max(began.elapsed() / 20)).await;
            for ids in open.chunks(TOGETHER) {
                let query: Vec<(&'static str, &str)> = ids.iter().map(|id| ("id", id.as_str())).collect();
                let seen: Vec<Action> = self.list("actions", &query).await?;
                all.extend(seen.into_iter().map(|action| (action.id, action)));
            }
        }
    }
}
