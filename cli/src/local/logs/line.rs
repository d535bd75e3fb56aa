//! One line of a log: who wrote it, and when. Pure.

use forest_core::id::NodeId;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whose node's.
    pub node: NodeId,
    /// `agent`, `engine` or another child.
    pub source: String,
    /// When it was written, if it or an earlier line says so.
    pub time: Option<Timestamp>,
    /// What it says.
    pub text: String,
}

/// The time a line says it was written: RFC 3339 as the agent writes it, or as nats-server does,
/// `[pid] 2026/11/22 20:16:55.123456`, in the machine's own zone.
pub(super) fn time(line: &str) -> Option<Timestamp> {
    let mut words = line.split_ascii_whitespace();
    let first = words.next()?;
    if !first.starts_with('[') {
        return first.parse().ok();
    }
    let text = format!("{}T{}", words.next()?.replace('/', "-"), words.next()?);
    let local: DateTime = text.parse().ok()?;
    local.to_zoned(TimeZone::system()).ok().map(|zoned| zoned.timestamp())
}

/// The line without what would change the terminal.
pub(super) fn printable(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            // A colour: up to its last letter.
            '\u{1b}' => drop(chars.by_ref().find(char::is_ascii_alphabetic)),
            '\t' => out.push(c),
            _ if c.is_control() => out.extend(c.escape_default()),
            _ => out.push(c),
        }
    }
    out
}

/// The moment that `--since` means: a time, or so long before `now`.
///
/// # Errors
/// In words.
pub fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let wrong = || {
        format!(
            "--since {}: neither a time like 2026-11-22T20:16:55Z nor a span like 10m",
            text.escape_default()
        )
    };
    let span: SignedDuration = text.parse().map_err(|_| wrong())?;
    now.checked_sub(span).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_writers_times_are_read() {
        let at = "2026-11-22T20:16:55.123456Z".parse().ok();
        assert_eq!(time("2026-11-22T20:16:55.123456Z  INFO started"), at);
        let local =
            "2026-11-22T20:16:55.123456".parse::<DateTime>().unwrap().to_zoned(TimeZone::system()).unwrap();
        assert_eq!(time("[12] 2026/11/22 20:16:55.123456 [INF] Starting"), Some(local.timestamp()));
        assert_eq!(time("  at 3:1"), None);
        assert_eq!(time("[INF] x y"), None);
    }

    #[test]
    fn since_is_a_time_or_a_span() {
        let now: Timestamp = "2026-11-22T20:00:00Z".parse().unwrap();
        assert_eq!(since("10m", now), "2026-11-22T19:50:00Z".parse().map_err(|_| String::new()));
        assert_eq!(since("2026-11-22T19:50:00Z", now), since("10m", now));
        assert!(since("yesterday", now).unwrap_err().contains("yesterday"));
    }

    #[test]
    fn a_line_cannot_change_the_terminal() {
        assert_eq!(printable("\u{1b}[31mred\u{1b}[0m \u{7}\tok"), "red \\u{7}\tok");
    }

    proptest! {
        #[test]
        fn no_line_panics_or_keeps_control_characters(line in "\\PC*[\\x00-\\x1f]{0,3}\\PC*") {
            let _ = time(&line);
            prop_assert!(!printable(&line).chars().any(|c| c.is_control() && c != '\t'));
        }
    }
}
