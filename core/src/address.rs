//! A node's address: canonical text, so that comparison by string (which NimsForest does) is comparison by
//! value, and its class, which decides what `address: auto` takes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IP address in its one canonical spelling (RFC 5952 for IPv6; a mapped IPv4 is an IPv4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(IpAddr);

/// Why a text is not an address a node can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an IP address; `hint` says what it looks like.
    #[error("`{text}` is not an IP address{hint}")]
    Syntax {
        /// The text as given.
        text: String,
        /// Empty, or what to change.
        hint: &'static str,
    },
    /// An address that names no host: unspecified, multicast or broadcast.
    #[error("`{0}` is {1}, not the address of a node")]
    NoHost(IpAddr, &'static str),
}

/// Where an address can be reached from. The order is the order of preference of `address: auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Global unicast IPv6.
    GlobalV6,
    /// Unique-local IPv6, `fc00::/7`.
    UniqueLocalV6,
    /// Public IPv4.
    PublicV4,
    /// Private IPv4: RFC 1918 and shared address space, `100.64.0.0/10`.
    PrivateV4,
    /// Of one link only; taken only if given.
    LinkLocal,
    /// Of this host only; taken only if given.
    Loopback,
}

impl Address {
    /// The address as a std type.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// Where it can be reached from.
    #[must_use]
    pub fn class(self) -> Class {
        match self.0 {
            IpAddr::V6(ip) => class_v6(ip),
            IpAddr::V4(ip) => class_v4(ip),
        }
    }

    /// `host:port` as URLs and dialers want it: an IPv6 address in brackets.
    #[must_use]
    pub fn with_port(self, port: u16) -> String {
        std::net::SocketAddr::new(self.0, port).to_string()
    }
}

fn class_v6(ip: Ipv6Addr) -> Class {
    if ip.is_loopback() {
        Class::Loopback
    } else if ip.is_unicast_link_local() {
        Class::LinkLocal
    } else if ip.is_unique_local() {
        Class::UniqueLocalV6
    } else {
        Class::GlobalV6
    }
}

fn class_v4(ip: Ipv4Addr) -> Class {
    let [a, b, ..] = ip.octets();
    if ip.is_loopback() {
        Class::Loopback
    } else if ip.is_link_local() {
        Class::LinkLocal
    } else if ip.is_private() || (a == 100 && (64..128).contains(&b)) {
        Class::PrivateV4
    } else {
        Class::PublicV4
    }
}

impl TryFrom<IpAddr> for Address {
    type Error = AddressError;
    fn try_from(ip: IpAddr) -> Result<Self, AddressError> {
        let ip = ip.to_canonical();
        let what = match ip {
            _ if ip.is_unspecified() => "the unspecified address",
            _ if ip.is_multicast() => "a multicast address",
            IpAddr::V4(ip) if ip.is_broadcast() => "the broadcast address",
            _ => return Ok(Self(ip)),
        };
        Err(AddressError::NoHost(ip, what))
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let ip: IpAddr =
            text.parse().map_err(|_| AddressError::Syntax { text: text.to_owned(), hint: hint(text) })?;
        Self::try_from(ip)
    }
}

fn hint(text: &str) -> &'static str {
    if text.is_empty() {
        " but empty"
    } else if text.contains('/') {
        ": leave out the prefix length behind the slash"
    } else if text.contains('%') {
        ": leave out the zone behind the percent sign"
    } else if text.starts_with('[') {
        ": leave out the brackets and the port"
    } else {
        ""
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What `address: auto` takes: of the candidates `(interface, address)` the best class, then the first in the
/// order of the list. Loopback, link-local and the interfaces of containers and bridges are passed over.
#[must_use]
pub fn choose<'a>(candidates: impl IntoIterator<Item = (&'a str, Address)>) -> Option<Address> {
    candidates
        .into_iter()
        .filter(|(interface, address)| !is_virtual(interface) && address.class() < Class::LinkLocal)
        .map(|(_, address)| address)
        .min_by_key(|address| address.class())
}

/// Interfaces which container engines, hypervisors and bridges make: their addresses are of this host only.
#[must_use]
pub fn is_virtual(interface: &str) -> bool {
    const PREFIXES: [&str; 12] =
        ["docker", "br-", "veth", "virbr", "cni", "flannel", "cali", "podman", "lxc", "lxd", "vnet", "kube"];
    PREFIXES.iter().any(|prefix| interface.starts_with(prefix)) || is_bridge(interface)
}

fn is_bridge(interface: &str) -> bool {
    interface
        .strip_prefix("br")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn one_spelling_for_one_address() {
        assert_eq!(address("2A01:04f8:0000::0001").to_string(), "2a01:4f8::1");
        assert_eq!(address("::ffff:203.0.113.7").to_string(), "203.0.113.7");
        assert_eq!(address("fd00::2").with_port(8223), "[fd00::2]:8223");
    }

    #[test]
    fn classes() {
        for (text, class) in [
            ("2a01:4f8::1", Class::GlobalV6),
            ("fd00::2", Class::UniqueLocalV6),
            ("203.0.113.7", Class::PublicV4),
            ("10.0.0.7", Class::PrivateV4),
            ("100.64.1.1", Class::PrivateV4),
            ("169.254.1.1", Class::LinkLocal),
            ("fe80::1", Class::LinkLocal),
            ("127.3.2.1", Class::Loopback),
            ("::1", Class::Loopback),
        ] {
            assert_eq!(address(text).class(), class, "{text}");
        }
    }

    #[test]
    fn what_names_no_host_is_refused_in_words() {
        for (text, part) in [
            ("0.0.0.0", "unspecified"),
            ("::", "unspecified"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("10.0.0.1/24", "prefix length"),
            ("fe80::1%eth0", "zone"),
            ("[::1]:80", "brackets"),
            ("", "empty"),
            ("grove", "is not an IP address"),
        ] {
            let err = text.parse::<Address>().unwrap_err().to_string();
            assert!(err.contains(part), "{text}: {err}");
        }
    }

    #[test]
    fn auto_prefers_global_ipv6_and_passes_over_containers() {
        let found = [
            ("lo", "::1"),
            ("docker0", "2001:db8::5"),
            ("br-12ab", "172.18.0.1"),
            ("eth0", "10.0.0.7"),
            ("eth0", "fe80::1"),
            ("eth0", "203.0.113.7"),
            ("eth1", "fd00::2"),
        ];
        let candidates = |n: usize| found[..n].iter().map(|(name, text)| (*name, address(text)));
        assert_eq!(choose(candidates(3)), None);
        assert_eq!(choose(candidates(5)), Some(address("10.0.0.7")));
        assert_eq!(choose(candidates(6)), Some(address("203.0.113.7")));
        assert_eq!(choose(candidates(7)), Some(address("fd00::2")));
    }

    proptest! {
        #[test]
        fn text_and_value_agree(bits in any::<u128>()) {
            if let Ok(address) = Address::try_from(IpAddr::from(Ipv6Addr::from(bits))) {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }

        #[test]
        fn auto_takes_the_best_class(list in proptest::collection::vec(any::<u32>(), 0..20)) {
            let list: Vec<Address> =
                list.into_iter().filter_map(|bits| Address::try_from(IpAddr::from(Ipv4Addr::from(bits))).ok()).collect();
            let chosen = choose(list.iter().map(|address| ("eth0", *address)));
            let best = list.iter().map(|address| address.class()).min().filter(|class| *class < Class::LinkLocal);
            prop_assert_eq!(chosen.map(Address::class), best);
        }
    }
}
