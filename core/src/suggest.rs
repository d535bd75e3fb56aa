//! Did you mean: the nearest of the known words.

/// The word of `known` that `word` was probably meant to be: a third of its letters may differ, three at most.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|known| (distance(word, known), known)).min()?;
    (near.0 <= (word.len() / 3).clamp(1, 3)).then_some(near.1)
}

/// How many letters to add, drop or change, or neighbours to swap.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    // Of the rows so far, the last two: for a swap looks back over both.
    let mut before = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (row[j] + usize::from(x != y)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && (x, &a[i - 1]) == (&b[j - 1], y) {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        for (a, b, letters) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("node", "node", 0),
            ("grvoe", "grove", 1),
        ] {
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
