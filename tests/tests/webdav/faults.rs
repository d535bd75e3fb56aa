//! Faults at every request of an update.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use forest_core::registry::{Kind, Limits, VirtualClock};
use forest_tests::apache::{Apache, Setup};
use jiff::Timestamp;
use morpheus::webdav::{Answer, Client, Http, HttpError, Request};

use crate::bench::{Bench, elsewhere, mark, marked};
use crate::dav::Dav;
use crate::every_call::{Start, every_call};

/// Not from every starting point of the file system's suite: those that differ in what is asked of the server.
const STARTS: [Start; 2] = [Start::Registry, Start::DeadLease];

/// Before and after it, others update through the file system.
#[test]
fn one_fault_at_every_request_of_an_update() {
    let apache = Apache::start(Setup::default());
    let client = Arc::new(apache.client());
    std::thread::scope(|scope| {
        for start in STARTS {
            let (apache, client) = (&apache, &client);
            scope.spawn(move || every_call(&|| Dav::new(apache, client), start));
        }
    });
}

/// HTTP that falls asleep before one request, for as long as `meanwhile` takes.
struct Sleepy {
    inner: Box<dyn Http>,
    at: usize,
    calls: AtomicUsize,
    meanwhile: Box<dyn Fn() + Send + Sync>,
}

impl Sleepy {
    fn new(inner: impl Http + 'static, at: usize, meanwhile: impl Fn() + Send + Sync + 'static) -> Self {
        Self { inner: Box::new(inner), at, calls: AtomicUsize::new(0), meanwhile: Box::new(meanwhile) }
    }
}

impl Http for Sleepy {
    fn send(&self, request: Request) -> Result<Answer, HttpError> {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.at {
            (self.meanwhile)();
        }
        self.inner.send(request)
    }
}

/// A laptop that is put to sleep in the middle of an update, before any of its requests, and goes on a while
/// after its lease was taken away and another's update done, undoes nothing, and its own update is there.
#[test]
fn a_writer_that_slept_undoes_nothing() {
    let apache = Apache::start(Setup::default());
    let client = Arc::new(apache.client());
    let mut at = 0;
    while slept(&apache, &client, at) {
        at += 1;
    }
    assert!((15..100).contains(&at), "{at} requests");
}

/// Asleep before request `at`; `false`: there is none.
fn slept(apache: &Apache, client: &Arc<Client>, at: usize) -> bool {
    let bench = Arc::new(Dav::new(apache, client));
    let (clock, limits) = (Arc::new(VirtualClock::new(Timestamp::now())), Limits::default());
    // It sleeps, and the other waits, for longer than an update may take as a rule.
    let limits = Limits { give_up: limits.stale * 10, ..limits };
    mark(&*bench.door(), &*clock, &elsewhere("first"), &limits, "first").unwrap();
    // As after a while without updates; the times of the two updates below differ, as those of a minute apart do.
    let file = std::fs::File::open(bench.dir().join("registry.json")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();

    let (fs, virtual_clock, other_limits) = (bench.dir(), Arc::clone(&clock), limits.clone());
    let meanwhile = move || {
        virtual_clock.advance(other_limits.stale);
        let door = forest_core::registry::FsDoor::open(&fs, None).unwrap();
        mark(&door, &*virtual_clock, &elsewhere("other"), &other_limits, "other").unwrap();
    };
    let http = Arc::new(Sleepy::new(Arc::clone(client), at, meanwhile));
    mark(&*bench.over(Arc::clone(&http)), &*clock, &elsewhere("sleepy"), &limits, "second")
        .unwrap_or_else(|err| panic!("asleep before request {at}: {err}"));
    let struck = http.calls.load(Ordering::SeqCst) > at;
    for name in ["first", "second"].into_iter().chain(struck.then_some("other")) {
        assert!(marked(&bench.registry(), name), "asleep before request {at}: {name} is lost");
    }
    struck
}

/// A directory is seen empty, and filled before it is moved away: it is put back. Where a third one has taken its
/// place by then, that one stays, and nothing else.
#[test]
fn a_directory_that_is_filled_while_it_is_removed_is_put_back() {
    let apache = Apache::start(Setup::default());
    let client = Arc::new(apache.client());
    let fill = |bench: &Dav<'_>, name: &'static str| {
        let dir = bench.dir().join("lease");
        move || {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(name), "").unwrap();
        }
    };
    // Its requests: look, move, look, move back.
    let names = |third: bool| {
        let bench = Dav::new(&apache, &client);
        std::fs::create_dir(bench.dir().join("lease")).unwrap();
        let http = Sleepy::new(Arc::clone(&client), 1, fill(&bench, "second"));
        let http = Sleepy::new(http, if third { 3 } else { usize::MAX }, fill(&bench, "third"));
        let door = bench.over(http);
        assert_eq!(door.rmdir("lease").unwrap_err().kind, Kind::NotEmpty);
        assert_eq!(door.list("").unwrap(), ["lease"]);
        door.list("lease").unwrap()
    };
    assert_eq!(names(false), ["second"]);
    assert_eq!(names(true), ["third"]);
}
