//! What a step or a check reports when it is not well: a stable code and a sentence.

pub use forest_core::error::{chain, innermost};
use forest_core::reason::Reason;

/// What helps who lacks the right to do what was asked.
pub const SUDO: &str = "run with sudo";

/// A failure with a stable code. `Display` is the sentence alone: it names the thing, what was tried and what
/// came of it; the code travels beside it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The stable code.
    pub reason: Reason,
    /// A sentence for a person, a lowercase fragment without a full stop; never a secret.
    pub message: String,
    /// What a person can do about this very one; `None`: what the reason says is enough.
    pub advice: Option<String>,
    /// The message as strangers may have it: without log lines and without addresses of other nodes. `None`: the
    /// message has neither.
    pub public: Option<String>,
}

impl Fault {
    /// A fault of `reason`, said as `message`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), advice: None, public: None }
    }

    /// The same fault, with what a person can do about this very one.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The same fault, of which strangers get to read `public` instead of the message.
    #[must_use]
    pub fn withhold(mut self, public: impl Into<String>) -> Self {
        // A remedy follows, in the same sentence.
        self.public = Some(public.into().trim_end_matches('.').to_owned());
        self
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        self.advice.as_deref().unwrap_or(self.reason.remedy())
    }
}
