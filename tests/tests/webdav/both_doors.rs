//! Many writers at both doors of one directory: the laptop's and the nodes'.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use forest_core::registry::{
    Clock as _, Document, Door, Files, FsDoor, Limits, Owner, Queue, Registry, SystemClock, read,
};
use forest_tests::apache::{Apache, Setup};

use crate::bench::{Bench, mark, marked};
use crate::dav::Dav;

/// Writers at each door.
const WRITERS: usize = 8;
const UPDATES: usize = 40;
/// So that the readers leave the processor to the writers.
const BETWEEN_READS: Duration = Duration::from_millis(3);

/// The limits are hang detectors here.
fn patient() -> Limits {
    let long = Duration::from_secs(600);
    // Waiters look more often than they would in earnest: the test is to be short.
    Limits { give_up: long, queue_wait: long, retry_max: Duration::from_millis(100), ..Limits::default() }
}

fn contend(setup: Setup, writers: usize, updates: usize) {
    let apache = Apache::start(setup);
    let bench = Dav::new(&apache, &Arc::new(apache.client()));
    let (dir, limits) = (bench.dir(), patient());
    let queue = Arc::new(Queue::new(dir.join("queue.lock")));
    let file_door = || Box::new(FsDoor::open(&dir, Some(Arc::clone(&queue))).unwrap());
    mark(&*bench.door(), &SystemClock, &Owner::current("first"), &limits, "first").unwrap();

    let (done, reads) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let bytes = bench.get("registry.json").expect("the file was missing for a moment");
                Registry::parse(&bytes).expect("a torn read of the file");
                reads[0].fetch_add(1, Ordering::SeqCst);
                SystemClock.sleep(BETWEEN_READS);
            }
        });
        // A GET may be torn, and is read again.
        scope.spawn(|| {
            let door = apache.door(&bench.path());
            while !done.load(Ordering::SeqCst) {
                read::<Registry>(&door, &SystemClock, &limits, &Files::default()).expect("a whole registry");
                reads[1].fetch_add(1, Ordering::SeqCst);
                SystemClock.sleep(BETWEEN_READS);
            }
        });
        let (limits, bench, apache, file_door) = (&limits, &bench, &apache, &file_door);
        let write = move |door: Box<dyn Door>, name: String| {
            let owner = Owner::current(&name);
            for update in 0..updates {
                mark(&*door, &SystemClock, &owner, limits, &format!("{name}-{update}")).unwrap();
            }
        };
        let writers: Vec<_> = (0..writers)
            .flat_map(|n| {
                [
                    // A client of its own, as another laptop has.
                    scope.spawn(move || write(Box::new(apache.door(&bench.path())), format!("dav{n}"))),
                    scope.spawn(move || write(file_door(), format!("file{n}"))),
                ]
            })
            .collect();
        let results: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        results.into_iter().for_each(|result| result.expect("a writer failed"));
    });

    let registry = bench.registry();
    let of = |door: &'static str| {
        (0..writers).flat_map(move |n| (0..updates).map(move |update| format!("{door}{n}-{update}")))
    };
    let lost: Vec<String> = of("dav").chain(of("file")).filter(|name| !marked(&registry, name)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(reads.iter().all(|reads| reads.load(Ordering::SeqCst) > 0), "{reads:?}");
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn sixteen_writers_at_both_doors_lose_no_update() {
    contend(Setup::default(), WRITERS, UPDATES);
}

/// What excludes is the lease, not what the server makes of conditions.
#[test]
fn nor_do_they_where_the_server_ignores_conditions() {
    contend(Setup { ignores_conditions: true, ..Setup::default() }, WRITERS / 2, UPDATES / 4);
}
