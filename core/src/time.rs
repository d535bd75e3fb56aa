//! Points in time as every file and report of a forest writes them: RFC 3339, UTC, whole seconds.

use jiff::{Timestamp, Unit};

/// `at` as RFC 3339 in UTC with whole seconds: `2026-11-22T20:16:55Z`.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    whole_seconds(at).to_string()
}

/// `at` as it stands in file names: `20261122T201655Z`.
#[must_use]
pub fn compact(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_one_moment() {
        let at: Timestamp = "2026-11-22T20:16:55.123456Z".parse().unwrap();
        assert_eq!(rfc3339(at), "2026-11-22T20:16:55Z");
        assert_eq!(compact(at), "20261122T201655Z");
    }
}
