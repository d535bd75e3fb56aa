//! The YAML as it stands: a tree of texts, each with its place, that nobody has judged yet.
//!
//! Scalars keep their spelling, so that `forest_id: 007` is the id `007` and not the number seven. A scalar over
//! several lines is not kept at all: whatever a message may quote comes from one line. Anchors and aliases are
//! refused for the same reason: they would bring the text of one line to another.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{MergeKeyPolicy, NonFiniteFloatPolicy, Options};
use serde_saphyr::{Error, Location, Spanned};

use super::error::{Place, Problem};

/// The longest scalar there is any use for: a path's limit, in bytes.
const MAX_TEXT: usize = 4096;

/// A value and its place.
#[derive(Debug)]
pub struct Node {
    /// Where it begins.
    pub at: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a value is made of.
#[derive(Debug)]
pub enum Kind {
    /// Nothing, `~` or `null`.
    Empty,
    /// A scalar as it is written, quotes resolved.
    Text(String),
    /// A scalar over several lines, with control characters, or too long; its text is not kept.
    Unplain,
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the file's order, each key once.
    Map(Vec<(Key, Node)>),
}

/// A mapping's key and its place.
#[derive(Debug)]
pub struct Key {
    /// Where it begins.
    pub at: Place,
    /// What it is called.
    pub name: String,
}

/// Reads one YAML document.
///
/// # Errors
/// [`Problem`] where the text is not YAML, or YAML that is not read here.
pub fn read(text: &str) -> Result<Node, Problem> {
    serde_saphyr::from_str_with_options::<Spanned<Yaml>>(text, options())
        .map(|yaml| Node::new(yaml, text))
        .map_err(|err| problem(&err, text))
}

fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        emit_comments: false,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        budget: serde_saphyr::budget! { max_anchors: 0, max_aliases: 0 },
    }
}

impl Node {
    fn new(yaml: Spanned<Yaml>, source: &str) -> Self {
        let kind = match yaml.value {
            Yaml::Null => Kind::Empty,
            Yaml::Text(text) => plain(written(&yaml.referenced, source).map(|_| text)),
            Yaml::Typed => plain(written(&yaml.referenced, source).map(str::to_owned)),
            Yaml::List(items) => Kind::List(items.into_iter().map(|item| Self::new(item, source)).collect()),
            Yaml::Map(entries) => Kind::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (Key::new(key, source), Self::new(value, source)))
                    .collect(),
            ),
        };
        Self { at: place(yaml.referenced), kind }
    }
}

impl Key {
    fn new(key: Spanned<String>, source: &str) -> Self {
        Self {
            at: place(key.referenced),
            name: written(&key.referenced, source).map_or_else(String::new, |_| key.value),
        }
    }
}

/// A scalar as the file has it, quotes included, if it stands on one line.
fn written<'a>(at: &Location, source: &'a str) -> Option<&'a str> {
    let (start, len) = (at.span().byte_offset()?, at.span().byte_len()?);
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    source.get(start..end).filter(|text| !text.contains(['\n', '\r']))
}

fn plain(text: Option<String>) -> Kind {
    match text {
        Some(text) if text.len() <= MAX_TEXT && !text.chars().any(char::is_control) => Kind::Text(text),
        _ => Kind::Unplain,
    }
}

fn place(location: Location) -> Place {
    Place { line: location.line().max(1), column: location.column().max(1) }
}

/// The parser's errors in our words. Its own texts are used only where they are fixed ones.
fn problem(err: &Error, source: &str) -> Problem {
    let at = err.location().map_or(Place::START, place);
    let (what, remedy) = match err {
        Error::DuplicateMappingKey { key, .. } => {
            let mut problem =
                Problem::of_the_file(at, "this key stands here a second time", "keep one of them");
            let stands_here = |key: &String| is_word(key) && line(source, at).contains(key.as_str());
            problem.key = key.clone().filter(stands_here).unwrap_or_default();
            return problem;
        }
        Error::ExternalMessage { msg, .. } => (
            format!("not YAML: {}", msg.replace('\n', " ")),
            "check the indentation, the quotes and the brackets here and in the line before",
        ),
        Error::Budget { breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. }, .. }
        | Error::UnknownAnchor { .. } => (
            "anchors (&) and aliases (*) are not read here".to_owned(),
            "write the value out, or put it in quotes",
        ),
        Error::MultipleDocuments { .. } => ("a second YAML document begins".to_owned(), "keep one"),
        _ => (
            "not YAML that is understood here".to_owned(),
            "write `key: value` lines, with plain words for keys",
        ),
    };
    Problem::of_the_file(at, what, remedy)
}

fn line(source: &str, at: Place) -> &str {
    let before = usize::try_from(at.line).map_or(0, |line| line.saturating_sub(1));
    source.lines().nth(before).unwrap_or_default()
}

/// May this key be shown? Nothing but a plain word is: anything else may be a misplaced value.
pub(super) fn is_word(key: &str) -> bool {
    (1..=64).contains(&key.len())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// What the parser hands over; scalars that it took for numbers or booleans are looked up in the source.
enum Yaml {
    Null,
    Text(String),
    Typed,
    List(Vec<Spanned<Yaml>>),
    Map(Vec<(Spanned<String>, Spanned<Yaml>)>),
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor)
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }
    fn visit_str<E>(self, text: &str) -> Result<Yaml, E> {
        Ok(Yaml::Text(text.to_owned()))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Yaml, E> {
        Ok(Yaml::Typed)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Yaml, E> {
        Ok(Yaml::Typed)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Yaml, E> {
        Ok(Yaml::Typed)
    }
    fn visit_i128<E>(self, _: i128) -> Result<Yaml, E> {
        Ok(Yaml::Typed)
    }
    fn visit_u128<E>(self, _: u128) -> Result<Yaml, E> {
        Ok(Yaml::Typed)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Yaml, E> {
        Ok(Yaml::Typed)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Yaml, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Yaml::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Yaml, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Yaml::Map(entries))
    }
}
