use jiff::Timestamp;

use super::*;
use crate::registry::clock::VirtualClock;
use crate::registry::document::join;
use crate::registry::fs::FsDoor;
use crate::registry::sweep::sweep;
use crate::registry::waiter::{TakeError, take};

struct Bench {
    dir: tempfile::TempDir,
    door: FsDoor,
    clock: VirtualClock,
    limits: Limits,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let door = FsDoor::open(dir.path(), None).unwrap();
        Self { dir, door, clock: VirtualClock::new(Timestamp::now()), limits: Limits::default() }
    }

    fn cx<'a>(&'a self, owner: &'a Owner) -> Context<'a> {
        let Self { door, clock, limits, .. } = self;
        Context { door, clock, owner, limits, deadline: clock.boottime() + limits.give_up }
    }

    fn names(&self, path: &str) -> Vec<String> {
        self.door.list(path).unwrap()
    }

    /// What a holder leaves that died with these of its files.
    fn leave(&self, names: &[&str]) {
        self.door.mkdir(LEASE).unwrap();
        for name in names {
            self.door.write_new(&join(LEASE, name), b"").unwrap();
        }
    }
}

fn elsewhere(label: &str) -> Owner {
    Owner { boot_id: label.to_owned(), ..Owner::current(label) }
}

fn taken<'a>(result: Result<Lease<'a>, TakeError>) -> Lease<'a> {
    result.unwrap_or_else(|err| panic!("the lease was not had: {err:?}"))
}

#[test]
fn taken_and_released_leaves_nothing() {
    let bench = Bench::new();
    let me = Owner::current("me");
    let lease = taken(take(bench.cx(&me)));
    assert!(lease.stands().unwrap());
    let mut names = bench.names(LEASE);
    names.sort();
    assert_eq!(names, ["", ".good", ".json"].map(|suffix| format!("{}{suffix}", lease.nonce)));
    lease.release();
    assert_eq!(bench.names(""), [""; 0]);
}

#[test]
fn a_waiter_gives_up_and_names_the_holder() {
    let mut bench = Bench::new();
    // A holder that takes the lease anew counts as alive; here it is one that stays within the stale limit.
    bench.limits.stale = bench.limits.give_up * 2;
    let (a, b) = (elsewhere("morpheus"), Owner::current("b"));
    let _lease = taken(take(bench.cx(&a)));
    let Err(TakeError::Held(Some(holder))) = take(bench.cx(&b)) else {
        panic!("the waiter must give up");
    };
    assert!(holder.to_string().starts_with("morpheus on "), "{holder}");
    assert!(holder.to_string().contains(&format!("(pid {}) since 20", std::process::id())), "{holder}");
    assert_eq!(bench.names(""), [LEASE]);
}

#[test]
fn a_stale_lease_is_taken_away_and_its_holder_is_fenced() {
    let bench = Bench::new();
    let (a, b) = (elsewhere("a"), elsewhere("b"));
    let slept = taken(take(bench.cx(&a)));
    let begun = bench.clock.boottime();
    let lease = taken(take(bench.cx(&b)));
    assert!(bench.clock.boottime() - begun >= bench.limits.stale);

    assert!(!slept.stands().unwrap());
    assert_eq!(bench.door.stage(&slept.json(), b"x").unwrap_err().kind, Kind::NotFound);
    slept.release();
    assert!(lease.stands().unwrap());
    assert_eq!(bench.names(LEASE).len(), 3);
    lease.release();
    assert_eq!(bench.names(""), [""; 0]);
}

#[test]
fn a_lease_of_a_process_that_is_gone_is_taken_at_once() {
    let bench = Bench::new();
    let me = Owner::current("me");
    let gone = Owner { pid_start: me.pid_start + 1, ..me.clone() };
    let _dead = taken(take(bench.cx(&gone)));
    let lease = taken(take(bench.cx(&me)));
    assert!(bench.clock.boottime() < Duration::from_secs(1));
    lease.release();
    assert_eq!(bench.names(""), [""; 0]);
}

#[test]
fn a_lease_without_its_nonce_is_free() {
    let nonce = new_nonce();
    let json = format!("{nonce}.json");
    for left in [&[][..], &[json.as_str()], &["stray", json.as_str()]] {
        let bench = Bench::new();
        bench.leave(left);
        let me = Owner::current("me");
        taken(take(bench.cx(&me))).release();
        assert!(bench.clock.boottime() < Duration::from_secs(1));
        assert_eq!(bench.names(""), [""; 0]);
    }
}

#[test]
fn a_directory_in_the_lease_hinders_nobody_and_is_swept() {
    let bench = Bench::new();
    bench.leave(&["stray.json"]);
    bench.door.mkdir(&join(LEASE, "dir")).unwrap();
    bench.door.write_new(&join(LEASE, "dir/file"), b"").unwrap();
    let me = Owner::current("me");
    taken(take(bench.cx(&me))).release();
    let names = bench.names("");
    assert!(matches!(&names[..], [one] if one.starts_with(GONE)), "{names:?}");

    bench.door.mkdir(&format!("{GONE}a")).unwrap();
    bench.door.write_new(&format!("{PREPARED}b"), b"").unwrap();
    sweep(&bench.cx(&me));
    assert_eq!(bench.names("").len(), 3, "too young");
    // Files bear the real time, which goes on.
    bench.clock.advance(bench.limits.stranded * 2);
    sweep(&bench.cx(&me));
    assert_eq!(bench.names(""), [""; 0]);
}

#[test]
fn a_record_that_cannot_be_read_is_held_until_it_is_stale() {
    let bench = Bench::new();
    bench.leave(&[&new_nonce()]);
    let me = Owner::current("me");
    taken(take(bench.cx(&me))).release();
    assert!(bench.clock.boottime() >= bench.limits.stale);
    assert_eq!(bench.names(""), [""; 0]);
}

#[test]
fn a_holder_beyond_its_time_no_longer_stands() {
    let bench = Bench::new();
    let me = Owner::current("me");
    let lease = taken(take(bench.cx(&me)));
    bench.clock.advance(bench.limits.hold);
    assert!(!lease.stands().unwrap());
    lease.release();
    assert!(std::fs::read_dir(bench.dir.path()).unwrap().next().is_none());
}

#[test]
fn the_record_survives_its_json() {
    let record = Record { owner: Owner::current("me"), since: "2026-11-22T20:16:55Z".to_owned() };
    let text = serde_json::to_string(&record).unwrap();
    assert!(text.starts_with(r#"{"owner":"me","host":"#), "{text}");
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
}
