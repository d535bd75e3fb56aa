//! The whole vocabulary of agent.yaml, once.

use forest_core::yaml::Vocabulary;

/// Every key there is.
pub(super) const VOCABULARY: Vocabulary =
    Vocabulary { tables: TABLES, nothing: "write at least forest_id and node_id", instead };

const TABLES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "forest_id",
            "node_id",
            "address",
            "registry",
            "poll_interval",
            "share",
            "engine",
            "witness",
            "listen",
            "firewall",
            "state_dir",
            "runtime_dir",
            "node_info",
        ],
    ),
    ("share", &["source", "mountpoint", "username", "password_file", "options"]),
    ("engine", &["kind", "binary", "download", "data_dir"]),
    ("engine.download", &["url", "sha256"]),
    ("witness", &["binary", "download", "listen"]),
    ("witness.download", &["url", "sha256"]),
    ("witness.listen", &["client", "cluster"]),
    ("listen", &["client", "cluster", "monitor", "health"]),
    ("firewall", &["manage", "monitoring_from"]),
];

fn instead(key: &str) -> Option<&'static str> {
    matches!(key, "password" | "password2" | "pass")
        .then_some("put the password into a file of its own, mode 0600, and name that in share.password_file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mapping_is_a_key_of_another() {
        for (table, keys) in TABLES {
            assert!(!keys.is_empty());
            let (parent, key) = table.rsplit_once('.').unwrap_or(("", table));
            let known = TABLES.iter().any(|(name, keys)| *name == parent && keys.contains(&key));
            assert!(table.is_empty() || known, "{table}");
        }
    }
}
