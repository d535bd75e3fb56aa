//! What a server says of a file's state, and the condition that it holds a PUT to. Pure.

use forest_core::registry::Tag;

use super::http::Answer;

/// The state of a file at the time of one answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    etag: Option<String>,
    modified: Option<String>,
}

impl State {
    pub(super) fn of_answer(answer: &Answer) -> Self {
        Self { etag: answer.etag.clone(), modified: answer.modified.clone() }
    }

    /// As the algorithm carries it from the read to the commit: a header's value has no line feed.
    pub(super) fn tag(&self) -> Tag {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        Tag((*self != Self::default()).then(|| format!("{}\n{}", text(&self.etag), text(&self.modified))))
    }

    pub(super) fn of_tag(tag: &Tag) -> Self {
        let (etag, modified) = tag.0.as_deref().and_then(|text| text.split_once('\n')).unwrap_or_default();
        let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self { etag: part(etag), modified: part(modified) }
    }

    /// The header that makes a PUT fail where the file is no longer in this state.
    pub(super) fn condition(&self) -> Option<(&'static str, String)> {
        let strong = self.etag.clone().filter(|etag| !etag.starts_with("W/"));
        let etag = strong.map(|etag| ("If-Match", etag));
        etag.or_else(|| Some(("If-Unmodified-Since", self.modified.clone()?)))
    }

    /// Is it the same state? A weak ETag becomes a strong one by itself.
    pub(super) fn is(&self, other: &Self) -> bool {
        let opaque =
            |state: &Self| state.etag.as_deref().map(|etag| etag.trim_start_matches("W/").to_owned());
        opaque(self) == opaque(other) && self.modified == other.modified
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(etag: &str, modified: &str) -> State {
        State::of_tag(&Tag(Some(format!("{etag}\n{modified}"))))
    }

    #[test]
    fn a_state_is_carried_as_a_tag() {
        for (etag, modified) in [("\"a\"", "Mon"), ("\"a\"", ""), ("", "Mon")] {
            let due = state(etag, modified);
            assert_eq!(State::of_tag(&due.tag()), due);
        }
        assert_eq!(State::default().tag(), Tag(None));
        assert_eq!(State::of_tag(&Tag(None)), State::default());
    }

    #[test]
    fn only_a_strong_etag_can_be_matched() {
        assert_eq!(state("\"a\"", "Mon").condition(), Some(("If-Match", "\"a\"".to_owned())));
        assert_eq!(state("W/\"a\"", "Mon").condition(), Some(("If-Unmodified-Since", "Mon".to_owned())));
        assert_eq!(state("W/\"a\"", "").condition(), None);
        assert!(state("W/\"a\"", "Mon").is(&state("\"a\"", "Mon")));
        assert!(!state("\"a\"", "Mon").is(&state("\"b\"", "Mon")));
    }
}
