//! A registry that went bad: set aside once, the last good copy put back, nothing lost, never a fresh one.

use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::Duration;

use forest_core::registry::{
    Clock, Files, Limits, Outcome, Owner, ReadError, Registry, Restored, SystemClock, UpdateError,
    UpdateOptions, VirtualClock, corrupt_copies, read, update,
};
use jiff::Timestamp;

use crate::bench::{Bench, Plain, elsewhere, mark, marked};

const WHOLE: &str = "{\n  \"forests\": {\"elm\": {\"weight\": 1.10}}\n}\n";

/// The bad texts of the tests, and a registry's own first half.
fn bad_texts(good: &[u8]) -> Vec<Vec<u8>> {
    vec![good[..good.len() / 2].to_vec(), vec![], b"[]".to_vec(), b"\x00\xff\xfe\x01".to_vec()]
}

/// A directory with a registry that was written by an update, and its bytes.
fn written(clock: &dyn Clock, limits: &Limits) -> (Plain, Vec<u8>) {
    let bench = Plain::new();
    bench.put("registry.json", WHOLE.as_bytes());
    mark(&*bench.door(), clock, &Owner::current("first"), limits, "first").unwrap();
    let good = bench.get("registry.json").unwrap();
    assert_eq!(bench.get(".registry.last-good.json").unwrap(), good);
    (bench, good)
}

fn virtual_clock() -> (VirtualClock, Limits) {
    (VirtualClock::new(Timestamp::now()), Limits::default())
}

#[test]
fn four_updaters_at_once_quarantine_once_and_restore() {
    // As short as it can be and still longer than a loaded machine keeps a holder of the lease waiting.
    let limits = Limits { stale: Duration::from_secs(4), ..Limits::default() };
    let (bench, good) = written(&SystemClock, &limits);
    for (round, bad) in bad_texts(&good).into_iter().enumerate() {
        bench.put("registry.json", &bad);
        let barrier = Barrier::new(4);
        let one = |thread: usize| {
            barrier.wait();
            let name = format!("r{round}-t{thread}");
            match mark(&*bench.door(), &SystemClock, &Owner::current(&name), &limits, &name).unwrap() {
                Outcome::Committed { restored } => usize::from(restored.is_some()),
                Outcome::Unchanged => panic!("{name} was not there before"),
            }
        };
        let one = &one;
        let restored: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || one(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(restored, 1, "round {round}");
        let copies = bench.corrupt_copies();
        assert_eq!(copies.len(), round + 1, "{copies:?}");
        assert!(copies.iter().any(|name| bench.get(name).unwrap() == bad), "round {round}");
        assert_eq!(corrupt_copies(&*bench.door(), &Files::default()).unwrap(), copies);
    }
    let registry = bench.registry();
    assert!(marked(&registry, "first"));
    assert!((0..4).all(|round| (0..4).all(|thread| marked(&registry, &format!("r{round}-t{thread}")))));
    assert_eq!(registry.forest(&"elm".parse().unwrap()).unwrap()["weight"].to_string(), "1.10");
    assert_eq!(bench.leftovers(), bench.corrupt_copies());
}

#[test]
fn the_same_corruption_twice_has_one_copy() {
    let (clock, limits) = virtual_clock();
    let (bench, _) = written(&clock, &limits);
    for name in ["a", "b"] {
        bench.put("registry.json", b"[]");
        let before = clock.boottime();
        mark(&*bench.door(), &clock, &elsewhere(name), &limits, name).unwrap();
        assert!(clock.boottime() - before >= limits.stale);
        assert_eq!(bench.corrupt_copies().len(), 1);
    }
    let registry = bench.registry();
    assert!(["first", "a", "b"].iter().all(|name| marked(&registry, name)));
}

#[test]
fn a_missing_registry_with_a_copy_is_restored() {
    let (clock, limits) = virtual_clock();
    let (bench, _) = written(&clock, &limits);
    std::fs::remove_file(bench.dir().join("registry.json")).unwrap();
    let outcome = mark(&*bench.door(), &clock, &elsewhere("a"), &limits, "a").unwrap();
    assert_eq!(outcome, Outcome::Committed { restored: Some(Restored { quarantined: None }) });
    assert!(marked(&bench.registry(), "first") && marked(&bench.registry(), "a"));
}

#[test]
fn without_a_good_copy_the_update_is_refused_and_the_file_kept() {
    let (clock, limits) = virtual_clock();
    for copy in [None, Some(&b"{\"nodes\":"[..])] {
        let bench = Plain::new();
        bench.put("registry.json", b"[]");
        if let Some(copy) = copy {
            bench.put(".registry.last-good.json", copy);
        }
        let err = mark(&*bench.door(), &clock, &elsewhere("a"), &limits, "a").unwrap_err();
        assert!(matches!(err, UpdateError::NoCopy { .. }), "{err}");
        assert_eq!(err.reason().unwrap().code(), "registry_no_copy");
        assert_eq!(bench.get("registry.json").unwrap(), b"[]");
        let err = read::<Registry>(&*bench.door(), &clock, &limits, &Files::default()).unwrap_err();
        assert!(matches!(err, ReadError::Corrupt { copy: false, .. }), "{err}");
    }
}

#[test]
fn a_file_that_is_too_big_is_moved_aside_and_restored() {
    let (clock, limits) = virtual_clock();
    let (bench, _) = written(&clock, &limits);
    let file = std::fs::File::create(bench.dir().join("registry.json")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let err = read::<Registry>(&*bench.door(), &clock, &limits, &Files::default()).unwrap_err();
    let ReadError::Corrupt { what, copy: true, .. } = err else { panic!("{err}") };
    assert_eq!(what.to_string(), "too big: 67108865 bytes, and 67108864 are the most");

    let before = clock.boottime();
    mark(&*bench.door(), &clock, &elsewhere("a"), &limits, "a").unwrap();
    assert!(clock.boottime() - before >= limits.stale);
    assert!(marked(&bench.registry(), "first") && marked(&bench.registry(), "a"));
    let copies = bench.corrupt_copies();
    assert_eq!(copies.len(), 1);
    assert_eq!(std::fs::metadata(bench.dir().join(&copies[0])).unwrap().len(), (64 << 20) + 1);
    assert_eq!(bench.leftovers(), copies);
}

#[test]
fn an_empty_file_without_a_copy_is_told_as_empty() {
    let (clock, limits) = virtual_clock();
    let bench = Plain::new();
    bench.put("registry.json", b" \n");
    let told =
        format!("{} is empty, and no good copy of it exists", bench.dir().join("registry.json").display());
    let options = UpdateOptions::default();
    let change = |registry: &Registry| Ok::<_, std::convert::Infallible>(Some(registry.clone()));
    let err = update(&*bench.door(), &clock, &elsewhere("a"), &limits, &options, change).unwrap_err();
    assert_eq!((err.to_string(), err.reason().unwrap().code()), (told.clone(), "registry_missing"));
    let err = read::<Registry>(&*bench.door(), &clock, &limits, &Files::default()).unwrap_err();
    assert_eq!((err.to_string(), err.reason().code()), (told, "registry_missing"));
}

/// A clock that mends the file, once, while somebody waits.
struct Mending<'a>(&'a VirtualClock, &'a Plain, &'a [u8], Duration, OnceLock<()>);

impl Clock for Mending<'_> {
    fn boottime(&self) -> Duration {
        self.0.boottime()
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep(&self, span: Duration) {
        self.0.sleep(span);
        if self.0.boottime() >= self.3 && self.4.set(()).is_ok() {
            self.1.put("registry.json", self.2);
        }
    }
}

#[test]
fn bad_bytes_that_pass_are_never_touched() {
    let (clock, limits) = virtual_clock();
    let (bench, good) = written(&clock, &limits);
    bench.put("registry.json", &good[..good.len() / 2]);
    let mending = Mending(&clock, &bench, &good, clock.boottime() + limits.stale / 2, OnceLock::new());
    let outcome = mark(&*bench.door(), &mending, &elsewhere("a"), &limits, "a").unwrap();
    assert_eq!(outcome, Outcome::Committed { restored: None });
    assert!(marked(&bench.registry(), "first") && marked(&bench.registry(), "a"));
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn a_good_look_clears_the_suspicion() {
    let (clock, limits) = virtual_clock();
    let (bench, good) = written(&clock, &limits);
    bench.put("registry.json", b"[]");
    let mended = clock.boottime() + limits.stale / 2;
    let mending = Mending(&clock, &bench, &good, mended, OnceLock::new());
    let mut first = true;
    let change = |registry: &Registry| {
        // Bad again, and the lease run out before the commit.
        if std::mem::take(&mut first) {
            bench.put("registry.json", b"[]");
            clock.advance(limits.hold);
        }
        Ok::<_, std::convert::Infallible>(Some(registry.clone()))
    };
    let options = UpdateOptions::default();
    let outcome = update(&*bench.door(), &mending, &elsewhere("a"), &limits, &options, change).unwrap();
    assert!(matches!(outcome, Outcome::Committed { restored: Some(_) }));
    assert!(clock.boottime() >= mended + limits.stale, "restored too early");
}

/// One who writes had moved aside the copy just before, and the registry: that is no registry that never was.
#[test]
fn a_reader_who_finds_neither_the_registry_nor_its_copy_looks_again() {
    let (clock, limits) = virtual_clock();
    let (bench, good) = written(&clock, &limits);
    let files = Files::default();
    for name in ["registry.json", ".registry.last-good.json"] {
        std::fs::remove_file(bench.dir().join(name)).unwrap();
    }
    let mending = Mending(&clock, &bench, &good, clock.boottime(), OnceLock::new());
    assert_eq!(read::<Registry>(&*bench.door(), &mending, &limits, &files).unwrap().bytes, good);
}

/// Whoever reads it knows that nothing is to be begun anew.
#[test]
fn a_missing_registry_is_told_apart_from_one_that_has_a_copy() {
    let (clock, limits) = virtual_clock();
    let (bench, _) = written(&clock, &limits);
    for (copy, told) in
        [(true, "does not exist, its last good copy is still there"), (false, "does not exist")]
    {
        let _ = std::fs::remove_file(bench.dir().join("registry.json"));
        if !copy {
            std::fs::remove_file(bench.dir().join(".registry.last-good.json")).unwrap();
        }
        let err = read::<Registry>(&*bench.door(), &clock, &limits, &Files::default()).unwrap_err();
        assert!(matches!(&err, ReadError::Missing(absent) if absent.copy == copy), "{err}");
        let file = bench.dir().join("registry.json");
        assert_eq!(err.to_string(), format!("{} {told}", file.display()));
    }
}

#[test]
fn a_reader_outlasts_a_torn_read_and_tells_the_rest_apart() {
    let (clock, limits) = virtual_clock();
    let (bench, good) = written(&clock, &limits);
    let files = Files::default();
    bench.put("registry.json", b"{");
    let mending = Mending(&clock, &bench, &good, clock.boottime() + limits.torn / 2, OnceLock::new());
    assert_eq!(read::<Registry>(&*bench.door(), &mending, &limits, &files).unwrap().bytes, good);

    std::fs::remove_file(bench.dir().join("registry.json")).unwrap();
    let mending = Mending(&clock, &bench, &good, clock.boottime() + limits.torn / 2, OnceLock::new());
    assert_eq!(read::<Registry>(&*bench.door(), &mending, &limits, &files).unwrap().bytes, good);

    for bad in bad_texts(&good) {
        bench.put("registry.json", &bad);
        let err = read::<Registry>(&*bench.door(), &clock, &limits, &files).unwrap_err();
        assert_eq!(err.reason().code(), "registry_corrupt", "{err}");
    }
    let (empty, begun) = (Plain::new(), clock.boottime());
    let err = read::<Registry>(&*empty.door(), &clock, &limits, &files).unwrap_err();
    let waited = clock.boottime() - begun;
    assert!(!waited.is_zero() && waited <= 2 * limits.retry_min, "a second look, and no third: {waited:?}");
    assert_eq!(err.reason().code(), "registry_missing");
    assert_eq!(err.to_string(), format!("{} does not exist", empty.dir().join("registry.json").display()));
    std::fs::create_dir(empty.dir().join("registry.json")).unwrap();
    let err = read::<Registry>(&*empty.door(), &clock, &limits, &files).unwrap_err();
    assert_eq!(err.reason().code(), "registry_unreadable");
}
