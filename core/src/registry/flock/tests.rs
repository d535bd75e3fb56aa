use jiff::Timestamp;

use super::*;
use crate::registry::clock::VirtualClock;

fn opener(path: PathBuf) -> impl FnOnce() -> io::Result<File> {
    move || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// The lock once its holder has let it go: a child that another test is just starting has a copy of the holder's
/// descriptor until its exec.
fn acquired(path: &Path) -> InstanceLock {
    for _ in 0..60_000 {
        match InstanceLock::acquire(path) {
            Err(InstanceError::Held { .. }) => SystemClock.sleep(Duration::from_millis(1)),
            taken => return taken.unwrap(),
        }
    }
    panic!("{} is not let go", path.display());
}

#[test]
fn a_second_agent_learns_the_firsts_pid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.lock");
    let first = InstanceLock::acquire(&path).unwrap();
    let err = InstanceLock::acquire(&path).unwrap_err();
    assert!(matches!(err, InstanceError::Held { pid: Some(pid), .. } if pid == std::process::id()), "{err}");
    drop(first);
    acquired(&path);
}

#[test]
fn a_holder_that_died_while_it_started_a_child_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.lock");
    let mut held = InstanceLock::acquire(&path).unwrap();
    sign(&mut held.file, &format!("{}\n", i32::MAX));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            SystemClock.sleep(Duration::from_millis(50));
            drop(held);
        });
        InstanceLock::acquire(&path).unwrap();
    });
}

#[test]
fn a_copy_that_was_handed_over_keeps_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.lock");
    let first = InstanceLock::acquire(&path).unwrap();
    let copy = same_file(&first.file, &path).unwrap().expect("the same file");
    drop(first);
    InstanceLock::acquire(&path).unwrap_err();
    let again = InstanceLock::lock(copy, &path).unwrap();
    assert!(same_file(File::open("/dev/null").unwrap(), &path).unwrap().is_none());
    drop(again);
    acquired(&path);
}

#[test]
fn a_queue_that_is_held_too_long_is_left_out_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let (local, share) = (dir.path().join("local"), dir.path().join("share"));
    let (clock, limits) = (VirtualClock::new(Timestamp::UNIX_EPOCH), Limits::default());
    let queue = Queue::new(local.clone());
    let stand = |queue: &Queue| queue.stand(opener(share.clone()), &clock, &limits, "me");

    let turn = stand(&Queue::new(local)).expect("a free queue");
    assert!(stand(&queue).is_none());
    assert!(clock.boottime() >= limits.queue_wait);
    drop(turn);
    assert!(stand(&queue).is_none(), "left out");
    clock.advance(limits.queue_out);
    assert!(stand(&queue).is_some(), "back in");
}
