//! Forests of the configured registry, whose nodes are other machines: what it says of them, and how they are.

use std::path::Path;

use forest_core::id::ForestId;
use forest_core::registry::Registry;
use serde_json::Value;

use crate::config::{find, registry};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::probe::Target;
use crate::report::Orphan;
use crate::store::Store;

/// The configured registry; `None`: there is none but that of the local forests.
pub(super) fn store(named: Option<&Path>, env: &Environment) -> Result<Option<Store>, Failure> {
    let Some(path) = find(named, env).path else {
        return Ok(None);
    };
    registry::load(&path, env)?.map(Store::configured).transpose()
}

/// A forest as the registry has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) provider: String,
    pub(super) targets: Vec<Target>,
    /// Entries that name no node which could be asked.
    pub(super) orphans: Vec<Orphan>,
}

/// The forest `id` of the registry.
pub(super) fn find_forest(registry: &Registry, id: &ForestId) -> Remote {
    let (record, entries) = (registry.forest(id), registry.entries(id));
    let provider = record.and_then(|record| record.get("provider")).and_then(Value::as_str);
    let asked: Vec<Option<Target>> = entries.iter().map(Target::of).collect();
    let lost = entries.iter().zip(&asked).filter(|(_, target)| target.is_none());
    Remote {
        provider: provider.unwrap_or("unknown").to_owned(),
        orphans: lost.map(|(entry, _)| Orphan { kind: "entry", id: entry.id.clone() }).collect(),
        targets: asked.into_iter().flatten().collect(),
    }
}

#[cfg(test)]
mod tests {
    use forest_core::registry::Document as _;

    use super::*;

    #[test]
    fn a_forest_is_asked_where_its_entries_say() {
        let text = r#"{"forests":{"elm":{"provider":"hetzner"}},"nodes":{"grove":[
            {"id":"grove-node-1","ip":"fd00::1","metadata":{"health_port":"9"}},{"id":"x","ip":"nowhere"}]}}"#;
        let registry = Registry::parse(text.as_bytes()).unwrap();
        let grove = find_forest(&registry, &"grove".parse().unwrap());
        assert_eq!(grove.provider, "unknown");
        assert_eq!(
            (grove.targets.len(), grove.targets[0].health_port, grove.targets[0].monitor_port),
            (1, 9, 8222)
        );
        assert_eq!(grove.orphans, [Orphan { kind: "entry", id: "x".to_owned() }]);
        let elm = find_forest(&registry, &"elm".parse().unwrap());
        assert_eq!((elm.provider.as_str(), elm.targets.len()), ("hetzner", 0));
    }
}
