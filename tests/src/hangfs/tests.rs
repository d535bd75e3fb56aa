use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::*;

/// Only a hang takes this long.
const LONG: Duration = Duration::from_secs(60);

struct Given {
    fs: HangFs,
    dir: tempfile::TempDir,
}

impl Given {
    fn a_mirror() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("back")).unwrap();
        fs::create_dir(dir.path().join("front")).unwrap();
        let fs = HangFs::mount(&dir.path().join("back"), &dir.path().join("front")).unwrap();
        Self { fs, dir }
    }

    fn front(&self, name: &str) -> PathBuf {
        self.fs.path().join(name)
    }

    fn back(&self, name: &str) -> PathBuf {
        self.dir.path().join("back").join(name)
    }
}

/// Runs `job` in a thread of that name, and returns once it waits for the file system.
fn hanging<T: Send + 'static>(name: &str, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(job).unwrap();
    let begun = Instant::now();
    while !waits("/proc/self/task", name) {
        assert!(begun.elapsed() < LONG, "no request came");
        thread::yield_now();
    }
    thread
}

/// Does a thread named `name`, one of those below `tasks`, wait for an answer from FUSE?
fn waits(tasks: &str, name: &str) -> bool {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    fs::read_dir(tasks).unwrap().flatten().any(|task| {
        read(task.path().join("comm")).trim_end() == name
            && read(task.path().join("wchan")) == "request_wait_answer"
    })
}

#[test]
fn files_go_round() {
    let given = Given::a_mirror();
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut file = File::create_new(given.front("a")).unwrap();
    file.write_all(&content).unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(fs::read(given.front("a")).unwrap(), content);
    assert_eq!(fs::read(given.back("a")).unwrap(), content);

    let mut file = OpenOptions::new().append(true).open(given.front("a")).unwrap();
    file.write_all(b"more").unwrap();
    file.set_len(10).unwrap();
    assert_eq!(fs::metadata(given.front("a")).unwrap().size(), 10);
    fs::write(given.front("a"), "anew").unwrap();
    assert_eq!(fs::read(given.back("a")).unwrap(), b"anew");
    fs::write(given.back("a"), "behind").unwrap();
    assert_eq!(fs::read(given.front("a")).unwrap(), b"behind");
    assert_eq!(File::create_new(given.front("a")).unwrap_err().raw_os_error(), Some(17));
    fs::remove_file(given.front("a")).unwrap();
    assert!(!given.back("a").exists() && !given.front("a").exists());
}

#[test]
fn directories_and_renames_go_round() {
    let given = Given::a_mirror();
    fs::create_dir(given.front("d")).unwrap();
    for n in 0..500 {
        fs::write(given.front(&format!("d/file-{n}")), "x").unwrap();
    }
    assert_eq!(fs::read_dir(given.front("d")).unwrap().count(), 500);
    File::open(given.front("d")).unwrap().sync_all().unwrap();

    fs::write(given.front("b"), "b").unwrap();
    fs::rename(given.front("d/file-0"), given.front("b")).unwrap();
    assert_eq!(fs::read(given.back("b")).unwrap(), b"x");
    let refused = renameat_with(CWD, given.front("b"), CWD, given.front("d/file-1"), RenameFlags::NOREPLACE);
    assert_eq!(refused.unwrap_err(), Errno::EXIST);
    renameat_with(CWD, given.front("b"), CWD, given.front("c"), RenameFlags::NOREPLACE).unwrap();
    let refused = fs::remove_dir(given.front("d")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::NOTEMPTY.raw_os_error()));
    fs::rename(given.front("d"), given.front("e")).unwrap();
    fs::remove_dir_all(given.front("e")).unwrap();
    assert_eq!(fs::read_dir(given.back("")).unwrap().count(), 1);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whether the file system locks is what is tested")]
fn flock_excludes() {
    let given = Given::a_mirror();
    let open = || File::options().create(true).truncate(false).write(true).open(given.front("lock")).unwrap();
    let (first, second) = (open(), open());
    rustix::fs::flock(&first, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let refused = rustix::fs::flock(&second, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    assert_eq!(refused.unwrap_err(), Errno::WOULDBLOCK);
    drop(first);
    // A child that another test is just starting has a copy of the first's descriptor until its exec.
    let begun = Instant::now();
    while let Err(err) = rustix::fs::flock(&second, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        assert!(err == Errno::WOULDBLOCK && begun.elapsed() < LONG, "{err}");
        thread::yield_now();
    }
}

#[test]
fn a_read_hangs_until_resumed_also_in_an_open_file() {
    let given = Given::a_mirror();
    fs::write(given.front("a"), "content").unwrap();
    let mut open = File::open(given.front("a")).unwrap();
    let path = given.front("a");
    given.fs.hang();
    given.fs.hang();
    let by_path = hanging("by-path", move || fs::read_to_string(path));
    let by_file = hanging("by-file", move || {
        let mut text = String::new();
        open.read_to_string(&mut text).map(|_| text)
    });
    assert!(!by_path.is_finished() && !by_file.is_finished());
    given.fs.resume();
    assert_eq!(by_path.join().unwrap().unwrap(), "content");
    assert_eq!(by_file.join().unwrap().unwrap(), "content");
    given.fs.hang();
    given.fs.resume();
    assert_eq!(fs::read(given.front("a")).unwrap(), b"content");
}

#[test]
fn whoever_waits_can_be_killed() {
    let given = Given::a_mirror();
    given.fs.hang();
    let mut child = Command::new("ls").arg(given.fs.path()).spawn().unwrap();
    let begun = Instant::now();
    while !waits(&format!("/proc/{}/task", child.id()), "ls") {
        assert!(begun.elapsed() < LONG, "no request came");
        thread::yield_now();
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn a_dead_share_answers_every_request_with_its_errno() {
    let given = Given::a_mirror();
    fs::write(given.front("a"), "content").unwrap();
    let mut open = File::open(given.front("a")).unwrap();
    given.fs.fail_with(Errno::HOSTDOWN.raw_os_error());
    let dead = Some(Errno::HOSTDOWN.raw_os_error());
    assert_eq!(fs::read(given.front("a")).unwrap_err().raw_os_error(), dead);
    assert_eq!(open.read(&mut [0; 4]).unwrap_err().raw_os_error(), dead);
    assert_eq!(fs::write(given.front("b"), "b").unwrap_err().raw_os_error(), dead);
    assert_eq!(rustix::fs::statfs(given.fs.path()).unwrap_err(), Errno::HOSTDOWN);
    assert_eq!(fs::read_dir(given.fs.path()).unwrap_err().raw_os_error(), dead);
    given.fs.fail_with(Errno::IO.raw_os_error());
    assert_eq!(fs::read(given.front("a")).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
    given.fs.resume();
    assert_eq!(fs::read(given.front("a")).unwrap(), b"content");
}

#[test]
fn dropped_while_it_hangs_it_lets_go_and_is_unmounted() {
    let given = Given::a_mirror();
    fs::write(given.front("a"), "content").unwrap();
    let path = given.front("a");
    let _open = File::open(&path).unwrap();
    given.fs.hang();
    let reader = hanging("reader", move || fs::read(path).map_err(|err| err.raw_os_error()));
    let Given { fs: mounted, dir } = given;
    drop(mounted);
    assert_eq!(reader.join().unwrap(), Err(Some(Errno::IO.raw_os_error())));
    assert_eq!(fs::read_dir(dir.path().join("front")).unwrap().count(), 0, "the bare mountpoint");
    dir.close().unwrap();
}
