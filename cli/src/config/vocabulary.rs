//! The whole vocabulary of config.yaml, once.

use forest_core::yaml::Vocabulary;

/// Every key there is.
pub const VOCABULARY: Vocabulary = Vocabulary {
    tables: &[
        ("", &["machine", "registry", "engine", "secrets"]),
        ("machine", &["provider", "hetzner", "ssh", "ipv4"]),
        ("machine.hetzner", &["server_type", "server_type_fallback", "image", "location"]),
        ("machine.ssh", &["key_name", "key_path"]),
        ("machine.ipv4", &["enabled"]),
        ("registry", &["type", "url", "path", "storagebox_host", "username", "password"]),
        ("engine", &["kind", "binary", "download_url", "sha256"]),
        ("secrets", &["hetzner_api_token"]),
    ],
    nothing: "write at least `machine: { provider: local }`",
    instead,
};

fn instead(_key: &str) -> Option<&'static str> {
    None
}

/// Is the value of this name never shown?
#[must_use]
pub fn is_secret(name: &str) -> bool {
    name == "registry.password" || name.starts_with("secrets.")
}
