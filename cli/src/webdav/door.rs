//! The calls of the update algorithm, over WebDAV. Where HTTP has no such call:
//!
//! - **Removing an empty directory**: DELETE is recursive. The directory is looked into, moved to a name of our
//!   own, looked into again, and only then deleted; a lease that another moved in meanwhile is put back.
//! - **Publishing**: MOVE onto a file removes that file first, so readers would find none for a moment. The
//!   document is PUT, which servers do by temp file and rename, and which no lease fences: `If-Match` is its second
//!   line, as far as the server honours that, for servers check first and write then. The last good copy, which
//!   nobody reads while the document is well, is MOVEd out of the lease, and so fenced as on a file system; that
//!   move is also the last look at the lease before the PUT.
//! - **A weak ETag** (Apache's, of a file that changed within the last two seconds) never matches. A lease that is
//!   as young as that needs no second line; later the ETag is waited out.
//!
//! What the server's disk has when it says "done" is the server's business: WebDAV has no sync.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forest_core::registry::{Base, Clock as _, Door, DoorError, Kind, Op, Publish, SystemClock, Tag};
use jiff::Timestamp;
use url::Url;

use super::answer::{Refused, is_done, kind};
use super::http::{Answer, Http, HttpError, Request};
use super::place::Place;
use super::propfind::{self, ListingError};

/// How the names of directories begin that were moved away to be removed; the next holders sweep what is left.
const GONE: &str = ".registry.gone.";
/// A lease that is younger was not left by anybody: what it guards needs no second line.
const YOUNG: Duration = Duration::from_secs(2);
/// Between two looks at a weak ETag, and how many: together longer than any server keeps one weak.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOKS: usize = 14;
/// Matches no file's ETag.
const NOBODYS: &str = "\"of-no-file\"";

type Header = (&'static str, String);

/// A directory on a WebDAV server.
pub struct WebDav {
    place: Place,
    http: Box<dyn Http>,
    /// Has the server ever answered?
    met: AtomicBool,
    /// Does it honour If-Match?
    honours: OnceLock<bool>,
}

impl WebDav {
    /// The door of the directory of `place`. Asks the server nothing yet.
    #[must_use]
    pub fn new(place: Place, http: Box<dyn Http>) -> Self {
        Self { place, http, met: AtomicBool::new(false), honours: OnceLock::new() }
    }

    /// Where it leads.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Makes the directory at `url`.
    pub(super) fn mkcol(&self, url: &Url) -> Result<(), DoorError> {
        self.done(Op::Mkdir, "MKCOL", url.clone(), Vec::new(), &[]).map(drop)
    }

    /// One exchange, whatever comes of it.
    fn ask(
        &self,
        op: Op,
        method: &'static str,
        url: Url,
        headers: Vec<Header>,
        body: &[u8],
    ) -> Result<Answer, DoorError> {
        let path = url.to_string();
        let sent = self.http.send(Request { method, url, headers, body: body.to_vec() });
        match sent {
            Ok(answer) => {
                self.met.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err(err) => {
                let kind = err.kind(self.met.load(Ordering::Relaxed));
                let source = match err {
                    // The words of a size are the whole story.
                    HttpError::TooBig(_) => err.to_string().into(),
                    err => err.into(),
                };
                Err(DoorError { op, path, kind, source })
            }
        }
    }

    /// One exchange that has to be a success.
    fn done(
        &self,
        op: Op,
        method: &'static str,
        url: Url,
        headers: Vec<Header>,
        body: &[u8],
    ) -> Result<Answer, DoorError> {
        let path = url.to_string();
        let answer = self.ask(op, method, url, headers, body)?;
        if is_done(answer.status) {
            return Ok(answer);
        }
        let source = Refused::new(method, &answer).into();
        Err(DoorError { op, path, kind: kind(op, answer.status), source })
    }

    fn put(&self, op: Op, path: &str, condition: Option<Header>, bytes: &[u8]) -> Result<(), DoorError> {
        let mut headers = vec![("Content-Type", "application/json".to_owned())];
        headers.extend(condition);
        self.done(op, "PUT", self.place.url(path), headers, bytes).map(drop)
    }

    fn shift(&self, op: Op, from: &str, to: &str, overwrite: &'static str) -> Result<(), DoorError> {
        let headers =
            vec![("Destination", self.place.url(to).to_string()), ("Overwrite", overwrite.to_owned())];
        self.done(op, "MOVE", self.place.url(from), headers, &[]).map(drop)
    }

    fn propfind(&self, op: Op, url: &Url, depth: &str) -> Result<Vec<u8>, DoorError> {
        let headers =
            vec![("Depth", depth.to_owned()), ("Content-Type", "application/xml; charset=utf-8".to_owned())];
        let answer = self.ask(op, "PROPFIND", url.clone(), headers, propfind::QUERY.as_bytes())?;
        if answer.status == 207 {
            return Ok(answer.body);
        }
        let source = Refused::new("PROPFIND", &answer).into();
        Err(DoorError { op, path: url.to_string(), kind: kind(op, answer.status), source })
    }

    fn garbled(&self, op: Op, url: &Url, err: ListingError) -> DoorError {
        let kind = match err {
            // Torn, perhaps: a listing may race with changes.
            ListingError::Xml(_) => Kind::Ambiguous,
            _ => Kind::Other,
        };
        DoorError { op, path: url.to_string(), kind, source: err.into() }
    }

    /// Does the server honour If-Match? Found out once, on a staged file, which is filled if it does not.
    fn honours(&self, path: &str, bytes: &[u8]) -> Result<bool, DoorError> {
        if let Some(honours) = self.honours.get() {
            return Ok(*honours);
        }
        let tried = self.put(Op::Publish, path, Some(("If-Match", NOBODYS.to_owned())), bytes);
        let honours = match tried {
            Ok(()) => {
                tracing::warn!(server = %self.place.dir(), "the server ignores If-Match: the lease alone excludes");
                false
            }
            Err(err) if err.kind == Kind::Changed => true,
            Err(err) => return Err(DoorError { op: Op::Stage, ..err }),
        };
        Ok(*self.honours.get_or_init(|| honours))
    }

    /// The ETag of `path` as it is now.
    fn tag(&self, path: &str) -> Result<Option<String>, DoorError> {
        self.done(Op::Publish, "HEAD", self.place.url(path), fresh(), &[]).map(|answer| answer.etag)
    }

    /// The condition under which `publish` may replace its target.
    fn condition(&self, publish: &Publish<'_>) -> Result<Option<Header>, DoorError> {
        let tag = match publish.base {
            Base::Absent => return Ok(Some(("If-None-Match", "*".to_owned()))),
            Base::Tag(Tag(Some(tag))) => tag,
            Base::Any | Base::Tag(Tag(None)) => return Ok(None),
        };
        if self.honours.get() == Some(&false) {
            // It would not look itself, so this is the next best: a look right before.
            return self.unchanged(publish.target, tag).map(|_| None);
        }
        if !is_weak(tag) {
            return Ok(Some(("If-Match", tag.clone())));
        }
        if publish.held < YOUNG {
            return Ok(None);
        }
        for _ in 0..LOOKS {
            let now = self.unchanged(publish.target, tag)?;
            if !is_weak(&now) {
                return Ok(Some(("If-Match", now)));
            }
            SystemClock.sleep(LOOK_AGAIN);
        }
        Ok(None)
    }

    /// The ETag of `path` now, which has to stand for the same state as `tag`.
    fn unchanged(&self, path: &str, tag: &str) -> Result<String, DoorError> {
        let now = self.tag(path)?.unwrap_or_default();
        if opaque(&now) == opaque(tag) {
            return Ok(now);
        }
        let path = self.shown(path);
        Err(DoorError { op: Op::Publish, path, kind: Kind::Changed, source: "its ETag is another".into() })
    }

    /// Puts a directory back that was moved away and turned out not to be empty.
    fn put_back(&self, away: &str, path: &str) -> DoorError {
        if let Err(err) = self.shift(Op::MoveNew, away, path, "F") {
            // Its owner finds it gone, and starts over; what is left is swept.
            tracing::warn!(%err, "cannot put a directory back that another has filled");
        }
        let source = "another has filled it".into();
        DoorError { op: Op::Rmdir, path: self.shown(path), kind: Kind::NotEmpty, source }
    }
}

impl Door for WebDav {
    fn shown(&self, path: &str) -> String {
        self.place.url(path).to_string()
    }

    /// A body that is cut short is an error here, and one that was cut at the length of an older file is no
    /// document: both are read again.
    fn read(&self, path: &str) -> Result<(Vec<u8>, Tag), DoorError> {
        let answer = self.done(Op::Read, "GET", self.place.url(path), fresh(), &[])?;
        Ok((answer.body, Tag(answer.etag)))
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> Result<(), DoorError> {
        self.put(Op::WriteNew, path, Some(("If-None-Match", "*".to_owned())), bytes)
    }

    fn mkdir(&self, path: &str) -> Result<(), DoorError> {
        self.mkcol(&self.place.url_of_dir(path))
    }

    fn move_new(&self, from: &str, to: &str) -> Result<(), DoorError> {
        self.shift(Op::MoveNew, from, to, "F")
    }

    fn rmdir(&self, path: &str) -> Result<(), DoorError> {
        let as_rmdir = |err: DoorError| DoorError { op: Op::Rmdir, ..err };
        if !self.list(path).map_err(as_rmdir)?.is_empty() {
            let source = "it is not empty".into();
            return Err(DoorError { op: Op::Rmdir, path: self.shown(path), kind: Kind::NotEmpty, source });
        }
        let away = format!("{GONE}{:032x}", rand::random::<u128>());
        self.shift(Op::Rmdir, path, &away, "F")?;
        if !self.list(&away).map_err(as_rmdir)?.is_empty() {
            return Err(self.put_back(&away, path));
        }
        match self.remove(&away) {
            // It is out of the way, which is all that was asked for.
            Err(err) if err.kind != Kind::NotFound => {
                tracing::debug!(%err, "left to the sweep");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn remove(&self, path: &str) -> Result<(), DoorError> {
        self.done(Op::Remove, "DELETE", self.place.url(path), Vec::new(), &[]).map(drop)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, DoorError> {
        let url = self.place.url_of_dir(path);
        let xml = self.propfind(Op::List, &url, "1")?;
        propfind::names(&xml, &url).map_err(|err| self.garbled(Op::List, &url, err))
    }

    fn modified(&self, path: &str) -> Result<Timestamp, DoorError> {
        let url = self.place.url(path);
        let xml = self.propfind(Op::Modified, &url, "0")?;
        propfind::modified(&xml, &url).map_err(|err| self.garbled(Op::Modified, &url, err))
    }

    /// Shows that there is room for the bytes, which PUT sends again.
    fn stage(&self, path: &str, bytes: &[u8]) -> Result<(), DoorError> {
        if self.honours(path, bytes)? {
            return self.put(Op::Stage, path, Some(("If-Match", "*".to_owned())), bytes);
        }
        // Such a server would make the file; a stray one in another's lease does no harm, but need not be.
        self.read(path).map_err(|err| DoorError { op: Op::Stage, ..err })?;
        self.put(Op::Stage, path, None, bytes)
    }

    fn publish(&self, publish: &Publish<'_>) -> Result<(), DoorError> {
        if *publish.base == Base::Any {
            return self.shift(Op::Publish, publish.staged, publish.target, "T");
        }
        let condition = match self.condition(publish) {
            // There was a file, and it is gone.
            Err(err) if err.kind == Kind::NotFound => return Err(DoorError { kind: Kind::Changed, ..err }),
            condition => condition?,
        };
        self.put(Op::Publish, publish.target, condition, publish.bytes)
    }
}

/// Asks for the file as it is, past every cache.
fn fresh() -> Vec<Header> {
    vec![("Cache-Control", "no-cache".to_owned())]
}

fn is_weak(tag: &str) -> bool {
    tag.starts_with("W/")
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}
