//! The picture of a change: a unified diff of the file's text, for `register --dry-run`.

use similar::TextDiff;

/// The unified diff that turns `before` into `after`, three lines of context; empty where they are equal.
/// `path` names the file in both of its header lines.
#[must_use]
pub fn unified(path: &str, before: &str, after: &str) -> String {
    TextDiff::from_lines(before, after).unified_diff().context_radius(3).header(path, path).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_changes_and_nothing_where_nothing_does() {
        assert_eq!(unified("r.json", "a\n", "a\n"), "");
        assert_eq!(
            unified("r.json", "a\nb\n", "a\nc\n"),
            "--- r.json\n+++ r.json\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
        );
        assert_eq!(unified("r.json", "", "a\n"), "--- r.json\n+++ r.json\n@@ -0,0 +1 @@\n+a\n");
    }
}
