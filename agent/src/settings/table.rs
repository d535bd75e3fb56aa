//! A mapping of agent.yaml and its keys: each value knows its own dotted name and place, so that whoever finds
//! it wrong can say so. The whole vocabulary of the file stands here, once.

use std::fmt::Display;
use std::str::FromStr;

use super::error::{Place, Problem};
use super::raw::{self, Key, Kind, Node};

/// Every mapping there is, and its keys. A key of the top level stands in the mapping named "".
const VOCABULARY: [(&str, &[&str]); 9] = [
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

/// A mapping, known to hold no key but those of the vocabulary.
pub(super) struct Table<'a> {
    path: String,
    at: Place,
    entries: &'a [(Key, Node)],
}

/// A value of the file under its dotted name.
pub(super) struct Field<'a> {
    path: String,
    node: &'a Node,
}

impl<'a> Table<'a> {
    /// The file's top level.
    pub(super) fn root(node: &'a Node) -> Result<Self, Problem> {
        let root = Field { path: String::new(), node };
        root.table()
    }

    /// The value of `key`, if the file has it. A key with nothing behind it counts as left out for a mapping
    /// whose lines are all commented out; every other value then says that it is empty.
    pub(super) fn get(&self, key: &'static str) -> Option<Field<'a>> {
        let path = join(&self.path, key);
        let is_table = VOCABULARY.iter().any(|(name, _)| *name == path);
        self.entries
            .iter()
            .find(|(found, _)| found.name == key)
            .filter(|(_, node)| !(is_table && matches!(node.kind, Kind::Empty)))
            .map(|(_, node)| Field { path, node })
    }

    /// The mapping of `key`; one that is left out is an empty one, so that its own keys take their defaults.
    pub(super) fn section(&self, key: &'static str) -> Result<Self, Problem> {
        self.get(key)
            .map_or_else(|| Ok(Self { path: join(&self.path, key), at: self.at, entries: &[] }), Field::table)
    }

    /// The value of a dotted `name`, if the file has it; for rules about several values, once all are valid.
    pub(super) fn find(&self, name: &str) -> Option<Field<'a>> {
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
        found.map(|node| Field { path: name.to_owned(), node })
    }

    /// A problem of the value named `name`, or, where that is a default, of this mapping.
    pub(super) fn problem(&self, name: &str, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem {
            at: self.find(name).map_or(self.at, |field| field.node.at),
            key: name.to_owned(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// The value of `key`, which has to be there; `example` is what it could be.
    pub(super) fn require(&self, key: &'static str, example: &str) -> Result<Field<'a>, Problem> {
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
    pub(super) fn problem(&self, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem { at: self.node.at, key: self.path.clone(), what: what.into(), remedy: remedy.into() }
    }

    /// The value as a text on one line, not empty.
    pub(super) fn text(&self) -> Result<&'a str, Problem> {
        match &self.node.kind {
            Kind::Text(text) if !text.is_empty() => Ok(text),
            Kind::Text(_) => Err(self.problem("is empty", "give it a value, or leave the key out")),
            _ => Err(self.wrong_kind("one value")),
        }
    }

    /// The value as text, parsed; the parser's message says what is wrong, `remedy` what to write instead.
    pub(super) fn parse<T>(&self, remedy: &str) -> Result<T, Problem>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text()?.parse().map_err(|err: T::Err| self.problem(err.to_string(), remedy))
    }

    /// The value as `true` or `false`.
    pub(super) fn flag(&self) -> Result<bool, Problem> {
        match self.text()? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.problem("is neither true nor false", "write true or false")),
        }
    }

    /// The value as a list.
    pub(super) fn list(&self) -> Result<Vec<Self>, Problem> {
        let Kind::List(items) = &self.node.kind else {
            return Err(self.wrong_kind("a list, [a, b]"));
        };
        let item = |node: &'a Node| Self { path: self.path.clone(), node };
        Ok(items.iter().map(item).collect())
    }

    /// The value as a mapping with known keys.
    pub(super) fn table(self) -> Result<Table<'a>, Problem> {
        let Kind::Map(entries) = &self.node.kind else {
            return Err(self.wrong_kind("a mapping, `key: value` lines"));
        };
        let known = VOCABULARY.iter().find(|(name, _)| *name == self.path).map_or(&[][..], |(_, keys)| *keys);
        match entries.iter().find(|(key, _)| !known.contains(&key.name.as_str())) {
            Some((key, _)) => Err(unknown(&self.path, key, known)),
            None => Ok(Table { path: self.path, at: self.node.at, entries }),
        }
    }

    fn wrong_kind(&self, wanted: &str) -> Problem {
        let found = match &self.node.kind {
            Kind::Empty if self.path.is_empty() => {
                return self.problem("the file holds no settings", "write at least forest_id and node_id");
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

fn unknown(path: &str, key: &Key, known: &[&str]) -> Problem {
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
        remedy: remedy(path, &key.name, known),
    }
}

fn remedy(path: &str, key: &str, known: &[&str]) -> String {
    if matches!(key, "password" | "password2" | "pass") {
        return "put the password into a file of its own, mode 0600, and name that in share.password_file"
            .to_owned();
    }
    let near = known.iter().map(|known| (distance(key, known), known)).min();
    if let Some((distance, near)) = near
        && distance <= (key.len() / 3).clamp(1, 3)
    {
        return format!("did you mean `{near}`?");
    }
    let elsewhere = VOCABULARY.iter().find(|(table, keys)| *table != path && keys.contains(&key));
    match elsewhere {
        Some(("", _)) => format!("`{key}` belongs at the top level"),
        Some((table, _)) => format!("`{key}` belongs below `{table}`"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// How many letters to add, drop or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        for (a, b, letters) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("node", "node", 0)] {
            assert_eq!((distance(a, b), distance(b, a)), (letters, letters), "{a} {b}");
        }
    }

    #[test]
    fn every_mapping_is_a_key_of_another() {
        for (table, keys) in VOCABULARY {
            assert!(!keys.is_empty());
            let (parent, key) = table.rsplit_once('.').unwrap_or(("", table));
            let known = VOCABULARY.iter().any(|(name, keys)| *name == parent && keys.contains(&key));
            assert!(table.is_empty() || known, "{table}");
        }
    }
}
