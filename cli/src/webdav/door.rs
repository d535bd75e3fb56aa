//! The calls of the update algorithm, over WebDAV. Where HTTP has no such call:
//!
//! - **Removing an empty directory**: DELETE is recursive. The directory is looked into, moved to a name of our
//!   own, looked into again, and only then deleted; a lease that another moved in meanwhile is put back. A lease of
//!   our own is moved away with our file in it, so that nobody takes it for free between the two.
//! - **Publishing**: MOVE onto a file removes that file first, so readers would find none for a moment. The
//!   document is PUT, which servers do by temp file and rename, and which no lease fences: `If-Match` is its second
//!   line, as far as the server honours that, for servers check first and write then. The last good copy, which
//!   nobody reads while the document is well, is MOVEd out of the lease, and so fenced as on a file system; that
//!   move is also the last look at the lease before the PUT.
//! - **A weak ETag** (Apache's, of a file that changed within the last two seconds) never matches, and then
//!   `If-Unmodified-Since` stands in: by whole seconds, which is fine enough, since nobody takes a lease away
//!   before it has stood for a minute.
//!
//! What the server's disk has when it says "done" is the server's business: WebDAV has no sync.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use forest_core::registry::{Base, Door, DoorError, Kind, Op, Publish, Tag};
use jiff::Timestamp;
use url::Url;

use super::answer::{Refused, is_done, kind};
use super::http::{Answer, Http, HttpError, Request};
use super::place::Place;
use super::propfind::{self, ListingError};
use super::state::State;

/// How the names of directories begin that were moved away to be removed; the next holders sweep what is left.
const GONE: &str = ".registry.gone.";
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
    ///
    /// Apache's mod_dav looks first and makes it then; where another made it in between, it answers 403, as if nobody
    /// might. Asked once more it says what stands there.
    pub(super) fn mkcol(&self, url: &Url) -> Result<(), DoorError> {
        let ask = || self.done(Op::Mkdir, "MKCOL", url.clone(), Vec::new(), &[]).map(drop);
        match ask() {
            Err(err) if err.kind == Kind::Denied => ask(),
            made => made,
        }
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

    /// Does the server heed If-Match? Found out on the file at `path`, which may be overwritten.
    ///
    /// # Errors
    /// [`DoorError`] where it cannot be written at all.
    pub fn heeds_conditions(&self, path: &str) -> Result<bool, DoorError> {
        self.honours(path, b"{}\n")
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

    /// The condition under which `publish` may replace its target.
    fn condition(&self, publish: &Publish<'_>) -> Result<Option<Header>, DoorError> {
        let state = match publish.base {
            Base::Absent => return Ok(Some(("If-None-Match", "*".to_owned()))),
            Base::Any => return Ok(None),
            Base::Tag(tag) => State::of_tag(tag),
        };
        if state == State::default() || self.honours.get() != Some(&false) {
            return Ok(state.condition());
        }
        // The server would not look itself, so this is the next best: a look right before.
        let url = self.place.url(publish.target);
        let now =
            self.done(Op::Publish, "HEAD", url, fresh(), &[]).map(|answer| State::of_answer(&answer))?;
        if now.is(&state) {
            return Ok(None);
        }
        let (path, source) = (self.shown(publish.target), "it has changed".into());
        Err(DoorError { op: Op::Publish, path, kind: Kind::Changed, source })
    }

    /// Removes a directory with all that is in it, if that is `due`: looked at before, and again once it is out of
    /// everybody's reach.
    fn remove_if(&self, path: &str, due: impl Fn(&Vec<String>) -> bool) -> Result<(), DoorError> {
        let look = |path: &str| self.list(path).map_err(|err| DoorError { op: Op::Rmdir, ..err });
        let other = || {
            let source = "it holds what another put there".into();
            Err(DoorError { op: Op::Rmdir, path: self.shown(path), kind: Kind::NotEmpty, source })
        };
        if !due(&look(path)?) {
            return other();
        }
        let away = format!("{GONE}{:032x}", rand::random::<u128>());
        self.shift(Op::Rmdir, path, &away, "F")?;
        if !due(&look(&away)?) {
            if let Err(err) = self.shift(Op::Rmdir, &away, path, "F") {
                // A third one has taken its place. Its owner finds it gone and starts over; nobody looks for it here.
                tracing::info!(%err, "cannot put back a directory that another has filled");
                self.clear(&away);
            }
            return other();
        }
        self.clear(&away);
        Ok(())
    }

    /// Removes what is out of the way already, which is all that was asked for.
    fn clear(&self, away: &str) {
        if let Err(err) = self.remove(away) {
            tracing::debug!(%err, "left to the sweep");
        }
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
        let tag = State::of_answer(&answer).tag();
        Ok((answer.body, tag))
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
        self.remove_if(path, Vec::is_empty)
    }

    fn remove_whole(&self, dir: &str, name: &str) -> Option<Result<(), DoorError>> {
        Some(match self.remove_if(dir, |names| names.iter().any(|found| found == name)) {
            // It is another's.
            Err(err) if err.kind == Kind::NotEmpty => Ok(()),
            removed => removed,
        })
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
