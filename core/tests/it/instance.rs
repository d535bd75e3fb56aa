//! The lock of the one agent of a state directory, handed to another program as it is in an exec.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use forest_core::registry::{Clock, InstanceError, InstanceLock, SystemClock};

const LOCK: &str = "FOREST_TEST_INSTANCE_LOCK";

#[test]
fn it_travels_as_standard_input_and_no_child_has_it() {
    if let Some(path) = env::var_os(LOCK) {
        return heir(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.lock");
    let lock = InstanceLock::acquire(&path).unwrap();
    assert!(InstanceLock::from_inherited(&path).unwrap().is_none());

    let mut heir = Command::new(env::current_exe().unwrap());
    heir.args(["--exact", "instance::it_travels_as_standard_input_and_no_child_has_it"]);
    heir.env(LOCK, &path).stdin(lock.hand_over().unwrap()).stdout(Stdio::null());
    let mut child = heir.spawn().unwrap();
    drop((heir, lock));
    assert!(child.wait().unwrap().success());
    assert!(is_let_go(&path));
}

/// The program after the exec.
fn heir(path: &Path) {
    let lock = InstanceLock::from_inherited(path).unwrap().expect("standard input is the lock");
    let held = InstanceLock::acquire(path).unwrap_err();
    assert!(
        matches!(held, InstanceError::Held { pid: Some(pid), .. } if pid == std::process::id()),
        "{held}"
    );
    assert!(InstanceLock::from_inherited(path).unwrap().is_none(), "standard input is /dev/null again");

    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    drop(lock);
    // The parent lets its own descriptor go about now.
    let free = is_let_go(path);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(free, "a spawned child has the lock");
}

/// Waits for it: a child that another test is just starting has a copy of every descriptor until its exec. The
/// bound only ends a hang.
fn is_let_go(path: &Path) -> bool {
    (0..6000).any(|_| {
        let free = InstanceLock::acquire(path).is_ok();
        if !free {
            SystemClock.sleep(Duration::from_millis(10));
        }
        free
    })
}
