//! The values of a configuration by name, for people: as written, secrets masked.

use forest_core::yaml::raw::{Kind, Node};

use super::expand::is_reference;
use super::{VOCABULARY, is_secret};

/// What stands in place of a secret.
const MASK: &str = "********";

/// A value as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its dotted name.
    pub name: String,
    /// The value as written, or a mask.
    pub text: String,
}

/// All values that the file has, in the vocabulary's order.
#[must_use]
pub fn values(root: &Node) -> Vec<Shown> {
    VOCABULARY.names().filter_map(|name| value(root, &name)).collect()
}

/// The value of `name`, if the file has it.
#[must_use]
pub fn value(root: &Node, name: &str) -> Option<Shown> {
    let mut node = root;
    for part in name.split('.') {
        let Kind::Map(entries) = &node.kind else {
            return None;
        };
        node = &entries.iter().find(|(key, _)| key.name == part)?.1;
    }
    let text = plain(node)?;
    let text = match (is_secret(name), is_reference(&text)) {
        (true, true) => format!("{MASK} (from {text})"),
        (true, false) => MASK.to_owned(),
        (false, _) => text,
    };
    Some(Shown { name: name.to_owned(), text })
}

fn plain(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Text(text) => Some(text.clone()),
        Kind::List(items) => {
            let items: Vec<String> = items.iter().filter_map(plain).collect();
            Some(format!("[{}]", items.join(", ")))
        }
        Kind::Empty | Kind::Unplain | Kind::Map(_) => None,
    }
}
