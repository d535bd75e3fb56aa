//! What can go wrong with a call, and what a person can do about it.

use std::fmt;
use std::time::Duration;

use forest_core::reason::Reason;
use serde::Deserialize;
use serde_json::Value;

use super::transport::Call;
use crate::failure::Failure;

/// The API's own word for what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// The token is not known.
    Unauthorized,
    /// The token may not do this.
    Forbidden,
    /// The project has used up its requests.
    RateLimit,
    /// The project may not have more.
    Limit,
    /// No such machine is to be had here now.
    Unavailable,
    /// The name, or what has to be unique, is there already.
    Uniqueness,
    /// Another action works on it.
    Locked,
    /// It has changed meanwhile.
    Conflict,
    /// The API's own time was up.
    Timeout,
    /// The API's own back end did not answer.
    BadGateway,
    /// It is not there.
    NotFound,
    /// Something uses it still.
    InUse,
    /// It is protected against this.
    Protected,
    /// Another one.
    Other(String),
}

impl Code {
    pub(super) fn of(word: &str) -> Self {
        match word {
            "unauthorized" => Self::Unauthorized,
            "forbidden" | "token_readonly" => Self::Forbidden,
            "rate_limit_exceeded" | "limit_reached" => Self::RateLimit,
            "resource_limit_exceeded" => Self::Limit,
            "resource_unavailable" | "placement_error" => Self::Unavailable,
            "uniqueness_error" => Self::Uniqueness,
            "locked" => Self::Locked,
            "conflict" => Self::Conflict,
            "timeout" => Self::Timeout,
            "bad_gateway" => Self::BadGateway,
            "not_found" => Self::NotFound,
            "resource_in_use" => Self::InUse,
            "protected" => Self::Protected,
            other => Self::Other(plain(other)),
        }
    }

    /// What an answer without a word of the API's means.
    fn of_status(status: u16) -> Self {
        match status {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            429 => Self::RateLimit,
            502 => Self::BadGateway,
            504 => Self::Timeout,
            other => Self::Other(format!("http_{other}")),
        }
    }

    fn reason(&self, status: u16) -> Reason {
        match self {
            Self::Unauthorized => Reason::HetznerUnauthorized,
            Self::Forbidden => Reason::HetznerForbidden,
            Self::RateLimit => Reason::HetznerRateLimit,
            Self::Limit => Reason::HetznerLimit,
            Self::Unavailable => Reason::HetznerUnavailable,
            Self::Uniqueness => Reason::HetznerNameTaken,
            Self::Locked | Self::Conflict | Self::InUse => Reason::HetznerLocked,
            Self::Timeout | Self::BadGateway => Reason::HetznerFault,
            Self::Protected => Reason::HetznerProtected,
            Self::NotFound => Reason::HetznerRefused,
            Self::Other(_) if status >= 500 => Reason::HetznerFault,
            Self::Other(_) => Reason::HetznerRefused,
        }
    }
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// No connection came about: refused, not resolved, no trust in its certificate.
    NoConnection,
    /// The time was up, or the connection was lost: the call may have had its effect.
    Lost,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The API says no.
    #[error("{call} is refused: {message}")]
    Refused {
        /// Which call.
        call: Call,
        /// The HTTP status.
        status: u16,
        /// The API's word.
        code: Code,
        /// The API's sentence.
        message: String,
    },
    /// Nobody answers.
    #[error("{call} is not answered: {why}")]
    Silent {
        /// Which call.
        call: Call,
        /// How.
        silence: Silence,
        /// The cause.
        why: String,
    },
    /// The answer is none of this API.
    #[error("{call} is answered with what is no answer of this API: {why}")]
    Strange {
        /// Which call.
        call: Call,
        /// What is wrong with it.
        why: String,
    },
    /// An action was begun and ended badly.
    #[error("the action {command} failed: {message}")]
    Action {
        /// Which action.
        command: String,
        /// The API's word.
        code: Code,
        /// The API's sentence.
        message: String,
    },
    /// Actions do not end.
    #[error("not done after {} s: {commands}", .waited.as_secs())]
    Slow {
        /// Which actions.
        commands: String,
        /// How long they were waited for.
        waited: Duration,
    },
}

impl ApiError {
    /// What the API refused with.
    #[must_use]
    pub fn code(&self) -> Option<&Code> {
        match self {
            Self::Refused { code, .. } | Self::Action { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Is it refused with this word?
    #[must_use]
    pub fn is(&self, code: &Code) -> bool {
        self.code() == Some(code)
    }

    /// May the same call succeed a little later?
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                matches!(code, Code::Conflict | Code::RateLimit | Code::Timeout | Code::BadGateway)
            }
            Self::Silent { silence, .. } => *silence == Silence::Lost,
            _ => false,
        }
    }

    /// The stable code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused { code, status, .. } => code.reason(*status),
            Self::Action { code, .. } => code.reason(500),
            Self::Silent { .. } => Reason::HetznerUnreachable,
            Self::Strange { .. } => Reason::HetznerFault,
            Self::Slow { .. } => Reason::HetznerSlow,
        }
    }

    /// What the body of an answer with an error says.
    pub(super) fn refused(call: Call, status: u16, body: &[u8]) -> Self {
        let told: Option<Body> = serde_json::from_slice(body).ok();
        let (code, message) = match told {
            Some(Body { error }) => (Code::of(&error.code), error.sentence()),
            None => (Code::of_status(status), format!("HTTP {status}")),
        };
        Self::Refused { call, status, code, message }
    }
}

impl From<ApiError> for Failure {
    fn from(err: ApiError) -> Self {
        let reason = err.reason();
        Self::new(reason, format!("Hetzner Cloud: {err}; {}", reason.remedy()))
    }
}

#[derive(Deserialize)]
struct Body {
    error: Told,
}

/// An error in the API's words.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Told {
    pub(super) code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Value,
}

impl Told {
    /// Message and code, with the fields that are not accepted.
    pub(super) fn sentence(&self) -> String {
        let fields = self.details.get("fields").and_then(Value::as_array);
        let names = fields.into_iter().flatten().filter_map(|field| field.get("name")?.as_str());
        let names: Vec<String> = names.map(plain).collect();
        let fields = if names.is_empty() { String::new() } else { format!(", fields {}", names.join(", ")) };
        match plain(&self.message) {
            message if message.is_empty() => format!("{}{fields}", plain(&self.code)),
            message => format!("{message} ({}{fields})", plain(&self.code)),
        }
    }
}

/// A text of the API's on one line of bounded length.
fn plain(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    line.trim().to_owned()
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(word) => f.write_str(word),
            known => write!(f, "{known:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> ApiError {
        ApiError::refused(Call::new("POST", "https://x/v1/servers"), status, body.as_bytes())
    }

    fn told(code: &str) -> ApiError {
        refused(400, &format!(r#"{{"error":{{"code":"{code}","message":"no"}}}}"#))
    }

    #[test]
    fn what_passes_is_tried_again_and_nothing_else() {
        for (code, passes, reason) in [
            ("conflict", true, Reason::HetznerLocked),
            ("rate_limit_exceeded", true, Reason::HetznerRateLimit),
            ("timeout", true, Reason::HetznerFault),
            ("bad_gateway", true, Reason::HetznerFault),
            ("locked", false, Reason::HetznerLocked),
            ("uniqueness_error", false, Reason::HetznerNameTaken),
            ("resource_unavailable", false, Reason::HetznerUnavailable),
            ("placement_error", false, Reason::HetznerUnavailable),
            ("resource_limit_exceeded", false, Reason::HetznerLimit),
            ("unauthorized", false, Reason::HetznerUnauthorized),
            ("forbidden", false, Reason::HetznerForbidden),
            ("token_readonly", false, Reason::HetznerForbidden),
            ("protected", false, Reason::HetznerProtected),
            ("a_word_of_tomorrow", false, Reason::HetznerRefused),
        ] {
            assert_eq!((told(code).passes(), told(code).reason()), (passes, reason), "{code}");
        }
        for (status, passes, reason) in [
            (502, true, Reason::HetznerFault),
            (504, true, Reason::HetznerFault),
            (500, false, Reason::HetznerFault),
            (503, false, Reason::HetznerFault),
            (301, false, Reason::HetznerRefused),
        ] {
            let err = refused(status, "<html>oh no</html>");
            assert_eq!((err.passes(), err.reason()), (passes, reason), "{status}");
            assert!(!err.to_string().contains("oh no"), "{err}");
        }
    }

    #[test]
    fn the_sentence_names_call_cause_fields_and_remedy() {
        let body = r#"{"error":{"code":"invalid_input","message":"bad\ninput","details":{"fields":[{"name":"image"}]}}}"#;
        assert_eq!(
            Failure::from(refused(422, body)).message,
            "Hetzner Cloud: POST https://x/v1/servers is refused: bad input (invalid_input, fields image); look at \
             the message: it names the value that is not accepted"
        );
    }
}
