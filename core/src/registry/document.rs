//! What the update algorithm knows of a file's content: a document that is parsed and rendered, and the names
//! of the files that belong to it. The registry is one; a forest's secrets are another.

/// Why a file's content is not the document it should be, in words for a person. It quotes no values of the
/// file, which may be secret: only keys and positions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Corrupt(pub String);

impl Corrupt {
    /// An empty file where there has been a document.
    pub(super) fn empty() -> Self {
        Self("empty".to_owned())
    }
}

/// The content of one shared file.
pub trait Document: Sized {
    /// Reads the document from a file's bytes.
    ///
    /// # Errors
    /// [`Corrupt`] where the bytes are not such a document.
    fn parse(bytes: &[u8]) -> Result<Self, Corrupt>;

    /// The file's whole text.
    fn render(&self) -> String;

    /// What a missing file stands for.
    fn empty() -> Self;
}

/// The names of the files of one document, relative to the door's directory, `/` between parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The document itself, such as `registry.json`.
    pub file: String,
    /// The copy written before each commit, such as `.registry.last-good.json`.
    pub last_good: String,
}

impl Files {
    /// The files of the document at `file`: `registry.json`, or `secrets/grove.json`.
    #[must_use]
    pub fn of(file: &str) -> Self {
        let (dir, name) = file.rsplit_once('/').unwrap_or(("", file));
        let stem = name.strip_suffix(".json").unwrap_or(name);
        Self { file: file.to_owned(), last_good: join(dir, &format!(".{stem}.last-good.json")) }
    }

    /// How the names of quarantined copies begin; the time follows.
    pub(super) fn corrupt_prefix(&self) -> String {
        format!("{}.corrupt-", self.file)
    }

    /// The directory the document lies in; empty for the door's own.
    pub(super) fn dir(&self) -> &str {
        self.file.rsplit_once('/').map_or("", |(dir, _)| dir)
    }
}

impl Default for Files {
    fn default() -> Self {
        Self::of("registry.json")
    }
}

/// `name` in `dir`, where an empty `dir` is the door's own directory.
pub(super) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lie_beside_the_document() {
        let files = Files::default();
        assert_eq!(files.last_good, ".registry.last-good.json");
        assert_eq!(files.corrupt_prefix(), "registry.json.corrupt-");
        let files = Files::of("secrets/grove.json");
        assert_eq!(files.last_good, "secrets/.grove.last-good.json");
        assert_eq!(files.dir(), "secrets");
    }
}
