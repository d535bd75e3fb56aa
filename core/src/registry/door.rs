//! The directory the registry lies in, as the update algorithm sees it: a dozen calls, each with one effect.
//! A file system is one door to it, WebDAV another; everything above this trait is shared by both.
//!
//! Paths are relative to the directory, `/` between parts, the empty path is the directory itself. Every call
//! may block; none retries. Whatever a call does happens wholly or not at all, but for `write_new` and `stage`,
//! whose files nobody reads before they are moved into place.

use std::error::Error;
use std::fmt;

use jiff::Timestamp;

use super::clock::Clock;
use super::flock::Turn;
use super::limits::Limits;
use crate::reason::Reason;

/// No document is nearly as big: whatever is has to be something else.
pub const MAX_BYTES: u64 = 64 << 20;

/// What a door knows of a file's state beyond its bytes: WebDAV's ETag; a file system needs none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tag(pub Option<String>);

/// The state that a commit was worked out from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Whatever stands there may be replaced.
    Any,
    /// No file stood there.
    Absent,
    /// The file in this state stood there.
    Tag(Tag),
}

/// One file to be put in place.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// The file of the lease that [`Door::stage`] filled.
    pub staged: &'a str,
    /// The name it is to have.
    pub target: &'a str,
    /// What it holds: for doors that cannot move a file onto another without a gap.
    pub bytes: &'a [u8],
    /// What it replaces.
    pub base: &'a Base,
}

/// The calls of the update algorithm.
pub trait Door: Send + Sync {
    /// Stands in the queue of updaters, for at most `limits.queue_wait`. The queue only keeps waiters in order;
    /// it excludes nobody. A door without one returns `None` at once.
    fn queue(&self, _clock: &dyn Clock, _limits: &Limits, _label: &str) -> Option<Turn> {
        None
    }

    /// `path` as a person knows it: a whole path or URL, without credentials.
    fn shown(&self, path: &str) -> String;

    /// The whole file, opened anew.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is none.
    fn read(&self, path: &str) -> Result<(Vec<u8>, Tag), DoorError>;

    /// The same for the holder of the lease, who writes what it works out from this: never by what another program of
    /// this machine opened earlier.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_anew(&self, path: &str) -> Result<(Vec<u8>, Tag), DoorError> {
        self.read(path)
    }

    /// A new file, durable; never overwrites.
    ///
    /// # Errors
    /// [`Kind::Exists`] where one stands.
    fn write_new(&self, path: &str, bytes: &[u8]) -> Result<(), DoorError>;

    /// A new directory.
    ///
    /// # Errors
    /// [`Kind::Exists`] where one stands.
    fn mkdir(&self, path: &str) -> Result<(), DoorError>;

    /// Moves a file or directory to a name that is free; never overwrites a file or a directory with content.
    ///
    /// # Errors
    /// [`Kind::Exists`] or [`Kind::NotEmpty`] where something stands at `to`; [`Kind::NotFound`] where nothing
    /// is at `from`.
    fn move_new(&self, from: &str, to: &str) -> Result<(), DoorError>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`Kind::NotEmpty`] where it is not empty; then it is untouched.
    fn rmdir(&self, path: &str) -> Result<(), DoorError>;

    /// Removes a directory with all that is in it, if it holds `name`, so that nobody ever finds it empty; for doors
    /// whose [`rmdir`](Self::rmdir) is more than one step. `None`: the door has no need of it.
    fn remove_whole(&self, _dir: &str, _name: &str) -> Option<Result<(), DoorError>> {
        None
    }

    /// Removes a file, whose name nobody else uses: some doors would remove a directory with all that is in it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is none.
    fn remove(&self, path: &str) -> Result<(), DoorError>;

    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is none.
    fn list(&self, path: &str) -> Result<Vec<String>, DoorError>;

    /// When a file or directory was last changed, by the clock of whoever keeps it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is none.
    fn modified(&self, path: &str) -> Result<Timestamp, DoorError>;

    /// Fills a file of the lease, durable. It must exist: a holder that has lost its lease creates nothing.
    ///
    /// # Errors
    /// [`Kind::NotFound`]: the lease is lost.
    fn stage(&self, path: &str, bytes: &[u8]) -> Result<(), DoorError>;

    /// Puts a staged file in place of `target`, which readers see whole, before or after; a moment in which it is
    /// missing is allowed where `base` is [`Base::Any`], and on a file system that cannot do without (CIFS).
    ///
    /// # Errors
    /// [`Kind::NotFound`]: the lease is lost, or the target's directory is missing; [`Kind::Changed`]: `base`
    /// no longer stands there.
    fn publish(&self, publish: &Publish<'_>) -> Result<(), DoorError>;

    /// Makes durable what was published in the directory of `path`. A door whose `publish` is durable needs none.
    ///
    /// # Errors
    /// [`DoorError`]: what was published is seen, and may yet be lost.
    fn sync(&self, _path: &str) -> Result<(), DoorError> {
        Ok(())
    }
}

/// What a call was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the call of the same name")]
pub enum Op {
    Open,
    Read,
    WriteNew,
    Mkdir,
    MoveNew,
    Rmdir,
    Remove,
    List,
    Modified,
    Stage,
    Publish,
    Sync,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::WriteNew | Self::Stage => "write",
            Self::Mkdir => "make the directory",
            Self::MoveNew => "move",
            Self::Rmdir => "remove the directory",
            Self::Remove => "remove",
            Self::List => "list",
            Self::Modified => "look at",
            Self::Publish => "replace",
            Self::Sync => "sync",
        })
    }
}

/// What came of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is there.
    NotFound,
    /// Something is there already.
    Exists,
    /// The directory has content.
    NotEmpty,
    /// No space is left.
    Full,
    /// Nothing can be written there.
    ReadOnly,
    /// Not allowed.
    Denied,
    /// The user's name or password is refused.
    Unauthorized,
    /// The server cannot be reached, or not trusted, and has not been before.
    Unreachable,
    /// The file is no longer in the state the commit was worked out from.
    Changed,
    /// The answer was lost: whether the call had its effect is unknown.
    Ambiguous,
    /// The file is bigger than any document of ours, as `source` says in words.
    TooBig,
    /// Any other failure, without effect.
    Other,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {path}")]
pub struct DoorError {
    /// The call.
    pub op: Op,
    /// The path or URL as a person knows it.
    pub path: String,
    /// What came of it.
    pub kind: Kind,
    /// The cause as the system tells it.
    pub source: Box<dyn Error + Send + Sync>,
}

impl DoorError {
    /// The stable code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let reads = matches!(self.op, Op::Open | Op::Read | Op::List | Op::Modified);
        match self.kind {
            Kind::Full => Reason::RegistryFull,
            Kind::Unauthorized => Reason::RegistryWrongPassword,
            Kind::Unreachable => Reason::RegistryUnreachable,
            _ if reads => Reason::RegistryUnreadable,
            Kind::ReadOnly | Kind::Denied => Reason::RegistryReadOnly,
            _ => Reason::RegistryWrite,
        }
    }
}

impl DoorError {
    /// Failed it in passing, and before anything was published? Then an update starts over.
    pub(super) fn passes(&self) -> bool {
        self.kind == Kind::Ambiguous && !matches!(self.op, Op::Publish | Op::Sync)
    }
}

/// `Ok(None)` where the thing asked for is not there.
pub(super) fn optional<T>(result: Result<T, DoorError>) -> Result<Option<T>, DoorError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(err) if err.kind == Kind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}
