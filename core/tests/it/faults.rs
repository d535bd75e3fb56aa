//! Faults at each call of an update, on a file system.

use forest_core::registry::{Clock, Door, Limits, Outcome, Owner, Restored, VirtualClock};
use jiff::Timestamp;

use crate::bench::{Bench, Plain, elsewhere, mark, marked};
use crate::every_call::{STARTS, every_call};
use crate::faulty::{Fault, Faulty as _, FaultyDoor};

/// A lease that was left behind is known for one after a minute, however often the share does not answer.
#[test]
fn a_stale_lease_is_taken_away_between_spells_without_an_answer() {
    for spell in [30, 60, 120] {
        let (bench, quiet) = (Plain::new(), || {});
        let (clock, limits) = (VirtualClock::new(Timestamp::now()), Limits::default());
        let door = bench.door();
        mark(&*door, &clock, &Owner::current("first"), &limits, "first").unwrap();
        door.mkdir(".registry.lease").unwrap();
        door.write_new(&format!(".registry.lease/{}", "0".repeat(32)), b"").unwrap();
        let faulty = FaultyDoor::new(bench.door(), spell, Fault::Spells, &quiet);
        mark(&faulty, &clock, &elsewhere("me"), &limits, "second")
            .unwrap_or_else(|err| panic!("{spell}: {err}"));
        assert!(faulty.op().is_some() && marked(&bench.registry(), "second"));
        assert!(clock.boottime() >= limits.stale);
    }
}

/// What is refused because somebody has the file open is done as soon as it is closed, under the same lease; what is
/// refused for longer is told, and what was acknowledged before is still to be had.
#[test]
fn a_file_that_is_open_is_replaced_once_it_is_closed() {
    for (refusals, done) in [(1, true), (5, true), (10_000, false)] {
        let (bench, quiet) = (Plain::new(), || {});
        let (clock, limits) = (VirtualClock::new(Timestamp::now()), Limits::default());
        mark(&*bench.door(), &clock, &Owner::current("first"), &limits, "first").unwrap();
        let faulty = FaultyDoor::new(bench.door(), usize::MAX, Fault::Occupied(refusals), &quiet);
        let begun = clock.boottime();
        let result = mark(&faulty, &clock, &Owner::current("me"), &limits, "second");
        assert_eq!(result.is_ok(), done, "{refusals}");
        assert!(clock.boottime() - begun < 2 * limits.hold, "{refusals}");
        if done {
            assert!(marked(&bench.registry(), "first") && marked(&bench.registry(), "second"));
        } else {
            mark(&*bench.door(), &clock, &Owner::current("third"), &limits, "third").unwrap();
            assert!(marked(&bench.registry(), "first") && marked(&bench.registry(), "third"));
        }
    }
}

/// A lease that could not be given back, since the share gave no answer, holds up others for a minute, but not
/// the process that left it: neither the update that starts over nor the next one.
#[test]
fn nobody_waits_for_a_lease_of_its_own() {
    let struck = (0..).take_while(|at| {
        let (bench, quiet) = (Plain::new(), || {});
        let (clock, limits) = (VirtualClock::new(Timestamp::now()), Limits::default());
        let door = bench.door();
        let faulty = FaultyDoor::new(bench.door(), *at, Fault::Outage(20), &quiet);
        for (name, door) in [("first", &faulty as &dyn Door), ("second", &*door)] {
            mark(door, &clock, &elsewhere("me"), &limits, name).unwrap_or_else(|err| panic!("{at}: {err}"));
            assert!(marked(&bench.registry(), name), "{at}");
        }
        assert!(clock.boottime() < limits.stale / 2, "at call {at}: {:?}", clock.boottime());
        faulty.struck()
    });
    assert!((10..100).contains(&struck.count()));
}

#[test]
fn one_fault_at_every_call_of_an_update() {
    std::thread::scope(|scope| {
        for start in STARTS {
            scope.spawn(move || every_call(&Plain::new, start));
            scope.spawn(move || every_call(&Plain::as_on_cifs, start));
        }
    });
}

/// A holder that died between the two renames, and whose lease is known for a dead one's, holds up nobody for the
/// registry that is missing; what it had written is there.
#[test]
fn a_registry_that_was_moved_aside_is_put_back_at_once() {
    let (clock, limits) = (VirtualClock::new(Timestamp::now()), Limits::default());
    let (bench, quiet) = (Plain::as_on_cifs(), || {});
    mark(&*bench.door(), &clock, &Owner::current("first"), &limits, "first").unwrap();
    for at in 0..200 {
        mark(&*bench.door(), &clock, &Owner::current("between"), &limits, &format!("between-{at}")).unwrap();
        let faulty = FaultyDoor::new(bench.door(), at, Fault::DeadBetween, &quiet);
        let _ = mark(&faulty, &clock, &elsewhere("dead"), &limits, &format!("dead-{at}"));
        if bench.get("registry.json").is_none() {
            let begun = clock.boottime();
            let outcome = mark(&*bench.door(), &clock, &elsewhere("next"), &limits, "next").unwrap();
            assert!(matches!(outcome, Outcome::Committed { restored: Some(Restored { quarantined: None }) }));
            assert!(clock.boottime() - begun < limits.stale / 2, "{:?}", clock.boottime() - begun);
            for name in ["first", &format!("dead-{at}"), "next"] {
                assert!(marked(&bench.registry(), name), "{name}");
            }
            return;
        }
    }
    panic!("no call moved it aside");
}

/// The answer to a commit is lost, and it has had its effect: that is a success.
#[test]
fn a_lost_answer_to_what_was_done_is_a_success() {
    let outcomes = (0..).map_while(|at| {
        let bench = Plain::new();
        let (clock, limits) = (VirtualClock::new(Timestamp::now()), Limits::default());
        let quiet = || {};
        let faulty = FaultyDoor::new(bench.door(), at, Fault::LostAfter, &quiet);
        let result = mark(&faulty as &dyn Door, &clock, &Owner::current("me"), &limits, "a");
        faulty.struck().then_some(result.is_ok())
    });
    let succeeded = outcomes.filter(|ok| *ok).count();
    // The move of the lease, both publications, and all of release and sweep.
    assert!(succeeded >= 7, "{succeeded}");
}
