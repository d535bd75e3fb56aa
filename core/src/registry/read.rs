//! Reading a document without the lease: for everybody who only looks. Changes nothing.

use super::clock::{Backoff, Clock};
use super::document::{Corrupt, Document, Files, join};
use super::door::{Door, DoorError, Kind, Tag, optional};
use super::limits::Limits;
use crate::reason::Reason;

/// A document as it stood at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot<D> {
    /// The document.
    pub doc: D,
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// The door's mark of this state.
    pub tag: Tag,
}

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no file, or an empty one where nothing ever stood.
    #[error("{0} does not exist")]
    Missing(String),
    /// The file is not the document; a torn read would have passed by now.
    #[error("{file} is corrupt, {}", if *copy { "its last good copy is still there" } else { "and no good copy of it exists" })]
    Corrupt {
        /// The file.
        file: String,
        /// Where and how.
        #[source]
        what: Corrupt,
        /// Whether the last good copy can be read.
        copy: bool,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] DoorError),
}

impl ReadError {
    /// The stable code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Missing(_) => Reason::RegistryMissing,
            Self::Corrupt { copy: true, .. } => Reason::RegistryCorrupt,
            Self::Corrupt { copy: false, .. } => Reason::RegistryNoCopy,
            Self::Unreadable(_) => Reason::RegistryUnreadable,
        }
    }
}

/// What one look found.
pub(super) enum Found<D> {
    Good(Snapshot<D>),
    /// No file (`None`), or one with nothing but white space in it.
    Nothing(Option<(Vec<u8>, Tag)>),
    Bad {
        bytes: Vec<u8>,
        tag: Tag,
        what: Corrupt,
    },
}

/// One look at the document.
pub(super) fn look<D: Document>(door: &dyn Door, files: &Files) -> Result<Found<D>, DoorError> {
    let Some((bytes, tag)) = optional(door.read(&files.file))? else {
        return Ok(Found::Nothing(None));
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(Found::Nothing(Some((bytes, tag))));
    }
    Ok(match D::parse(&bytes) {
        Ok(doc) => Found::Good(Snapshot { doc, bytes, tag }),
        Err(what) => Found::Bad { bytes, tag, what },
    })
}

/// The last good copy, if it is one.
pub(super) fn last_good<D: Document>(door: &dyn Door, files: &Files) -> Result<LastGood<D>, DoorError> {
    Ok(match optional(door.read(&files.last_good))? {
        None => LastGood::None,
        Some((bytes, _)) => D::parse(&bytes).map_or(LastGood::Bad, LastGood::Good),
    })
}

/// What the last good copy is worth.
pub(super) enum LastGood<D> {
    Good(D),
    Bad,
    None,
}

/// Reads the document. A read that is torn, or fails as a network file system does in passing, is tried again
/// for at most `limits.torn`.
///
/// # Errors
/// [`ReadError`]: missing, corrupt and unreadable are told apart.
pub fn read<D: Document>(
    door: &dyn Door,
    clock: &dyn Clock,
    limits: &Limits,
    files: &Files,
) -> Result<Snapshot<D>, ReadError> {
    let until = clock.boottime() + limits.torn;
    let mut backoff = Backoff::new(limits.retry_min, limits.retry_max);
    loop {
        let found = look(door, files);
        match found {
            Ok(Found::Good(snapshot)) => return Ok(snapshot),
            Ok(Found::Nothing(None)) => return Err(ReadError::Missing(door.shown(&files.file))),
            Err(err) if !matches!(err.kind, Kind::Ambiguous | Kind::Other) => return Err(err.into()),
            Ok(found) if clock.boottime() >= until => return Err(judge(door, files, found)?),
            Err(err) if clock.boottime() >= until => return Err(err.into()),
            _ => {}
        }
        backoff.wait(clock);
    }
}

/// What is wrong with a file that stays as it is.
fn judge<D: Document>(door: &dyn Door, files: &Files, found: Found<D>) -> Result<ReadError, DoorError> {
    let copy = last_good::<D>(door, files)?;
    let what = match found {
        Found::Bad { what, .. } => what,
        _ if matches!(copy, LastGood::None) => return Ok(ReadError::Missing(door.shown(&files.file))),
        _ => Corrupt::empty(),
    };
    let copy = matches!(copy, LastGood::Good(_));
    Ok(ReadError::Corrupt { file: door.shown(&files.file), what, copy })
}

/// The names of the quarantined copies of a document, oldest first; a person looks at them and deletes them.
///
/// # Errors
/// [`DoorError`] where the directory cannot be listed.
pub fn corrupt_copies(door: &dyn Door, files: &Files) -> Result<Vec<String>, DoorError> {
    let names = optional(door.list(files.dir()))?.unwrap_or_default();
    let mut copies: Vec<String> = names.iter().map(|name| join(files.dir(), name)).collect();
    copies.retain(|name| name.starts_with(&files.corrupt_prefix()));
    copies.sort();
    Ok(copies)
}
