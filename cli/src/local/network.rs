//! The loopback addresses of forests: each forest has a network 127.x.y, each node an address 127.x.y.n. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `127.x.y`. Those that begin with 127.0 are left to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(u8, u8);

/// How many networks there are.
const ALL: u64 = 255 * 256;

/// The text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network like 127.33.7")]
pub struct NetworkError(String);

impl Network {
    /// The address of the `n`th node, if there is one: the first is 1, the last 254.
    #[must_use]
    pub fn address(self, n: u64) -> Option<Ipv4Addr> {
        let n = u8::try_from(n).ok().filter(|n| (1..255).contains(n))?;
        Some(Ipv4Addr::new(127, self.0, self.1, n))
    }

    /// The network that an address lies in.
    #[must_use]
    pub fn of(address: Ipv4Addr) -> Option<Self> {
        let [127, x, y, _] = address.octets() else {
            return None;
        };
        (x > 0).then_some(Self(x, y))
    }

    /// A network that is not `taken`, looked for from a place that follows from `seed`; `None`: all are.
    #[must_use]
    pub fn choose(seed: u64, taken: &BTreeSet<Self>) -> Option<Self> {
        (0..ALL)
            .filter_map(|step| {
                let [low, high, ..] = ((seed % ALL + step) % ALL).to_le_bytes();
                Some(Self(high.checked_add(1)?, low))
            })
            .find(|network| !taken.contains(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "127.{}.{}", self.0, self.1)
    }
}

impl FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let network = format!("{text}.1").parse().ok().and_then(Self::of);
        network.ok_or_else(|| NetworkError(text.to_owned()))
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;
    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_networks_are_found_and_then_none() {
        let mut taken = BTreeSet::new();
        while let Some(network) = Network::choose(4711, &taken) {
            assert!(taken.insert(network));
            if taken.len() > 300 {
                break;
            }
        }
        assert_eq!(taken.len(), 301);
        let all = (1..=255).flat_map(|x| (0..=255).map(move |y| Network(x, y))).collect();
        assert_eq!(Network::choose(0, &all), None);
    }

    #[test]
    fn addresses_end_where_the_network_does() {
        let network: Network = "127.33.7".parse().unwrap();
        assert_eq!(network.address(1), Some(Ipv4Addr::new(127, 33, 7, 1)));
        assert_eq!(network.address(0), None);
        assert!(network.address(254).is_some() && network.address(255).is_none());
        assert!("127.0.1".parse::<Network>().is_err() && "10.1.1".parse::<Network>().is_err());
    }

    proptest! {
        #[test]
        fn a_chosen_network_is_free_and_has_one_spelling(seed: u64, taken in proptest::collection::btree_set(any::<u64>(), 0..20)) {
            let taken = taken.into_iter().filter_map(|seed| Network::choose(seed, &BTreeSet::new())).collect();
            let network = Network::choose(seed, &taken).unwrap();
            prop_assert!(!taken.contains(&network));
            prop_assert_eq!(network.to_string().parse(), Ok(network));
            prop_assert_eq!(network.address(9).and_then(Network::of), Some(network));
        }
    }
}
