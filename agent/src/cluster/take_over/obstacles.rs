//! What keeps a standalone store from being taken over whole. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Every other account's streams a client of the forest could not see.
pub const ACCOUNT: &str = "$G";
/// Beside the streams.
const SLACK: u64 = 64 << 20;

/// A stream as the server on the old store tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// Does it lie in memory?
    pub in_memory: bool,
    /// What it holds, in bytes.
    pub bytes: u64,
    /// What it reserves, in bytes; 0: nothing.
    pub max_bytes: u64,
}

/// What is known before anything is done.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// The streams on the disk, by account.
    pub on_disk: BTreeMap<String, BTreeSet<String>>,
    /// Those of which the server tells.
    pub told: Vec<Told>,
    /// Bytes free where the store lies.
    pub free: u64,
    /// Bytes that the engine may store.
    pub limit: u64,
}

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A stream of another account: `ACCOUNT/STREAM`.
    OtherAccount(String),
    /// It lies in memory: there is nothing to snapshot.
    InMemory(String),
    /// The server cannot make sense of it.
    Unreadable(String),
    /// So many bytes are needed for snapshots and restored streams, and so many are free.
    Space(u64, u64),
    /// So many bytes are in the streams or reserved by them, and so many may the engine store.
    Limit(u64, u64),
}

impl Obstacle {
    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        const MIB: u64 = 1 << 20;
        match self {
            Self::OtherAccount(name) => {
                format!("{name} is of another account than {ACCOUNT}, the only one of a forest")
            }
            Self::InMemory(name) => format!("{name} lies in memory"),
            Self::Unreadable(name) => {
                format!("{name} cannot be read by this server (encrypted, damaged, or of a newer version?)")
            }
            Self::Space(needed, free) => format!(
                "snapshots and restored streams take {} MiB where the store lies, and {} MiB are free",
                needed.div_ceil(MIB),
                free / MIB
            ),
            Self::Limit(needed, limit) => format!(
                "the streams hold or reserve {} MiB, and the engine may store {} MiB",
                needed.div_ceil(MIB),
                limit / MIB
            ),
        }
    }

    /// The name by which a person may leave it behind.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::OtherAccount(name) | Self::InMemory(name) | Self::Unreadable(name) => Some(name),
            Self::Space(..) | Self::Limit(..) => None,
        }
    }
}

/// The streams that are carried over, or what stands in the way. `left_behind`: those that are not, as a person
/// wants it.
///
/// # Errors
/// Every obstacle.
pub fn carried(survey: &Survey, left_behind: &BTreeSet<String>) -> Result<Vec<String>, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let told: BTreeSet<&str> = survey.told.iter().map(|told| told.name.as_str()).collect();
    for (account, streams) in &survey.on_disk {
        for stream in streams {
            if account != ACCOUNT {
                obstacles.push(Obstacle::OtherAccount(format!("{account}/{stream}")));
            } else if !told.contains(stream.as_str()) {
                obstacles.push(Obstacle::Unreadable(stream.clone()));
            }
        }
    }
    let wanted: Vec<&Told> = survey.told.iter().filter(|told| !left_behind.contains(&told.name)).collect();
    obstacles.extend(
        wanted.iter().filter(|told| told.in_memory).map(|told| Obstacle::InMemory(told.name.clone())),
    );
    obstacles.retain(|obstacle| obstacle.name().is_none_or(|name| !left_behind.contains(name)));
    let sum = |of: fn(&Told) -> u64| wanted.iter().map(|told| of(told)).fold(0, u64::saturating_add);
    let space = sum(|told| told.bytes).saturating_mul(2).saturating_add(SLACK);
    if space > survey.free {
        obstacles.push(Obstacle::Space(space, survey.free));
    }
    let stored = sum(|told| told.bytes.max(told.max_bytes));
    if stored > survey.limit {
        obstacles.push(Obstacle::Limit(stored, survey.limit));
    }
    if obstacles.is_empty() {
        Ok(wanted.iter().map(|told| told.name.clone()).collect())
    } else {
        Err(obstacles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, bytes: u64) -> Told {
        Told { name: name.to_owned(), in_memory: false, bytes, max_bytes: 0 }
    }

    fn survey() -> Survey {
        Survey {
            on_disk: [(ACCOUNT.to_owned(), ["a", "b"].map(str::to_owned).into())].into(),
            told: vec![told("a", 10 << 20), told("b", 0)],
            free: 1 << 30,
            limit: 1 << 30,
        }
    }

    #[test]
    fn everything_that_stands_in_the_way_is_named_at_once() {
        let none = BTreeSet::new();
        assert_eq!(carried(&survey(), &none), Ok(vec!["a".to_owned(), "b".to_owned()]));
        let mut ill = survey();
        ill.on_disk.insert("APP".to_owned(), ["c".to_owned()].into());
        ill.on_disk.entry(ACCOUNT.to_owned()).or_default().insert("d".to_owned());
        ill.told[1].in_memory = true;
        ill.told[0].max_bytes = 2 << 30;
        ill.free = 80 << 20;
        let obstacles = [
            Obstacle::Unreadable("d".to_owned()),
            Obstacle::OtherAccount("APP/c".to_owned()),
            Obstacle::InMemory("b".to_owned()),
            Obstacle::Space(84 << 20, 80 << 20),
            Obstacle::Limit(2 << 30, 1 << 30),
        ];
        assert_eq!(carried(&ill, &none), Err(obstacles.to_vec()));
        let names = ["a", "b", "d", "APP/c"].map(str::to_owned).into();
        assert_eq!(carried(&ill, &names), Ok(Vec::new()), "nothing that is left behind needs space");
    }
}
