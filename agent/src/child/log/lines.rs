//! Bytes into lines, and lines into text that is safe to show. Pure.

/// Collects lines from chunks cut anywhere. Memory is bounded: of a line longer than the limit the rest is
/// dropped as it comes.
#[derive(Debug)]
pub(super) struct Splitter {
    max: usize,
    line: Vec<u8>,
    /// Bytes of the unfinished line, dropped ones too.
    pending: u64,
    /// The unfinished line's start was never seen: nothing of it counts.
    headless: bool,
}

impl Splitter {
    /// Lines of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { max, line: Vec::new(), pending: 0, headless: false }
    }

    /// Takes `bytes`, and gives each line that they finish, without its line feed.
    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = self.max - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            self.pending += piece.len() as u64;
            if ends {
                self.finish(&mut each);
            }
        }
    }

    /// Takes the unfinished line, if any, as a line: no more of it will come.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if self.pending > 0 && !self.headless {
            each(&self.line);
        }
        self.line.clear();
        self.pending = 0;
        self.headless = false;
    }

    /// Forgets the unfinished line, and the rest of the one that comes next: bytes were skipped.
    pub(super) fn skip(&mut self) {
        self.finish(|_| ());
        self.headless = true;
    }

    /// How many bytes of an unfinished line it was fed.
    pub(super) fn pending(&self) -> u64 {
        self.pending
    }
}

/// `line` as text of one line: what is not UTF-8 replaced, control characters escaped, so that no child can
/// steer a terminal or forge a line of the log; passwords in URLs masked, for nats-server names routes with theirs.
pub(super) fn printable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = masked(&String::from_utf8_lossy(line));
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && char != '\t' {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// `text` with `***` for the password in every `scheme://user:password@host`.
fn masked(text: &str) -> String {
    const SCHEME_END: &str = "://";
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(SCHEME_END) {
        let (before, url) = rest.split_at(at + SCHEME_END.len());
        shown.push_str(before);
        let authority = url.find(|char: char| char.is_whitespace() || "/\"'<>,".contains(char));
        let authority = &url[..authority.unwrap_or(url.len())];
        let (login, has_password) = match authority.rfind('@') {
            Some(at) => (&authority[..at], true),
            // A line that was cut off before the host may end with a part of a password.
            None => (authority, authority.len() == url.len()),
        };
        match login.split_once(':') {
            Some((user, rest)) if has_password && (login != authority || !is_port(rest)) => {
                shown.push_str(user);
                shown.push_str(":***");
            }
            _ => shown.push_str(login),
        }
        rest = &url[login.len()..];
    }
    shown.push_str(rest);
    shown
}

/// Is this, after a host and a colon, a port, or the rest of an IPv6 address with its port?
fn is_port(text: &str) -> bool {
    text.chars().all(|char| char.is_ascii_hexdigit() || ":]".contains(char)) && text.len() <= 45
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]], max: usize) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::new(max);
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, |line| lines.push(line.to_vec()));
        }
        splitter.finish(|line| lines.push(line.to_vec()));
        lines
    }

    proptest! {
        #[test]
        fn the_cuts_make_no_difference(text in "[ab\n]{0,60}", cut in 0usize..60) {
            let cut = cut.min(text.len());
            let expected: Vec<Vec<u8>> = text.lines().map(|line| line[..line.len().min(5)].into()).collect();
            let (head, tail) = text.as_bytes().split_at(cut);
            prop_assert_eq!(lines(&[head, tail], 5), expected);
        }

        #[test]
        fn nothing_printable_controls_a_terminal(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(printable(&bytes).chars().all(|char| char == '\t' || !char.is_control()));
        }
    }

    #[test]
    fn a_line_whose_start_was_skipped_does_not_count() {
        let mut splitter = Splitter::new(9);
        let mut lines = Vec::new();
        splitter.feed(b"lost", |line| lines.push(line.to_vec()));
        splitter.skip();
        splitter.feed(b"rest\nwhole\npart", |line| lines.push(line.to_vec()));
        assert_eq!(lines, [b"whole"]);
        assert_eq!(splitter.pending(), 4);
    }

    #[test]
    fn passwords_in_urls_are_masked_and_nothing_else() {
        for (line, shown) in [
            (
                "Removed route nats://forest:s3cret@[fd00::1]:6222",
                "Removed route nats://forest:***@[fd00::1]:6222",
            ),
            ("\"nats://a:b@h:1\", \"nats://c:d:e@h:2\"", "\"nats://a:***@h:1\", \"nats://c:***@h:2\""),
            ("nats://user@host:1 http://[::1]:8222/varz", "nats://user@host:1 http://[::1]:8222/varz"),
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("cut off: nats://forest:s3cr", "cut off: nats://forest:***"),
            ("12:30 :// a:b@c", "12:30 :// a:b@c"),
        ] {
            assert_eq!(printable(line.as_bytes()), shown);
        }
    }

    #[test]
    fn escapes_are_readable() {
        assert_eq!(printable(b"\x1b[31mred\xff\r"), "\\u{1b}[31mred\u{fffd}");
    }
}
