//! Every call of an update fails once in every way, from several starting points. Whatever comes of it, the
//! registry parses at every moment, an update that returned `Ok` is there, and the next updater succeeds and
//! leaves nothing lying about.

use forest_core::registry::{Clock, Document, Door, Limits, Op, Owner, Registry, VirtualClock};
use jiff::Timestamp;

use crate::bench::{Bench, Plain, elsewhere, gone, later, mark, marked};
use crate::faulty::{Fault, FaultyDoor, publishes};

/// What the directory holds before the update that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Nothing,
    Registry,
    /// The update finds what it wants.
    Unchanged,
    /// A lease was left by a process that died right after taking it.
    DeadLease,
    /// The same, dead between its copy's publication and the registry's.
    HalfCommitted,
    /// A corrupt registry with a good copy.
    Corrupt,
}

const STARTS: [Start; 6] = [
    Start::Nothing,
    Start::Registry,
    Start::Unchanged,
    Start::DeadLease,
    Start::HalfCommitted,
    Start::Corrupt,
];

fn prepare(bench: &impl Bench, clock: &dyn Clock, limits: &Limits, start: Start) {
    let door = bench.door();
    if start != Start::Nothing {
        mark(&*door, clock, &Owner::current("first"), limits, "first").unwrap();
    }
    match start {
        Start::Nothing | Start::Registry => {}
        Start::Unchanged => drop(mark(&*door, clock, &Owner::current("first"), limits, "second").unwrap()),
        Start::DeadLease => die_once(bench, clock, limits, || bench.dir().join(".registry.lease").exists()),
        Start::HalfCommitted => die_once(bench, clock, limits, || {
            bench.get(".registry.last-good.json") != bench.get("registry.json")
        }),
        Start::Corrupt => bench.put("registry.json", b"{\"forests\": {\"gro"),
    }
}

/// Updaters die, each one call later than the one before, until the directory is in that state.
fn die_once(bench: &impl Bench, clock: &dyn Clock, limits: &Limits, reached: impl Fn() -> bool) {
    let (door, quiet) = (bench.door(), || {});
    for at in 0.. {
        let faulty = FaultyDoor::new(&*door, at, Fault::DeadBefore, &quiet);
        mark(&faulty, clock, &gone("dead"), limits, &format!("dead-{at}")).unwrap_err();
        if reached() {
            return;
        }
    }
}

/// One run: an update with one fault at call `at`, then one without. `false`: the update has fewer calls.
fn run<B: Bench>(start: Start, fault: Fault, at: usize) -> bool {
    let bench = B::new();
    let (clock, limits) = (VirtualClock::new(Timestamp::now()), Limits::default());
    prepare(&bench, &clock, &limits, start);
    let what = format!("{start:?}, {fault:?} at call {at}");

    let watch = || {
        let Some(bytes) = bench.get("registry.json").filter(|_| start != Start::Corrupt) else {
            return;
        };
        let registry = Registry::parse(&bytes).unwrap_or_else(|err| panic!("{what}: {err}"));
        let copy =
            Registry::parse(&bench.get(".registry.last-good.json").expect("a copy")).expect("that parses");
        assert!(!marked(&registry, "second") || marked(&copy, "second"), "{what}: the copy is older");
    };
    let door = bench.door();
    let faulty = FaultyDoor::new(&*door, at, fault, &watch);
    let owner = if at.is_multiple_of(2) { gone("faulty") } else { elsewhere("faulty") };
    let result = mark(&faulty, &clock, &owner, &limits, "second");
    if !faulty.struck() {
        result.unwrap_or_else(|err| panic!("{what}: {err}"));
        return false;
    }
    let acknowledged = result.is_ok();
    let op = faulty.op().expect("a chosen call");
    assert!(acknowledged || !passes(fault, op), "{what}: {op:?} failed in passing, and so did {result:?}");
    if acknowledged {
        assert!(marked(&bench.registry(), "second"), "{what}: acknowledged and not there");
    }

    mark(&*door, &clock, &elsewhere("next"), &limits, "third")
        .unwrap_or_else(|err| panic!("{what}: next: {err}"));
    let registry = bench.registry();
    assert!(marked(&registry, "third"), "{what}");
    assert!(!acknowledged || marked(&registry, "second"), "{what}: lost");
    assert!(start == Start::Nothing || marked(&registry, "first"), "{what}: lost");
    let documented = [".registry.lease.", ".registry.gone.", ".registry.new.", "registry.json.corrupt-"];
    for name in bench.leftovers() {
        assert!(documented.iter().any(|prefix| name.starts_with(prefix)), "{what}: {name} was left");
    }

    clock.advance(later(&limits));
    mark(&*door, &clock, &elsewhere("sweeper"), &limits, "fourth")
        .unwrap_or_else(|err| panic!("{what}: {err}"));
    assert_eq!(bench.leftovers(), bench.corrupt_copies(), "{what}: not swept");
    assert_eq!(bench.corrupt_copies().len(), usize::from(start == Start::Corrupt), "{what}");
    true
}

/// Must an update outlast it? An answer that is lost ends none before it publishes, nor does a read that fails.
fn passes(fault: Fault, op: Op) -> bool {
    match fault {
        Fault::LostBefore | Fault::LostAfter => !publishes(op),
        Fault::Refused => op == Op::Read,
        // A copy whose read was torn is a bad one, and the update refused.
        Fault::Torn | Fault::DeadBefore | Fault::DeadAfter | Fault::Outage(_) | Fault::Spells => false,
    }
}

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
        let faulty = FaultyDoor::new(&*door, spell, Fault::Spells, &quiet);
        mark(&faulty, &clock, &elsewhere("me"), &limits, "second")
            .unwrap_or_else(|err| panic!("{spell}: {err}"));
        assert!(faulty.op().is_some() && marked(&bench.registry(), "second"));
        assert!(clock.boottime() >= limits.stale);
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
        let faulty = FaultyDoor::new(&*door, *at, Fault::Outage(20), &quiet);
        for (name, door) in [("first", &faulty as &dyn Door), ("second", &*door)] {
            mark(door, &clock, &elsewhere("me"), &limits, name).unwrap_or_else(|err| panic!("{at}: {err}"));
            assert!(marked(&bench.registry(), name), "{at}");
        }
        assert!(clock.boottime() < limits.stale / 2, "at call {at}: {:?}", clock.boottime());
        faulty.struck()
    });
    assert!((10..100).contains(&struck.count()));
}

/// Every fault at every call.
fn every_call<B: Bench>(start: Start) {
    for fault in Fault::ALL {
        let calls = (0..).take_while(|at| run::<B>(start, fault, *at)).count();
        assert!((10..200).contains(&calls), "{start:?}, {fault:?}: {calls} calls");
    }
}

#[test]
fn one_fault_at_every_call_of_an_update() {
    std::thread::scope(|scope| {
        for start in STARTS {
            scope.spawn(move || every_call::<Plain>(start));
        }
    });
}

/// The answer to a commit is lost, and it has had its effect: that is a success.
#[test]
fn a_lost_answer_to_what_was_done_is_a_success() {
    let outcomes = (0..).map_while(|at| {
        let bench = Plain::new();
        let (clock, limits) = (VirtualClock::new(Timestamp::now()), Limits::default());
        let (door, quiet) = (bench.door(), || {});
        let faulty = FaultyDoor::new(&*door, at, Fault::LostAfter, &quiet);
        let result = mark(&faulty as &dyn Door, &clock, &Owner::current("me"), &limits, "a");
        faulty.struck().then_some(result.is_ok())
    });
    let succeeded = outcomes.filter(|ok| *ok).count();
    // The move of the lease, both publications, and all of release and sweep.
    assert!(succeeded >= 7, "{succeeded}");
}
