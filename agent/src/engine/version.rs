//! What depends on the version of the NATS server, as it tells it itself. Pure.

/// Is it older than 2.10? Measured with 2.9.10, and not so with 2.15.1:
///
/// - once reloaded, it does not hear the system accounts of servers that connect later;
/// - of a stream whose replicas were raised it loses acknowledged messages when a server is killed, as late as 20 s
///   after all replicas were called current (three bare servers: in 4 of 12 rounds with one kill).
///
/// What is no version is taken for a newer one.
#[must_use]
pub fn is_before_2_10(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (2, 10),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_count_and_not_their_letters() {
        assert!(["2.9.10", "2.9.25-beta", "1.4.1"].iter().all(|version| is_before_2_10(version)));
        assert!(["2.10.0", "2.15.1", "3.0.0", "", "2"].iter().all(|version| !is_before_2_10(version)));
    }
}
