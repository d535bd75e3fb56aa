//! What goes wrong, and with which requests.

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Refused with this status and the API's code; nothing was done.
    Refuse(u16, &'static str),
    /// A proxy's page in place of an answer; nothing was done.
    Page(u16),
    /// The request is carried out, and the connection breaks in the middle of the answer.
    Lost,
    /// Never answered; nothing was done.
    Hang,
    /// Never answered, though it was carried out.
    HangAfter,
    /// Held, and carried out once the rule is gone: those that are held meet each other.
    Hold,
}

/// Which requests.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The method; empty: any.
    pub method: &'static str,
    /// The path begins with this, after the version.
    pub path: &'static str,
    /// So many of them pass first.
    pub skip: usize,
    /// So many are hit then.
    pub times: usize,
    /// By this.
    pub fault: Fault,
}

impl Rule {
    /// The next request of any kind.
    #[must_use]
    pub fn next(fault: Fault) -> Self {
        Self { method: "", path: "", skip: 0, times: 1, fault }
    }

    /// The next request of this kind.
    #[must_use]
    pub fn on(method: &'static str, path: &'static str, fault: Fault) -> Self {
        Self { method, path, ..Self::next(fault) }
    }

    /// After so many have passed.
    #[must_use]
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// So many times.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Every time.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// Is it hit? Counts.
    pub(super) fn hits(&mut self, method: &str, path: &str) -> bool {
        let concerned = (self.method.is_empty() || self.method == method) && path.starts_with(self.path);
        if !concerned || self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}
