//! A directory on a real server, for the suites, and HTTP with a fault in it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use forest_core::registry::{Door, FsDoor, Op};
use forest_tests::apache::Apache;
use morpheus::webdav::{Answer, Client, Http, HttpError, Request};
use tempfile::TempDir;

use crate::bench::Bench;
use crate::faulty::{Fault, Faulty, FaultyDoor};

/// A directory of its own on `apache`.
pub(crate) struct Dav<'a> {
    apache: &'a Apache,
    client: Arc<Client>,
    dir: TempDir,
}

impl<'a> Dav<'a> {
    pub(crate) fn new(apache: &'a Apache, client: &Arc<Client>) -> Self {
        let dir = tempfile::Builder::new().prefix("bench").tempdir_in(apache.root()).unwrap();
        Self { apache, client: Arc::clone(client), dir }
    }

    /// The path of the registry below the server's directory.
    pub(crate) fn path(&self) -> String {
        format!("{}/registry.json", self.dir.path().file_name().unwrap().to_str().unwrap())
    }

    pub(crate) fn over(&self, http: impl Http + 'static) -> Box<dyn Door> {
        Box::new(self.apache.door_over(&self.path(), http))
    }
}

impl Bench for Dav<'_> {
    fn door(&self) -> Box<dyn Door> {
        self.over(Arc::clone(&self.client))
    }

    /// The nodes' door.
    fn other(&self) -> Box<dyn Door> {
        Box::new(FsDoor::open(&self.dir(), None).unwrap())
    }

    /// The fault strikes a request, of which a call may make several.
    fn faulty<'a>(&'a self, at: usize, fault: Fault, watch: &'a (dyn Fn() + Sync)) -> Box<dyn Faulty + 'a> {
        let http = Arc::new(FaultyHttp {
            inner: Arc::clone(&self.client),
            at,
            fault,
            calls: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            op: OnceLock::new(),
        });
        let door = FaultyDoor::new(self.over(Arc::clone(&http)), usize::MAX, Fault::Refused, watch);
        Box::new(FaultyDav { door, http })
    }

    fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

struct FaultyDav<'a> {
    door: FaultyDoor<'a>,
    http: Arc<FaultyHttp>,
}

impl Faulty for FaultyDav<'_> {
    fn door(&self) -> &dyn Door {
        &self.door
    }

    fn op(&self) -> Option<Op> {
        self.http.op.get().copied()
    }

    fn struck(&self) -> bool {
        self.http.calls.load(Ordering::SeqCst) > self.http.at
    }
}

/// HTTP in which one request meets a fault.
struct FaultyHttp {
    inner: Arc<Client>,
    at: usize,
    fault: Fault,
    calls: AtomicUsize,
    dead: AtomicBool,
    op: OnceLock<Op>,
}

impl Http for FaultyHttp {
    fn send(&self, request: Request) -> Result<Answer, HttpError> {
        let status = |status| Ok(Answer { status, ..Answer::default() });
        // No effect, and no hope: what a dead process still tries.
        let dead = || status(400);
        let lost = || Err(HttpError::Lost("injected".to_owned()));
        if self.dead.load(Ordering::SeqCst) {
            return dead();
        }
        if self.calls.fetch_add(1, Ordering::SeqCst) != self.at {
            return self.inner.send(request);
        }
        let _ = self.op.set(op(&request));
        self.dead.store(matches!(self.fault, Fault::DeadBefore | Fault::DeadAfter), Ordering::SeqCst);
        match self.fault {
            Fault::Refused => status(503),
            Fault::DeadBefore => dead(),
            Fault::DeadAfter => self.inner.send(request).and_then(|_| dead()),
            Fault::LostBefore => lost(),
            Fault::LostAfter => self.inner.send(request).and_then(|_| lost()),
            Fault::Torn if request.method == "GET" => self.inner.send(request).map(|mut answer| {
                answer.body.truncate(answer.body.len() / 2);
                answer
            }),
            _ => self.inner.send(request),
        }
    }
}

/// The kind of call that a request belongs to.
fn op(request: &Request) -> Op {
    let header =
        |name: &str| request.headers.iter().find(|(found, _)| *found == name).map(|(_, text)| &**text);
    match request.method {
        "PUT" if request.url.path().ends_with("/registry.json") => Op::Publish,
        "PUT" if header("If-Match").is_some() => Op::Stage,
        "PUT" => Op::WriteNew,
        "MOVE" if header("Overwrite") == Some("T") => Op::Publish,
        "MOVE" => Op::MoveNew,
        "MKCOL" => Op::Mkdir,
        "DELETE" => Op::Remove,
        "PROPFIND" => Op::List,
        _ => Op::Read,
    }
}
