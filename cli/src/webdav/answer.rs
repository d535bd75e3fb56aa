//! What an answer means for the call it answers. Pure.

use forest_core::registry::{Kind, Op};

use super::http::Answer;

/// An answer that is no success, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server answers {status}{}", said(*.status, .method, .location.as_deref()))]
pub struct Refused {
    status: u16,
    method: &'static str,
    location: Option<String>,
}

impl Refused {
    /// Of an answer to `method`.
    #[must_use]
    pub fn new(method: &'static str, answer: &Answer) -> Self {
        Self { status: answer.status, method, location: answer.location.clone() }
    }
}

/// Did the server do what it was asked, all of it?
#[must_use]
pub fn is_done(status: u16) -> bool {
    // 207 answers a DELETE or MOVE that failed in part.
    (200..300).contains(&status) && status != 207
}

/// What a status that is no success means for `op`.
#[must_use]
pub fn kind(op: Op, status: u16) -> Kind {
    match (status, op) {
        (401 | 407, _) => Kind::Unauthorized,
        (403, _) => Kind::Denied,
        // 409: the directory that it belongs into is missing.
        (404 | 409 | 410, _) => Kind::NotFound,
        (405, Op::Mkdir) => Kind::Exists,
        (412, Op::WriteNew | Op::MoveNew) => Kind::Exists,
        // Only a file that is there may be filled.
        (412, Op::Stage) => Kind::NotFound,
        (412, Op::Publish) => Kind::Changed,
        (507, _) => Kind::Full,
        // The server or something on the way to it stumbled: whether the call had its effect is not known.
        (207 | 408 | 425 | 429 | 500 | 502..=504, _) => Kind::Ambiguous,
        _ => Kind::Other,
    }
}

/// What a person can do about it.
fn said(status: u16, method: &str, location: Option<&str>) -> String {
    match (status, location) {
        (300..400, Some(to)) => {
            let to = to.split(['?', '#']).next().unwrap_or_default();
            format!(", a redirect to {}: write that host and path into registry.url", to.escape_default())
        }
        _ => match status {
            401 | 407 => ": user name or password is wrong: check registry.username and registry.password",
            403 => " (forbidden): give the user the right to write there, and check registry.url",
            404 | 410 => " (not found)",
            405 => {
                return format!(
                    ": it takes no {method} there: is registry.url in a WebDAV directory, and WebDAV enabled?"
                );
            }
            409 => ": the directory above it does not exist",
            412 => ": something else stands there",
            413 => ": that is too big for it",
            423 => " (locked): another WebDAV client, an editor perhaps, keeps a lock on it: close it there",
            429 => ": too many requests: wait",
            507 => " (insufficient storage): the share is full: free space",
            500.. => ": it has a fault of its own: try again later",
            _ => "",
        }
        .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_status_means_different_things_to_different_calls() {
        for (op, status, due) in [
            (Op::Read, 404, Kind::NotFound),
            (Op::Mkdir, 405, Kind::Exists),
            (Op::Publish, 405, Kind::Other),
            (Op::WriteNew, 412, Kind::Exists),
            (Op::Stage, 412, Kind::NotFound),
            (Op::Publish, 412, Kind::Changed),
            (Op::MoveNew, 500, Kind::Ambiguous),
            (Op::Publish, 507, Kind::Full),
            (Op::List, 401, Kind::Unauthorized),
            (Op::Stage, 423, Kind::Other),
        ] {
            assert_eq!(kind(op, status), due, "{op:?} {status}");
        }
        assert!(is_done(201) && is_done(204) && !is_done(207) && !is_done(301));
    }

    #[test]
    fn a_person_is_told_what_to_do_and_no_secret_of_a_redirect() {
        let refused = |status, location: Option<&str>| {
            let location = location.map(str::to_owned);
            Refused::new("PUT", &Answer { status, location, ..Answer::default() }).to_string()
        };
        assert!(refused(401, None).ends_with("check registry.username and registry.password"));
        assert!(refused(423, None).contains("another WebDAV client"));
        let moved = refused(302, Some("https://other/x?token=hunter2"));
        assert!(moved.contains("redirect to https://other/x:") && !moved.contains("hunter2"), "{moved}");
    }
}
