//! A mapping of the file and its keys: each value knows its own dotted name and place, so that whoever finds it
//! wrong can say so.

use std::fmt::Display;
use std::str::FromStr;

use super::error::{Place, Problem};
use super::raw::{self, Key, Kind, Node};
use crate::suggest::nearest;

/// The whole vocabulary of one kind of file.
#[derive(Debug)]
pub struct Vocabulary {
    /// Every mapping there is, and its keys. A key of the top level stands in the mapping named "".
    pub tables: &'static [(&'static str, &'static [&'static str])],
    /// What to do about a file that holds nothing.
    pub nothing: &'static str,
    /// What to do about a key that is unknown on purpose; `None`: whatever is near is named.
    pub instead: fn(&str) -> Option<&'static str>,
}

impl Vocabulary {
    /// The keys of the mapping named `path`; `None`: no mapping.
    #[must_use]
    pub fn keys(&self, path: &str) -> Option<&'static [&'static str]> {
        self.tables.iter().find(|(name, _)| *name == path).map(|(_, keys)| *keys)
    }

    /// Every single value's dotted name, in order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let all = self.tables.iter().flat_map(|(table, keys)| keys.iter().map(move |key| join(table, key)));
        all.filter(|name| self.keys(name).is_none())
    }
}

/// A mapping, known to hold no key but those of the vocabulary.
#[derive(Debug)]
pub struct Table<'a> {
    vocabulary: &'static Vocabulary,
    path: String,
    at: Place,
    entries: &'a [(Key, Node)],
}

/// A value of the file under its dotted name.
#[derive(Debug)]
pub struct Field<'a> {
    vocabulary: &'static Vocabulary,
    path: String,
    node: &'a Node,
}

impl<'a> Table<'a> {
    /// The file's top level, whose keys and those of every mapping in it are those of `vocabulary`.
    ///
    /// # Errors
    /// [`Problem`]: a key that the vocabulary does not have, or no mapping.
    pub fn root(node: &'a Node, vocabulary: &'static Vocabulary) -> Result<Self, Problem> {
        let path = String::new();
        Field { vocabulary, path, node }.table()
    }

    /// The value of `key`, if the file has it. A key with nothing behind it counts as left out for a mapping
    /// whose lines are all commented out; every other value then says that it is empty.
    pub fn get(&self, key: &'static str) -> Option<Field<'a>> {
        let path = join(&self.path, key);
        let vocabulary = self.vocabulary;
        let is_table = vocabulary.keys(&path).is_some();
        self.entries
            .iter()
            .find(|(found, _)| found.name == key)
            .filter(|(_, node)| !(is_table && matches!(node.kind, Kind::Empty)))
            .map(|(_, node)| Field { vocabulary, path, node })
    }

    /// The mapping of `key`; one that is left out is an empty one, so that its own keys take their defaults.
    ///
    /// # Errors
    /// [`Problem`]: the value is no mapping of known keys.
    pub fn section(&self, key: &'static str) -> Result<Self, Problem> {
        self.get(key).map_or_else(
            || {
                Ok(Self {
                    vocabulary: self.vocabulary,
                    path: join(&self.path, key),
                    at: self.at,
                    entries: &[],
                })
            },
            Field::table,
        )
    }

    /// The value of a dotted `name`, if the file has it; for rules about several values, once all are valid.
    pub fn find(&self, name: &str) -> Option<Field<'a>> {
        let mut entries = self.entries;
        let mut found = None;
        for part in name.split('.') {
            let (_, node) = entries.iter().find(|(key, _)| key.name == part)?;
            found = Some(node);
            entries = match &node.kind {
                Kind::Map(entries) => entries,
                _ => &[],
            };
        }
        found.map(|node| Field { vocabulary: self.vocabulary, path: name.to_owned(), node })
    }

    /// A problem of the value named `name`, or, where that is a default, of this mapping.
    pub fn problem(&self, name: &str, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem {
            at: self.find(name).map_or(self.at, |field| field.node.at),
            key: name.to_owned(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// The value of `key`, which has to be there; `example` is what it could be.
    ///
    /// # Errors
    /// [`Problem`]: the key is missing.
    pub fn require(&self, key: &'static str, example: &str) -> Result<Field<'a>, Problem> {
        self.get(key).ok_or_else(|| Problem {
            at: self.at,
            key: join(&self.path, key),
            what: "missing".to_owned(),
            remedy: match self.path.as_str() {
                "" => format!("add a line `{key}: {example}` at the top level"),
                path => format!("add `{key}: {example}` below `{path}`"),
            },
        })
    }
}

impl<'a> Field<'a> {
    /// A problem of this value.
    pub fn problem(&self, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem { at: self.node.at, key: self.path.clone(), what: what.into(), remedy: remedy.into() }
    }

    /// The value as a text on one line, not empty.
    ///
    /// # Errors
    /// [`Problem`]: it is empty, or no single value.
    pub fn text(&self) -> Result<&'a str, Problem> {
        match &self.node.kind {
            Kind::Text(text) if !text.is_empty() => Ok(text),
            Kind::Text(_) => Err(self.problem("is empty", "give it a value, or leave the key out")),
            _ => Err(self.wrong_kind("one value")),
        }
    }

    /// The value as text, parsed; the parser's message says what is wrong, `remedy` what to write instead.
    ///
    /// # Errors
    /// [`Problem`]: it is no text, or the parser refuses it.
    pub fn parse<T>(&self, remedy: &str) -> Result<T, Problem>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text()?.parse().map_err(|err: T::Err| self.problem(err.to_string(), remedy))
    }

    /// The value as `true` or `false`.
    ///
    /// # Errors
    /// [`Problem`]: it is neither.
    pub fn flag(&self) -> Result<bool, Problem> {
        match self.text()? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.problem("is neither true nor false", "write true or false")),
        }
    }

    /// The value as a list.
    ///
    /// # Errors
    /// [`Problem`]: it is none.
    pub fn list(&self) -> Result<Vec<Self>, Problem> {
        let Kind::List(items) = &self.node.kind else {
            return Err(self.wrong_kind("a list, [a, b]"));
        };
        let item = |node: &'a Node| Self { vocabulary: self.vocabulary, path: self.path.clone(), node };
        Ok(items.iter().map(item).collect())
    }

    /// The value as a mapping with known keys.
    ///
    /// # Errors
    /// [`Problem`]: it is none, or holds an unknown key.
    pub fn table(self) -> Result<Table<'a>, Problem> {
        let Kind::Map(entries) = &self.node.kind else {
            return Err(self.wrong_kind("a mapping, `key: value` lines"));
        };
        let known = self.vocabulary.keys(&self.path).unwrap_or_default();
        match entries.iter().find(|(key, _)| !known.contains(&key.name.as_str())) {
            Some((key, _)) => Err(unknown(self.vocabulary, &self.path, key)),
            None => Ok(Table { vocabulary: self.vocabulary, path: self.path, at: self.node.at, entries }),
        }
    }

    fn wrong_kind(&self, wanted: &str) -> Problem {
        let found = match &self.node.kind {
            Kind::Empty if self.path.is_empty() => {
                return self.problem("the file holds no settings", self.vocabulary.nothing);
            }
            Kind::Empty => return self.problem("has no value", "give it one, or leave the key out"),
            Kind::Unplain => {
                return self.problem(
                    "is not plain text on one line",
                    "write it on one line, without control characters",
                );
            }
            Kind::Text(_) => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        };
        let subject = if self.path.is_empty() { "the file " } else { "" };
        self.problem(format!("{subject}is {found}"), format!("it has to be {wanted}"))
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

fn unknown(vocabulary: &Vocabulary, path: &str, key: &Key) -> Problem {
    let known = vocabulary.keys(path).unwrap_or_default();
    if !raw::is_word(&key.name) {
        return Problem::of_the_file(
            key.at,
            "a key that is not a plain word",
            format!("known here: {}", known.join(", ")),
        );
    }
    Problem {
        at: key.at,
        key: join(path, &key.name),
        what: "unknown key".to_owned(),
        remedy: remedy(vocabulary, path, &key.name, known),
    }
}

fn remedy(vocabulary: &Vocabulary, path: &str, key: &str, known: &[&str]) -> String {
    if let Some(instead) = (vocabulary.instead)(key) {
        return instead.to_owned();
    }
    if let Some(near) = nearest(key, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    let elsewhere = vocabulary.tables.iter().find(|(table, keys)| *table != path && keys.contains(&key));
    match elsewhere {
        Some(("", _)) => format!("`{key}` belongs at the top level"),
        Some((table, _)) => format!("`{key}` belongs below `{table}`"),
        None => format!("known here: {}", known.join(", ")),
    }
}
