//! Every call of an update fails once in every way, from several starting points. Whatever comes of it, the
//! registry parses at every moment, an update that returned `Ok` is there, and the next updater succeeds and
//! leaves nothing lying about.

use forest_core::registry::{Clock, Document, Limits, Op, Owner, Registry, VirtualClock};
use jiff::Timestamp;

use crate::bench::{Bench, elsewhere, gone, later, mark, marked};
use crate::faulty::{Fault, FaultyDoor, publishes};

/// What the directory holds before the update that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Nothing,
    Registry,
    /// The update finds what it wants.
    Unchanged,
    /// A lease was left by a process that died right after taking it.
    DeadLease,
    /// The same, dead between its copy's publication and the registry's.
    HalfCommitted,
    /// The same, dead between the two renames by which the registry is replaced on CIFS.
    HalfReplaced,
    /// A corrupt registry with a good copy.
    Corrupt,
}

pub(crate) const STARTS: [Start; 7] = [
    Start::Nothing,
    Start::Registry,
    Start::Unchanged,
    Start::DeadLease,
    Start::HalfCommitted,
    Start::HalfReplaced,
    Start::Corrupt,
];

fn prepare(bench: &impl Bench, clock: &dyn Clock, limits: &Limits, start: Start) {
    let door = bench.other();
    if start != Start::Nothing {
        mark(&*door, clock, &Owner::current("first"), limits, "first").unwrap();
    }
    match start {
        Start::Nothing | Start::Registry => {}
        Start::Unchanged => drop(mark(&*door, clock, &Owner::current("first"), limits, "second").unwrap()),
        Start::DeadLease => {
            die_once(bench, clock, limits, Fault::DeadBefore, || {
                bench.dir().join(".registry.lease").exists()
            });
        }
        Start::HalfReplaced => {
            die_once(bench, clock, limits, Fault::DeadBetween, || bench.get("registry.json").is_none());
        }
        Start::HalfCommitted => die_once(bench, clock, limits, Fault::DeadBefore, || {
            bench.get(".registry.last-good.json") != bench.get("registry.json")
        }),
        Start::Corrupt => bench.put("registry.json", b"{\"forests\": {\"gro"),
    }
}

/// Updaters die, each one call later than the one before, until the directory is in that state.
fn die_once(
    bench: &impl Bench,
    clock: &dyn Clock,
    limits: &Limits,
    fault: Fault,
    reached: impl Fn() -> bool,
) {
    let quiet = || {};
    for at in 0..200 {
        let faulty = FaultyDoor::new(bench.other(), at, fault, &quiet);
        if fault == Fault::DeadBetween {
            // The lease of the one that died before would shift the calls.
            mark(&*bench.other(), clock, &gone("between"), limits, &format!("between-{at}")).unwrap();
        }
        // What strikes no publication lets the update pass.
        let died = mark(&faulty, clock, &gone("dead"), limits, &format!("dead-{at}"));
        assert!(died.is_err() || fault == Fault::DeadBetween, "at call {at}");
        if reached() {
            return;
        }
    }
    panic!("no death led there");
}

/// One run: an update with one fault at call `at`, then one without. `false`: the update has fewer calls.
fn run<B: Bench>(new: &impl Fn() -> B, start: Start, fault: Fault, at: usize) -> bool {
    let bench = new();
    let (clock, limits) = (VirtualClock::new(Timestamp::now()), Limits::default());
    prepare(&bench, &clock, &limits, start);
    let what = format!("{start:?}, {fault:?} at call {at}");

    // Then the registry is put back before its copy is replaced: one of both is good at every moment.
    let restores = matches!(start, Start::Corrupt | Start::HalfReplaced);
    let watch = || {
        let Some(bytes) = bench.get("registry.json").filter(|_| !restores) else {
            return;
        };
        let registry = Registry::parse(&bytes).unwrap_or_else(|err| panic!("{what}: {err}"));
        let Some(copy) = bench.get(".registry.last-good.json") else {
            assert!(fault == Fault::DeadBetween, "{what}: no copy");
            return;
        };
        let copy = Registry::parse(&copy).expect("that parses");
        assert!(!marked(&registry, "second") || marked(&copy, "second"), "{what}: the copy is older");
    };
    let faulty = bench.faulty(at, fault, &watch);
    let owner = if at.is_multiple_of(2) { gone("faulty") } else { elsewhere("faulty") };
    let result = mark(faulty.door(), &clock, &owner, &limits, "second");
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

    drop(faulty);
    let door = bench.other();
    mark(&*door, &clock, &elsewhere("next"), &limits, "third")
        .unwrap_or_else(|err| panic!("{what}: next: {err}"));
    let registry = bench.registry();
    assert!(marked(&registry, "third"), "{what}");
    assert!(!acknowledged || marked(&registry, "second"), "{what}: lost");
    assert!(start == Start::Nothing || marked(&registry, "first"), "{what}: lost");
    let documented =
        [".registry.lease.", ".registry.gone.", ".registry.new.", ".registry.old.", "registry.json.corrupt-"];
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
        Fault::Torn
        | Fault::DeadBefore
        | Fault::DeadAfter
        | Fault::DeadBetween
        | Fault::Outage(_)
        | Fault::Spells
        | Fault::Occupied(_) => false,
    }
}

/// Every fault at every call.
pub(crate) fn every_call<B: Bench>(new: &impl Fn() -> B, start: Start) {
    for fault in Fault::ALL {
        let calls = (0..).take_while(|at| run(new, start, fault, *at)).count();
        assert!((10..200).contains(&calls), "{start:?}, {fault:?}: {calls} calls");
    }
}
