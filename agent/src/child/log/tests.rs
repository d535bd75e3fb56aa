//! The follower on real files, looked at by hand.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Arc, Mutex};

use super::*;

/// A log in a directory of its own, and a child's hand on it.
struct Given {
    dir: tempfile::TempDir,
    limits: LogLimits,
    shown: Arc<Mutex<Vec<String>>>,
}

impl Given {
    fn new(change: impl FnOnce(&mut LogLimits)) -> Self {
        let mut limits = LogLimits::default();
        change(&mut limits);
        Self { dir: tempfile::tempdir().unwrap(), limits, shown: Arc::default() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("engine.log")
    }

    fn follower(&self) -> (Follower, watch::Receiver<LogState>) {
        let (sender, state) = watch::channel(LogState::default());
        let shown = Arc::clone(&self.shown);
        let sink: Sink = Box::new(move |line| shown.lock().unwrap().push(line.to_owned()));
        let file = LogFile::open(&self.path()).unwrap();
        let mut follower = Follower::new(file, self.limits.clone(), sink, sender);
        follower.refill_tail().unwrap();
        (follower, state)
    }

    fn child(&self) -> std::fs::File {
        OpenOptions::new().append(true).create(true).open(self.path()).unwrap()
    }

    fn shown(&self) -> Vec<String> {
        std::mem::take(&mut self.shown.lock().unwrap())
    }

    fn on_disk(&self) -> u64 {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }
}

#[test]
fn the_next_follower_goes_on_where_the_last_one_stopped() {
    let given = Given::new(|limits| limits.tail_lines = 2);
    let (mut follower, state) = given.follower();
    let mut child = given.child();
    write!(child, "one\ntwo\nthr").unwrap();
    follower.look().unwrap();
    assert_eq!(given.shown(), ["one", "two"]);
    assert_eq!(state.borrow().tail, ["one", "two"]);
    follower.keep().unwrap();
    drop(follower);

    write!(child, "ee\nfour\n").unwrap();
    let (mut follower, state) = given.follower();
    follower.look().unwrap();
    assert_eq!(given.shown(), ["three", "four"]);
    assert_eq!(state.borrow().tail, ["three", "four"]);
    follower.keep().unwrap();

    let (mut follower, state) = given.follower();
    follower.look().unwrap();
    assert_eq!(given.shown(), [""; 0]);
    assert_eq!(state.borrow().tail, ["three", "four"], "refilled from the file");
}

#[test]
fn a_log_without_a_kept_place_is_followed_from_its_end() {
    let given = Given::new(|_| ());
    writeln!(given.child(), "old").unwrap();
    let (mut follower, state) = given.follower();
    follower.look().unwrap();
    assert_eq!(given.shown(), [""; 0]);
    assert_eq!(state.borrow().tail, ["old"]);
}

#[test]
fn an_unfinished_last_line_counts_once_the_child_is_gone() {
    let given = Given::new(|_| ());
    let (mut follower, state) = given.follower();
    write!(given.child(), "panic: \x1b[1mbad\x1b[0m").unwrap();
    follower.look().unwrap();
    assert_eq!(state.borrow().tail, [""; 0]);
    follower.end_of_child().unwrap();
    assert_eq!(state.borrow().tail, ["panic: \\u{1b}[1mbad\\u{1b}[0m"]);
}

#[test]
fn a_full_file_is_set_aside_under_the_childs_hand_and_no_line_is_lost() {
    let given = Given::new(|limits| {
        limits.file_bytes = 1000;
        limits.lines_per_second = 10_000;
    });
    let (mut follower, _state) = given.follower();
    let mut child = given.child();
    for n in 0..1000 {
        writeln!(child, "line {n:04}").unwrap();
        if n % 7 == 0 {
            follower.look().unwrap();
        }
    }
    follower.look().unwrap();
    let expected: Vec<_> = (0..1000).map(|n| format!("line {n:04}")).collect();
    assert_eq!(given.shown(), expected);
    assert!(given.on_disk() < 4 * 1250, "{}", given.on_disk());
    let old = std::fs::read_to_string(given.dir.path().join("engine.log.2")).unwrap();
    assert!(old.starts_with("line ") && old.ends_with('\n'), "{old}");
}

#[test]
fn a_flood_is_told_and_neither_shown_nor_kept_whole() {
    let given = Given::new(|limits| {
        limits.file_bytes = 100_000;
        limits.unread_max = 200_000;
        limits.flood_bytes = 100_000;
    });
    let (mut follower, state) = given.follower();
    let mut child = given.child();
    let chunk = b"y\n".repeat(500_000);
    for _ in 0..20 {
        child.write_all(&chunk).unwrap();
        assert!(follower.look().unwrap());
        assert!(given.on_disk() <= 4 * 125_000, "{}", given.on_disk());
    }
    assert!(state.borrow().flood);
    assert_eq!(state.borrow().tail.len(), 20);
    let shown = given.shown();
    assert!(shown.iter().filter(|line| *line == "y").count() < 20 * 500_000 / 100);
}

#[test]
fn a_line_without_end_is_cut_and_memory_bounded() {
    let given = Given::new(|_| ());
    let (mut follower, state) = given.follower();
    let mut child = given.child();
    child.write_all(&[b'x'; 1 << 20]).unwrap();
    follower.look().unwrap();
    writeln!(child, "\nnext").unwrap();
    follower.look().unwrap();
    let lengths: Vec<_> = given.shown().iter().map(String::len).collect();
    assert_eq!(lengths, [4096, 4]);
    assert_eq!(state.borrow().tail[0].len(), 400);
}

#[test]
fn a_file_cut_or_replaced_by_someone_else_is_followed_on() {
    let given = Given::new(|_| ());
    let (mut follower, _state) = given.follower();
    let mut child = given.child();
    writeln!(child, "a long first line").unwrap();
    follower.look().unwrap();
    child.set_len(0).unwrap();
    writeln!(child, "cut").unwrap();
    follower.look().unwrap();
    std::fs::remove_file(given.path()).unwrap();
    writeln!(child, "still the deleted file").unwrap();
    follower.look().unwrap();
    writeln!(given.child(), "another").unwrap();
    follower.look().unwrap();
    follower.look().unwrap();
    let expected = ["a long first line", "cut", "still the deleted file", "another"];
    assert_eq!(given.shown(), expected);
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_yet_is_followed_once_it_can_be() {
    let given = Given::new(|limits| limits.poll = Duration::from_millis(5));
    let dir = given.dir.path().join("later");
    std::fs::write(&dir, "in the way").unwrap();
    let log = Log::follow(dir.join("engine.log"), given.limits.clone(), to_tracing("engine")).unwrap();
    log.child_ended().await;
    std::fs::remove_file(&dir).unwrap();
    log.followed().await;
    // It makes the directory, too.
    let opened = || OpenOptions::new().append(true).open(dir.join("engine.log")).ok();
    let mut child = loop {
        if let Some(child) = opened() {
            break child;
        }
        log.followed().await;
    };
    log.followed().await;
    let mut state = log.state();
    writeln!(child, "here").unwrap();
    let seen = state.wait_for(|state| state.tail == ["here"]);
    tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap().unwrap();
    log.close().await;
    assert!(dir.join("engine.position").exists());
}
