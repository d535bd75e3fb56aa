//! Many updaters of one directory, with the system's clock and real locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use forest_core::registry::{Document, Files, Limits, Owner, Queue, Registry, SystemClock, read};

use crate::bench::{Bench, Plain, mark, marked};

const THREADS: usize = 16;
const UPDATES: usize = 20;

/// All threads, while a reader polls the file. `queued`: through the queue, else at the lease alone.
fn contend(bench: &Plain, queued: bool, updates: usize) {
    let queue = || queued.then(|| Arc::new(Queue::new(bench.dir().join("queue.lock"))));
    // Time for the slowest disk: the limit is a hang detector here.
    let limits = Limits {
        give_up: std::time::Duration::from_secs(600),
        queue_wait: std::time::Duration::from_secs(600),
        ..Limits::default()
    };
    let door = || bench.queued(queue());
    mark(&door(), &SystemClock, &Owner::current("first"), &limits, "first").unwrap();

    let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                match bench.get("registry.json") {
                    Some(bytes) => drop(Registry::parse(&bytes).expect("a torn read")),
                    None => assert!(bench.1, "the file was missing for a moment"),
                }
                read::<Registry>(&bench.queued(None), &SystemClock, &limits, &Files::default())
                    .expect("a registry");
                reads.fetch_add(1, Ordering::SeqCst);
            }
        });
        let (limits, door) = (&limits, &door);
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let (door, owner) = (door(), Owner::current(&format!("writer {thread}")));
                    for update in 0..updates {
                        mark(&door, &SystemClock, &owner, limits, &format!("n{thread}-{update}")).unwrap();
                    }
                })
            })
            .collect();
        let results: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        results.into_iter().for_each(|result| result.expect("a writer failed"));
    });

    let registry = bench.registry();
    let all = (0..THREADS).flat_map(|thread| (0..updates).map(move |update| format!("n{thread}-{update}")));
    let lost: Vec<String> = all.filter(|name| !marked(&registry, name)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(reads.load(Ordering::SeqCst) > 0);
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn sixteen_threads_lose_no_update() {
    contend(&Plain::on_disk(), true, UPDATES);
}

/// The name is free for a moment then; readers of ours do not notice.
#[test]
fn nor_do_they_where_files_are_replaced_in_two_steps() {
    contend(&Plain::as_on_cifs(), true, UPDATES);
}

#[test]
fn nor_do_they_at_the_lease_alone() {
    contend(&Plain::on_disk(), false, UPDATES / 5);
}
