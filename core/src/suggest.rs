//! Did you mean: the nearest of the known words.

/// The word of `known` that `word` was probably meant to be: a third of its letters may differ, three at most.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|known| (distance(word, known), known)).min()?;
    (near.0 <= (word.len() / 3).clamp(1, 3)).then_some(near.1)
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
    fn only_what_is_near_is_named() {
        assert_eq!(nearest("grvoe", ["elm", "grove"]), Some("grove"));
        assert_eq!(nearest("pine", ["elm", "grove"]), None);
        assert_eq!(nearest("pine", []), None);
    }
}
