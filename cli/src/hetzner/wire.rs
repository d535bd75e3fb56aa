//! What the API answers and is asked, as far as morpheus uses it. Fields that are missing or null take their
//! defaults, words that are not known here become `Unknown`; only what identifies a thing has to be there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::error::Told;

/// Labels of a thing.
pub type Labels = BTreeMap<String, String>;

/// A null is the default, as if the field were missing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// A server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Server {
    /// Its number.
    pub id: u64,
    /// Its name, unique in the project.
    pub name: String,
    /// What it is at.
    #[serde(default)]
    pub status: ServerStatus,
    /// Its addresses.
    #[serde(default, deserialize_with = "or_default")]
    pub public_net: PublicNet,
    /// Its type.
    #[serde(default, deserialize_with = "or_default")]
    pub server_type: Named,
    /// Where it is.
    #[serde(default, deserialize_with = "or_default")]
    pub location: Named,
    /// Its labels.
    #[serde(default, deserialize_with = "or_default")]
    pub labels: Labels,
}

/// What a server is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerStatus {
    /// Being made.
    Initializing,
    /// Booting.
    Starting,
    /// Powered.
    Running,
    /// Shutting down.
    Stopping,
    /// Without power.
    Off,
    /// Being deleted.
    Deleting,
    /// Anything else.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The addresses of a server.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct PublicNet {
    /// None where it has no IPv4.
    #[serde(default)]
    pub ipv4: Option<Address>,
    /// A network, of which the server takes the first address.
    #[serde(default)]
    pub ipv6: Option<Address>,
}

/// An address, or a network.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Address {
    /// As written.
    #[serde(default, deserialize_with = "or_default")]
    pub ip: String,
}

impl Server {
    /// The address at which the server is found: the first of its IPv6 network, else its IPv4.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address_v6().or(self.address_v4())
    }

    /// The first of its IPv6 network.
    #[must_use]
    pub fn address_v6(&self) -> Option<IpAddr> {
        self.public_net.ipv6.as_ref().and_then(|net| first_host(&net.ip)).map(IpAddr::V6)
    }

    /// Its IPv4.
    #[must_use]
    pub fn address_v4(&self) -> Option<IpAddr> {
        self.public_net.ipv4.as_ref().and_then(|net| net.ip.parse().ok())
    }
}

/// `2001:db8::/64` is given to a server as `2001:db8::1`.
fn first_host(network: &str) -> Option<Ipv6Addr> {
    let (address, _) = network.split_once('/').unwrap_or((network, ""));
    let address: Ipv6Addr = address.parse().ok()?;
    Some(if network.contains('/') { Ipv6Addr::from(u128::from(address) | 1) } else { address })
}

/// Something that has a name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Named {
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// Something that takes time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Action {
    /// Its number.
    pub id: u64,
    /// What is done.
    #[serde(default, deserialize_with = "or_default")]
    pub command: String,
    /// How far it is.
    #[serde(default)]
    pub status: ActionStatus,
    /// What went wrong.
    #[serde(default)]
    pub(super) error: Option<Told>,
}

/// How far an action is; an unknown word is taken for running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionStatus {
    /// Done.
    Success,
    /// Failed.
    Error,
    /// Not done yet.
    #[default]
    #[serde(other)]
    Running,
}

/// A kind of machine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ServerType {
    /// Its name.
    pub name: String,
    /// Virtual cores.
    #[serde(default)]
    pub cores: u32,
    /// In GB.
    #[serde(default)]
    pub memory: f64,
    /// In GB.
    #[serde(default)]
    pub disk: f64,
    /// `x86` or `arm`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// What it costs, by location.
    #[serde(default, deserialize_with = "or_default")]
    pub prices: Vec<TypePrice>,
    /// Where it is to be had.
    #[serde(default, deserialize_with = "or_default")]
    pub locations: Vec<TypeLocation>,
    /// Is it on its way out?
    #[serde(default)]
    pub deprecation: Option<Deprecation>,
}

/// The price of a type in one location.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TypePrice {
    /// The location.
    pub location: String,
    /// An hour.
    #[serde(default, deserialize_with = "or_default")]
    pub price_hourly: Price,
    /// A month, at most.
    #[serde(default, deserialize_with = "or_default")]
    pub price_monthly: Price,
}

/// An amount, as decimal text.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Price {
    /// Without tax.
    #[serde(default)]
    pub net: String,
    /// With tax.
    #[serde(default)]
    pub gross: String,
}

/// A type in one location.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TypeLocation {
    /// The location.
    pub name: String,
    /// A hint at the stock, no more: what is said to be sold out was had, and the other way round.
    #[serde(default)]
    pub available: Option<bool>,
    /// Is it on its way out there?
    #[serde(default)]
    pub deprecation: Option<Deprecation>,
}

/// Something goes away.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Deprecation {
    /// RFC 3339: from then on no new one is to be had.
    #[serde(default, deserialize_with = "or_default")]
    pub unavailable_after: String,
}

/// A place with machines.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Location {
    /// Its name.
    pub name: String,
    /// The city.
    #[serde(default, deserialize_with = "or_default")]
    pub city: String,
    /// Locations near each other share one.
    #[serde(default, deserialize_with = "or_default")]
    pub network_zone: String,
}

/// What a server is made from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Image {
    /// Its number.
    pub id: u64,
    /// Its name; snapshots have none.
    #[serde(default)]
    pub name: Option<String>,
    /// `x86` or `arm`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// RFC 3339, where it is on its way out.
    #[serde(default)]
    pub deprecated: Option<String>,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SshKey {
    /// Its number.
    pub id: u64,
    /// Its name.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// As in a `.pub` file.
    #[serde(default, deserialize_with = "or_default")]
    pub public_key: String,
    /// Its labels.
    #[serde(default, deserialize_with = "or_default")]
    pub labels: Labels,
}

/// A firewall.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Firewall {
    /// Its number.
    pub id: u64,
    /// Its name, unique in the project.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// Its labels.
    #[serde(default, deserialize_with = "or_default")]
    pub labels: Labels,
    /// What it lets in.
    #[serde(default, deserialize_with = "or_default")]
    pub rules: Vec<Rule>,
    /// What it stands before.
    #[serde(default, deserialize_with = "or_default")]
    pub applied_to: Vec<Applied>,
}

/// What a firewall lets in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// `in`
    pub direction: String,
    /// `tcp`, `icmp`, …
    pub protocol: String,
    /// A port, or a range; none for `icmp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Networks.
    #[serde(default)]
    pub source_ips: Vec<String>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
}

/// What a firewall stands before.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Applied {
    /// `label_selector`, `server`
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    /// Which servers, by label.
    #[serde(default)]
    pub label_selector: Option<Selector>,
    /// Or which one.
    #[serde(default)]
    pub server: Option<Value>,
}

/// Servers by label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// `key=value`
    pub selector: String,
}

/// Servers that stand on different hosts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PlacementGroup {
    /// Its number.
    pub id: u64,
    /// Its name, unique in the project.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// Its labels.
    #[serde(default, deserialize_with = "or_default")]
    pub labels: Labels,
    /// Its servers.
    #[serde(default, deserialize_with = "or_default")]
    pub servers: Vec<u64>,
}

/// A server to be made. The user-data may hold a password: it has no `Debug`.
#[derive(Clone, Serialize)]
pub struct NewServer {
    /// Its name.
    pub name: String,
    /// Its type.
    pub server_type: String,
    /// Where.
    pub location: String,
    /// The number of its image.
    pub image: u64,
    /// Whose keys may log in, by number.
    pub ssh_keys: Vec<u64>,
    /// What cloud-init is given.
    pub user_data: String,
    /// Its labels.
    pub labels: Labels,
    /// The firewalls before it.
    pub firewalls: Vec<FirewallRef>,
    /// Its placement group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement_group: Option<u64>,
    /// Which addresses it gets.
    pub public_net: NewPublicNet,
    /// At once.
    pub start_after_create: bool,
}

/// A firewall by its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirewallRef {
    /// Its number.
    pub firewall: u64,
}

/// Which addresses a new server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NewPublicNet {
    /// Costs extra.
    pub enable_ipv4: bool,
    /// Free.
    pub enable_ipv6: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_missing_or_null_is_no_failure() {
        let text = r#"{"id":7,"name":"n","status":"dreaming","public_net":null,"labels":null,"datacenter":null,"new":[1]}"#;
        let server: Server = serde_json::from_str(text).unwrap();
        assert_eq!((server.status, server.address(), server.labels.len()), (ServerStatus::Unknown, None, 0));
        let action: Action = serde_json::from_str(r#"{"id":1,"status":"queued","error":null}"#).unwrap();
        assert_eq!(action.status, ActionStatus::Running);
        assert!(serde_json::from_str::<Server>(r#"{"name":"no id"}"#).is_err());
    }

    #[test]
    fn a_server_is_found_at_the_first_address_of_its_network() {
        let server = |net: &str| -> Server {
            serde_json::from_str(&format!(r#"{{"id":1,"name":"n","public_net":{net}}}"#)).unwrap()
        };
        let address = |net| server(net).address().map(|ip| ip.to_string());
        assert_eq!(
            address(r#"{"ipv6":{"ip":"2001:db8::/64"},"ipv4":{"ip":"1.2.3.4"}}"#).unwrap(),
            "2001:db8::1"
        );
        assert_eq!(address(r#"{"ipv6":null,"ipv4":{"ip":"1.2.3.4"}}"#).unwrap(), "1.2.3.4");
        assert_eq!(address(r#"{"ipv6":{"ip":"nonsense"}}"#), None);
    }
}
