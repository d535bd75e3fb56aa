//! Pleasant names for forests whose planter gave none.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use forest_core::id::ForestId;

const FIRST: [&str; 16] = [
    "amber", "autumn", "calm", "deep", "early", "gentle", "golden", "green", "hidden", "misty", "mossy",
    "quiet", "silver", "sunny", "wild", "young",
];
const SECOND: [&str; 16] = [
    "alder", "beech", "birch", "cedar", "elm", "fern", "glade", "grove", "hazel", "larch", "maple", "oak",
    "pine", "rowan", "willow", "wood",
];

/// A name that is not `taken`; the same for the same seed. A number is added once all are taken.
pub(crate) fn fresh(seed: u64, taken: impl Fn(&ForestId) -> bool) -> ForestId {
    let words = FIRST.len() * SECOND.len();
    let start = usize::try_from(seed % words as u64).unwrap_or_default();
    (0usize..)
        .map(|step| {
            let word = (start + step) % words;
            let (first, second) = (FIRST[word / SECOND.len()], SECOND[word % SECOND.len()]);
            match step / words {
                0 => format!("{first}-{second}"),
                round => format!("{first}-{second}-{}", round + 1),
            }
        })
        .filter_map(|name| name.parse().ok())
        .find(|name| !taken(name))
        .expect("there are more names than forests")
}

/// A number that follows from a forest's name and the directory it is kept in (FNV-1a).
pub(crate) fn seed(name: &ForestId, root: &Path) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = root.as_os_str().as_bytes().iter().chain(name.as_str().as_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hundreds_of_forests_have_names_of_their_own() {
        let mut taken = HashSet::new();
        for _ in 0..600 {
            let name = fresh(7, |name| taken.contains(name));
            assert!(name.as_str().len() <= 40 && taken.insert(name));
        }
    }

    proptest! {
        #[test]
        fn any_seed_gives_a_name(seed: u64) {
            prop_assert!(!fresh(seed, |_| false).as_str().is_empty());
        }
    }
}
