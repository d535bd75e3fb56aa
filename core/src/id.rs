//! Names of forests and nodes, valid by construction: they become file names, NATS server names, labels and
//! shell-free arguments, so whatever is not plain is refused where it enters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest id, in bytes: the length of a DNS label, which a node id becomes.
pub const MAX_LEN: usize = 63;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No characters at all.
    #[error("an id cannot be empty")]
    Empty,
    /// More than [`MAX_LEN`] bytes.
    #[error("`{0}` is {len} characters long, and an id has at most {MAX_LEN}", len = .0.chars().count())]
    TooLong(String),
    /// A character outside `[a-z0-9-]`, or a hyphen at either end.
    #[error("`{id}` is not an id: {found} at position {at}; ids are made of a-z, 0-9 and, inside, hyphens")]
    Character {
        /// The text as given.
        id: String,
        /// What stands there, in words.
        found: String,
        /// Counted from 1.
        at: usize,
    },
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    let last = text.chars().count();
    for (index, c) in text.chars().enumerate() {
        let at = index + 1;
        let found = match c {
            'a'..='z' | '0'..='9' => continue,
            '-' if at == 1 => "a hyphen at the start".to_owned(),
            '-' if at == last => "a hyphen at the end".to_owned(),
            '-' => continue,
            'A'..='Z' => format!("the capital letter `{c}`"),
            c => format!("the character {c:?}"),
        };
        return Err(IdError::Character { id: text.to_owned(), found, at });
    }
    if text.len() > MAX_LEN {
        return Err(IdError::TooLong(text.to_owned()));
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// A forest's name: one NATS cluster.
    ForestId
}

id! {
    /// A node's name, unique in its forest; also its NATS `server_name`, so it never changes.
    NodeId
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn says_what_stands_where() {
        let err = |text: &str| text.parse::<NodeId>().unwrap_err().to_string();
        assert_eq!(err(""), "an id cannot be empty");
        assert!(err("Grove").contains("the capital letter `G` at position 1"));
        assert!(err("grove-").contains("a hyphen at the end at position 6"));
        assert!(err("grove/../x").contains("'/' at position 6"));
        assert!(err(&"a".repeat(64)).contains("64 characters long"));
    }

    proptest! {
        #[test]
        fn what_the_pattern_allows_is_accepted(id in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            prop_assert_eq!(id.parse::<NodeId>().map(String::from), Ok(id));
        }

        #[test]
        fn whatever_is_accepted_is_plain(text in "\\PC{0,70}") {
            if let Ok(id) = text.parse::<ForestId>() {
                let id = id.as_str();
                prop_assert!(!id.is_empty() && id.len() <= MAX_LEN);
                prop_assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
                prop_assert!(!id.starts_with('-') && !id.ends_with('-'));
            }
        }
    }
}
