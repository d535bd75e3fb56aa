//! What to do next so that nothing is left of a forest. Pure, as [`super::plan`]. No steps: all is gone.

use super::labels::{MANAGED, Mark};
use super::seen::Seen;
use crate::hetzner::wire::{ServerStatus, SshKey};

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Removal {
    /// Delete a server.
    Server(u64),
    /// Take the firewall away from servers that may come.
    Detach(u64),
    /// Delete the firewall.
    Firewall(u64),
    /// Delete a placement group.
    Group(u64),
    /// A server is just being deleted: look again a little later.
    Wait,
}

/// The steps to be done next, all at once: servers first, since what they stand on is in use until they are gone.
#[must_use]
pub fn steps(mark: &Mark, seen: &Seen) -> Vec<Removal> {
    let ours = seen.of(mark);
    if !ours.servers.is_empty() {
        let step =
            |status, id| if status == ServerStatus::Deleting { Removal::Wait } else { Removal::Server(id) };
        return ours.servers.iter().map(|server| step(server.status, server.id)).collect();
    }
    let firewalls = ours.firewalls.iter().map(|firewall| match firewall.applied_to.is_empty() {
        true => Removal::Firewall(firewall.id),
        false => Removal::Detach(firewall.id),
    });
    firewalls.chain(ours.groups.iter().map(|group| Removal::Group(group.id))).collect()
}

/// The keys that morpheus uploaded, which go with the last of its servers.
#[must_use]
pub fn our_keys(keys: &[SshKey]) -> Vec<u64> {
    let ours = |key: &&SshKey| key.labels.get(MANAGED.0).map(String::as_str) == Some(MANAGED.1);
    keys.iter().filter(ours).map(|key| key.id).collect()
}
