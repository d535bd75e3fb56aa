//! `node-info.json`: who this machine is, as NimsForest reads it (`forest_id` and `node_id`; it ignores the
//! rest). Keys written by others are kept.

use serde_json::{Map, Value};

use crate::id::{ForestId, NodeId};

/// Why a node-info.json cannot be kept and must be written anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeInfoError {
    /// Not JSON at all, or cut short.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// JSON, but no object.
    #[error("no object but {0}")]
    Shape(&'static str),
}

/// The text that node-info.json must hold, or `None` where `found` already says it.
///
/// Keys of others are kept, in their order. A file that cannot be read as an object is replaced; `Err` carries
/// the reason for the log beside the new text's being due.
///
/// # Errors
/// [`NodeInfoError`] where `found` is no JSON object: the caller writes [`fresh`] instead and says so.
pub fn updated(found: &str, forest: &ForestId, node: &NodeId) -> Result<Option<String>, NodeInfoError> {
    let mut object = match serde_json::from_str(found) {
        Ok(Value::Object(object)) => object,
        Ok(other) => return Err(NodeInfoError::Shape(kind(&other))),
        Err(err) => return Err(NodeInfoError::Syntax(err.to_string())),
    };
    let wanted = [("forest_id", forest.as_str()), ("node_id", node.as_str())];
    if wanted.iter().all(|(key, value)| object.get(*key).and_then(Value::as_str) == Some(value)) {
        return Ok(None);
    }
    for (key, value) in wanted {
        object.insert(key.to_owned(), value.into());
    }
    Ok(Some(text(object)))
}

/// A node-info.json with nothing but the two ids.
#[must_use]
pub fn fresh(forest: &ForestId, node: &NodeId) -> String {
    let mut object = Map::new();
    object.insert("forest_id".to_owned(), forest.as_str().into());
    object.insert("node_id".to_owned(), node.as_str().into());
    text(object)
}

fn text(object: Map<String, Value>) -> String {
    format!("{:#}\n", Value::Object(object))
}

/// What a JSON value is, in words for a person.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> (ForestId, NodeId) {
        ("grove".parse().unwrap(), "grove-node-1".parse().unwrap())
    }

    #[test]
    fn fresh_text_stands() {
        let (forest, node) = ids();
        assert_eq!(updated(&fresh(&forest, &node), &forest, &node), Ok(None));
    }

    #[test]
    fn keys_of_others_are_kept_in_order() {
        let (forest, node) = ids();
        let found = r#"{"zone":"fsn1","node_id":"old","weight":1.10}"#;
        let text = updated(found, &forest, &node).unwrap().unwrap();
        assert_eq!(
            text,
            "{\n  \"zone\": \"fsn1\",\n  \"node_id\": \"grove-node-1\",\n  \"weight\": 1.10,\n  \"forest_id\": \"grove\"\n}\n"
        );
    }

    #[test]
    fn a_file_that_is_no_object_is_named() {
        let (forest, node) = ids();
        assert_eq!(updated("[]", &forest, &node), Err(NodeInfoError::Shape("a list")));
        assert!(matches!(updated("{\"forest", &forest, &node), Err(NodeInfoError::Syntax(_))));
    }
}
