//! What is known of the lines that nats-server writes into its log.

/// A connection to the cluster's port that comes or goes. Every agent of a forest knocks there again and again, and
/// the server writes two lines of each knock: shown, they would drown all else. A route's own lines are among them;
/// whoever needs those finds them in the file.
#[must_use]
pub fn is_knock(line: &[u8]) -> bool {
    let has = |part: &[u8]| line.windows(part.len()).any(|window| window == part);
    has(b" - Route connection created") || has(b" - Router connection closed: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_knock() {
        let at = "[17653] 2026/11/26 04:25:02.889722 [INF] 127.0.0.1:35660 - rid:63 - ";
        for said in ["Route connection created", "Router connection closed: Read Error"] {
            assert!(is_knock(format!("{at}{said}").as_bytes()));
        }
        assert!(!is_knock(b"[ERR] Error trying to connect to route (attempt 1): connection refused"));
        assert!(!is_knock(b""));
    }
}
