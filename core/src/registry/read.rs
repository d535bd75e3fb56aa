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

/// A document that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} {}", match (empty, copy) {
    (true, _) => "is empty, and no good copy of it exists",
    (false, true) => "does not exist, its last good copy is still there",
    (false, false) => "does not exist",
})]
pub struct Absent {
    /// The file.
    pub file: String,
    /// Whether there is a file with nothing in it.
    pub empty: bool,
    /// Whether the last good copy can be read: then the next update puts it back, and nobody may begin anew.
    pub copy: bool,
}

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no file, or an empty one where nothing ever stood.
    #[error("{0}")]
    Missing(Absent),
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
            Self::Unreadable(err) => err.reason(),
        }
    }
}

/// What stands in a document's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stands {
    Nothing,
    Bytes(Vec<u8>),
    /// A file that is too big to be looked into: how big, in words.
    TooBig(String),
}

impl Stands {
    /// Is there no file, or one with nothing but white space in it?
    pub(super) fn is_blank(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Bytes(bytes) => bytes.trim_ascii().is_empty(),
            Self::TooBig(_) => false,
        }
    }
}

/// Reads `path`, whatever stands there.
pub(super) fn stands(door: &dyn Door, path: &str) -> Result<(Stands, Tag), DoorError> {
    judged(door.read(path))
}

fn judged(read: Result<(Vec<u8>, Tag), DoorError>) -> Result<(Stands, Tag), DoorError> {
    match optional(read) {
        Ok(Some((bytes, tag))) => Ok((Stands::Bytes(bytes), tag)),
        Ok(None) => Ok((Stands::Nothing, Tag::default())),
        Err(err) if err.kind == Kind::TooBig => Ok((Stands::TooBig(err.source.to_string()), Tag::default())),
        Err(err) => Err(err),
    }
}

/// What one look found.
pub(super) enum Found<D> {
    Good(Snapshot<D>),
    Bad(Bad),
}

/// What is no document, and why.
pub(super) struct Bad {
    pub(super) stands: Stands,
    pub(super) tag: Tag,
    pub(super) what: Corrupt,
}

impl Bad {
    /// The error for a file that stays so.
    fn told<D>(self, file: String, copy: &LastGood<D>) -> ReadError {
        let missing = self.stands == Stands::Nothing;
        let good = matches!(copy, LastGood::Good(_));
        if missing || self.stands.is_blank() && matches!(copy, LastGood::None) {
            return ReadError::Missing(Absent { file, empty: !missing, copy: good });
        }
        ReadError::Corrupt { file, what: self.what, copy: good }
    }
}

/// One look at the document.
pub(super) fn look<D: Document>(door: &dyn Door, files: &Files) -> Result<Found<D>, DoorError> {
    found(stands(door, &files.file)?)
}

/// The same under the lease: what is worked out from it must be the newest.
pub(super) fn look_anew<D: Document>(door: &dyn Door, files: &Files) -> Result<Found<D>, DoorError> {
    found(judged(door.read_anew(&files.file))?)
}

fn found<D: Document>((stands, tag): (Stands, Tag)) -> Result<Found<D>, DoorError> {
    let what = match &stands {
        Stands::Nothing => Corrupt("missing".to_owned()),
        Stands::TooBig(how) => Corrupt(format!("too big: {how}")),
        Stands::Bytes(_) if stands.is_blank() => Corrupt::empty(),
        Stands::Bytes(bytes) => match D::parse(bytes) {
            Ok(doc) => return Ok(Found::Good(Snapshot { doc, bytes: bytes.clone(), tag })),
            Err(what) => what,
        },
    };
    Ok(Found::Bad(Bad { stands, tag, what }))
}

/// The last good copy, if it is one.
pub(super) fn last_good<D: Document>(door: &dyn Door, files: &Files) -> Result<LastGood<D>, DoorError> {
    Ok(match stands(door, &files.last_good)?.0 {
        Stands::Nothing => LastGood::None,
        Stands::TooBig(_) => LastGood::Bad,
        Stands::Bytes(bytes) => D::parse(&bytes).map_or(LastGood::Bad, LastGood::Good),
    })
}

/// What the last good copy is worth.
pub(super) enum LastGood<D> {
    Good(D),
    Bad,
    None,
}

/// Reads the document. A read that is torn, or fails as a network file system does in passing, is tried again
/// for at most `limits.torn`; so is a document that is missing although there is a copy of it. Where neither stands, a second
/// look a pause later has to find the same.
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
    let mut nothing_before = false;
    loop {
        let mut nothing = false;
        let (err, passes) = match look::<D>(door, files) {
            Ok(Found::Good(snapshot)) => return Ok(snapshot),
            Ok(Found::Bad(bad)) => match last_good::<D>(door, files) {
                Ok(copy) => {
                    nothing = bad.stands == Stands::Nothing && matches!(copy, LastGood::None);
                    // Both names may have been free for a moment, one after the other: looked at twice.
                    (bad.told(door.shown(&files.file), &copy), !(nothing && nothing_before))
                }
                Err(err) => unreadable(err),
            },
            Err(err) => unreadable(err),
        };
        if !passes || clock.boottime() >= until {
            return Err(err);
        }
        nothing_before = nothing;
        backoff.wait(clock);
    }
}

/// The error, and whether it may pass.
fn unreadable(err: DoorError) -> (ReadError, bool) {
    // Apache forbids what it cannot open, also where the name was free for a moment only.
    let passes = matches!(err.kind, Kind::Ambiguous | Kind::Other | Kind::Denied);
    (err.into(), passes)
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
