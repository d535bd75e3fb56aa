//! Setting one value in the text of a configuration and leaving everything else as it stands, comments too.
//!
//! The text is edited by line; whether that came out right is then read back from the result, so a file written
//! in a way this module does not understand is refused and never spoilt.

use forest_core::yaml::raw::{self, Kind, Node};

/// The text with `value` at the dotted `name`; `None` where the file is written in a way that cannot be edited.
#[must_use]
pub fn set(text: &str, name: &str, value: &str) -> Option<String> {
    let root = raw::read(text).ok();
    let edited = match root.as_ref().and_then(|root| place(root, name)) {
        Some((line, column)) => replace(text, line, column, value)?,
        None => insert(text, root.as_ref(), name, value)?,
    };
    let holds = raw::read(&edited).is_ok_and(|root| at(&root, name).is_some_and(|node| is(node, value)));
    holds.then_some(edited)
}

fn at<'a>(root: &'a Node, name: &str) -> Option<&'a Node> {
    name.split('.').try_fold(root, |node, part| match &node.kind {
        Kind::Map(entries) => entries.iter().find(|(key, _)| key.name == part).map(|(_, node)| node),
        _ => None,
    })
}

/// Where the value of `name` begins: line and column, counted from 0.
fn place(root: &Node, name: &str) -> Option<(usize, usize)> {
    let node = at(root, name)?;
    matches!(node.kind, Kind::Text(_)).then_some(())?;
    let index = |n: u64| usize::try_from(n - 1).ok();
    Some((index(node.at.line)?, index(node.at.column)?))
}

fn is(node: &Node, value: &str) -> bool {
    matches!(&node.kind, Kind::Text(text) if text == value)
}

/// A double-quoted scalar, which YAML shares with JSON.
fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

fn replace(text: &str, line: usize, column: usize, value: &str) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let old = lines.get_mut(line)?;
    let start = old.char_indices().nth(column)?.0;
    let end = start + scalar_len(&old[start..]);
    old.replace_range(start..end, &quoted(value));
    Some(lines.join("\n") + "\n")
}

/// How long the scalar at the beginning of `text` is, in bytes.
fn scalar_len(text: &str) -> usize {
    let mut chars = text.char_indices();
    match chars.next() {
        Some((_, quote @ ('"' | '\''))) => {
            let mut escaped = false;
            for (index, c) in chars {
                match c {
                    _ if escaped => escaped = false,
                    '\\' if quote == '"' => escaped = true,
                    _ if c == quote => return index + 1,
                    _ => {}
                }
            }
            text.len()
        }
        _ => {
            let end = [" #", ", ", ",", " }", "}"].iter().filter_map(|end| text.find(end)).min();
            text[..end.unwrap_or(text.len())].trim_end().len()
        }
    }
}

/// Adds the value below the nearest mapping that is there, which has to be written as a block.
fn insert(text: &str, root: Option<&Node>, name: &str, value: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let depth = (1..parts.len())
        .rev()
        .find(|depth| root.is_some_and(|root| is_block(root, &parts[..*depth])))
        .unwrap_or(0);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (at, indent) = match depth {
        0 => (lines.len(), 0),
        _ => first_child(root?, &parts[..depth])?,
    };
    let mut added = Vec::new();
    for (level, part) in parts[depth..].iter().enumerate() {
        let space = " ".repeat(indent + 2 * level);
        let last = depth + level + 1 == parts.len();
        added.push(if last {
            format!("{space}{part}: {}", quoted(value))
        } else {
            format!("{space}{part}:")
        });
    }
    lines.splice(at..at, added);
    Some(lines.join("\n") + "\n")
}

fn is_block(root: &Node, path: &[&str]) -> bool {
    at(root, &path.join("."))
        .is_some_and(|node| matches!(&node.kind, Kind::Map(entries) if !entries.is_empty()))
}

/// The line before which a new child goes, and its indentation.
fn first_child(root: &Node, path: &[&str]) -> Option<(usize, usize)> {
    let Kind::Map(entries) = &at(root, &path.join("."))?.kind else {
        return None;
    };
    let (key, _) = entries.first()?;
    Some((usize::try_from(key.at.line - 1).ok()?, usize::try_from(key.at.column - 1).ok()?))
}
