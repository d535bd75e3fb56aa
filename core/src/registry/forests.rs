//! The pure changes to a registry that the laptop makes: it owns the records in `forests`. Keys of others in a
//! record are kept.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::model::{Registry, object_in};
use crate::id::ForestId;

impl Registry {
    /// The names of the forests that have a record, in the file's order, as written.
    #[must_use]
    pub fn forest_names(&self) -> Vec<String> {
        let forests = self.root().get("forests").and_then(Value::as_object);
        forests.into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }
}

/// The registry with the forest's record as `edit` leaves it; one with nothing but its `id` is made if need be.
/// `None` where nothing changes.
#[must_use]
pub fn edit_forest(
    registry: &Registry,
    forest: &ForestId,
    now: Timestamp,
    edit: impl FnOnce(&mut Map<String, Value>),
) -> Option<Registry> {
    let mut next = registry.clone();
    edit(next.forest_mut(forest));
    changed(registry, next, now)
}

/// The registry without the forest: neither its record nor any entry. `None` where it has neither.
#[must_use]
pub fn remove_forest(registry: &Registry, forest: &ForestId, now: Timestamp) -> Option<Registry> {
    let mut next = registry.clone();
    for key in ["forests", "nodes"] {
        object_in(next.root_mut(), key).shift_remove(forest.as_str());
    }
    changed(registry, next, now)
}

fn changed(before: &Registry, mut after: Registry, now: Timestamp) -> Option<Registry> {
    if after == *before {
        return None;
    }
    after.touch(now);
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::super::document::Document as _;
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn parse(text: &str) -> Registry {
        Registry::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_record_is_made_edited_and_kept() {
        let grove = "grove".parse().unwrap();
        let found = parse(r#"{"x":1.10,"forests":{"elm":{"a":1}}}"#);
        let set = |record: &mut Map<String, Value>| {
            record.insert("size".to_owned(), "small".into());
        };
        let made = edit_forest(&found, &grove, NOW, set).unwrap();
        assert_eq!(made.forest_names(), ["elm", "grove"]);
        assert_eq!(made.forest(&grove).unwrap()["id"], "grove");
        assert!(made.render().contains("1.10"));
        assert_eq!(edit_forest(&made, &grove, NOW, set), None);
    }

    #[test]
    fn a_forest_goes_with_its_entries_and_no_other() {
        let (grove, elm) = ("grove".parse().unwrap(), "elm".parse().unwrap());
        let text = r#"{"forests":{"grove":{}},"nodes":{"grove":[{"id":"a"}],"elm":[{"id":"b"}]}}"#;
        let left = remove_forest(&parse(text), &grove, NOW).unwrap();
        assert_eq!((left.forest(&grove), left.entries(&grove)), (None, vec![]));
        assert_eq!(left.entries(&elm).len(), 1);
        assert_eq!(remove_forest(&left, &grove, NOW), None);
        assert_eq!(remove_forest(&parse(r#"{"forests":{},"nodes":{}}"#), &grove, NOW), None);
    }
}
