//! Carries out [`super::removal`]: what can go goes, and what cannot is told at the end.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::labels::{MANAGED, Mark};
use super::raise::late;
use super::removal::{self, Removal};
use super::seen::Seen;
use crate::failure::Failure;
use crate::hetzner::wire::Action;
use crate::hetzner::{ApiError, Code, Hetzner, calls};

/// Between two looks at something that only time helps.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes down everything of a planting: servers, firewall, placement groups.
///
/// # Errors
/// The first [`Failure`], once everything that can go is gone.
pub async fn fell(api: &Hetzner, mark: &Mark, limit: Duration) -> Result<(), Failure> {
    let until = Instant::now() + limit;
    loop {
        let seen = Seen::look(api, mark).await?;
        let steps = removal::steps(mark, &seen);
        if steps.is_empty() {
            return Ok(());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late(mark, limit));
        }
        let results = join_all(steps.iter().map(|step| remove(api, mark, *step))).await;
        let (mut actions, mut failure) = (Vec::new(), None);
        for result in results {
            match result {
                Ok(begun) => actions.extend(begun),
                // The firewall is taken off the last server a moment after that is gone.
                Err(err) if err.is(&Code::InUse) => tokio::time::sleep(PAUSE).await,
                Err(err) => failure = failure.or(Some(err)),
            }
        }
        let ended = api.ended(actions, left).await?;
        failure = failure.or_else(|| ended.values().find_map(Action::failure));
        if let Some(err) = failure {
            return Err(err.into());
        }
    }
}

async fn remove(api: &Hetzner, mark: &Mark, step: Removal) -> Result<Vec<Action>, ApiError> {
    match step {
        Removal::Server(id) => Ok(api.delete_server(id).await?.into_iter().collect()),
        Removal::Detach(id) => api.detach_firewall(id, &mark.firewall_selector()).await,
        Removal::Firewall(id) => api.delete_firewall(id).await.map(|()| Vec::new()),
        Removal::Group(id) => api.delete_placement_group(id).await.map(|()| Vec::new()),
        Removal::Wait => {
            tokio::time::sleep(PAUSE).await;
            Ok(Vec::new())
        }
    }
}

/// Deletes these servers.
///
/// # Errors
/// [`ApiError`], once all have been tried.
pub async fn discard(api: &Hetzner, servers: &[u64], limit: Duration) -> Result<(), ApiError> {
    let results = join_all(servers.iter().map(|server| api.delete_server(*server))).await;
    let (mut actions, mut failure) = (Vec::new(), None);
    for result in results {
        match result {
            Ok(action) => actions.extend(action),
            Err(err) => failure = failure.or(Some(err)),
        }
    }
    let ended = api.ended(actions, limit).await?;
    let failure = failure.or_else(|| ended.values().find_map(Action::failure));
    failure.map_or(Ok(()), Err)
}

/// Deletes the keys that morpheus uploaded, if none of its servers is left in the project.
///
/// # Errors
/// [`ApiError`]
pub async fn drop_keys(api: &Hetzner) -> Result<(), ApiError> {
    if !api.servers(&calls::selector(&[MANAGED])).await?.is_empty() {
        return Ok(());
    }
    for key in removal::our_keys(&api.ssh_keys().await?) {
        api.delete_ssh_key(key).await?;
    }
    Ok(())
}
