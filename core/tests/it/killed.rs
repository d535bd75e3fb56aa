//! Updaters killed with SIGKILL at any instruction: what they acknowledged is there, and no lease is stuck.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use forest_core::registry::{Clock as _, FsDoor, Limits, Owner, Queue, SystemClock};

use crate::bench::{Bench, Plain, mark, marked};

const DIR: &str = "FOREST_TEST_KILLED_DIR";
const UPDATERS: usize = 4;
const KILLS: usize = 25;

#[test]
fn what_was_acknowledged_outlives_kill_9() {
    if let Some(dir) = env::var_os(DIR) {
        updater(Path::new(&dir));
    }
    let bench = Plain::on_disk();
    let acknowledged = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..UPDATERS {
            scope.spawn(|| {
                for _ in 0..KILLS {
                    acknowledged.lock().unwrap().extend(one_life(&bench.dir()));
                }
            });
        }
    });
    // The last ones' lease, if one stands, is that of a dead process: nobody waits for it to become stale.
    let (door, me, begun) = (bench.door(), Owner::current("last"), SystemClock.boottime());
    mark(&*door, &SystemClock, &me, &Limits::default(), "last").unwrap();
    assert!(SystemClock.boottime() - begun < Limits::default().stale, "the lease was stuck");

    let (registry, acknowledged) = (bench.registry(), acknowledged.into_inner().unwrap());
    assert!(acknowledged.len() > KILLS, "{} updates were acknowledged", acknowledged.len());
    let lost: Vec<_> = acknowledged.iter().filter(|name| !marked(&registry, name)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(!bench.dir().join(".registry.lease").exists());
}

/// Starts an updater, kills it a few updates later, and returns what it acknowledged.
fn one_life(dir: &Path) -> Vec<String> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "killed::what_was_acknowledged_outlives_kill_9", "--nocapture"])
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    // A line that was cut short by the death has no end mark.
    let ack = |line: String| Some(line.strip_prefix("ack ")?.strip_suffix(" end")?.to_owned());
    let mut acks = output.lines().map_while(Result::ok).filter_map(ack);
    let mut names: Vec<String> = acks.by_ref().take(rand::random_range(0..5)).collect();
    // Anywhere in the next update.
    SystemClock.sleep(Duration::from_micros(rand::random_range(0..20_000)));
    end(&mut child);
    names.extend(acks);
    names
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    // One that failed by itself was not killed, and proves nothing.
    assert_eq!(child.wait().unwrap().signal(), Some(9), "the updater ended by itself");
}

/// Updates until it is killed.
fn updater(dir: &Path) -> ! {
    let door = FsDoor::open(dir, Some(Arc::new(Queue::new(dir.join("queue.lock"))))).unwrap();
    let (owner, mut output) = (Owner::current("updater"), std::io::stdout());
    for number in 0.. {
        let name = format!("p{}-{}-{number}", owner.pid, owner.pid_start);
        mark(&door, &SystemClock, &owner, &Limits::default(), &name).unwrap();
        // Fails, and so ends this process, once nobody reads it any more.
        writeln!(output, "ack {name} end").unwrap();
    }
    unreachable!("the numbers do not end")
}
