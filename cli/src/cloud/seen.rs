//! What there is of a forest, as the API lists it.

use futures::try_join;

use super::labels::Mark;
use crate::hetzner::wire::{Firewall, Labels, PlacementGroup, Server, SshKey};
use crate::hetzner::{ApiError, Hetzner};

/// Everything with the forest's label, and all keys of the project.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Its servers.
    pub servers: Vec<Server>,
    /// Its firewalls.
    pub firewalls: Vec<Firewall>,
    /// Its placement groups.
    pub groups: Vec<PlacementGroup>,
    /// The keys of the project, whoever's.
    pub keys: Vec<SshKey>,
}

impl Seen {
    /// Looks.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn look(api: &Hetzner, mark: &Mark) -> Result<Self, ApiError> {
        let selector = mark.forest_selector();
        let (servers, firewalls, groups, keys) = try_join!(
            api.servers(&selector),
            api.firewalls(&selector),
            api.placement_groups(&selector),
            api.ssh_keys()
        )?;
        Ok(Self { servers, firewalls, groups, keys })
    }

    /// What belongs to this planting; the keys stay.
    #[must_use]
    pub fn of(&self, mark: &Mark) -> Self {
        let mut ours = self.clone();
        ours.servers.retain(|server| mark.is_on(&server.labels));
        ours.firewalls.retain(|firewall| mark.is_on(&firewall.labels));
        ours.groups.retain(|group| mark.is_on(&group.labels));
        ours
    }

    /// The names of what bears the forest's label and is of another planting.
    #[must_use]
    pub fn strangers(&self, mark: &Mark) -> Vec<String> {
        self.all().filter(|(labels, _)| !mark.is_on(labels)).map(|(_, name)| name.clone()).collect()
    }

    /// The names of everything of the forest.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.all().map(|(_, name)| name.clone()).collect()
    }

    fn all(&self) -> impl Iterator<Item = (&Labels, &String)> {
        let servers = self.servers.iter().map(|server| (&server.labels, &server.name));
        let firewalls = self.firewalls.iter().map(|firewall| (&firewall.labels, &firewall.name));
        let groups = self.groups.iter().map(|group| (&group.labels, &group.name));
        servers.chain(firewalls).chain(groups)
    }

    /// Is there anything of the forest?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.firewalls.is_empty() && self.groups.is_empty()
    }
}
