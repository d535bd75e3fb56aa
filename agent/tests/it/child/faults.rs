//! Children that fail, hang, flood and leave things behind.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use forest_agent::child::{ChildPhase, ChildStatus, SpawnErrorKind, Want};

use super::kit::{LIVES, Place, alive, eventually, put_program, running, wait_for};

fn stop() -> Want {
    Want::Stop { reason: "a test".to_owned() }
}

fn said(status: &ChildStatus, line: &str) -> bool {
    status.log_tail.iter().any(|said| said == line)
}

#[tokio::test]
async fn exits_at_once_is_a_crash_loop_until_the_program_is_mended() {
    let place = Place::new("echo boom >&2; exit 3");
    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    let status = wait_for(&handle, "the crash loop", |status| status.crash_loop).await;
    assert!(status.restarts >= 4, "{status:?}");
    let exit = status.last_exit.clone().unwrap();
    assert_eq!((exit.code, exit.signal), (Some(3), None));
    assert!(said(&status, "boom"), "{status:?}");

    place.script(LIVES);
    let up = |status: &ChildStatus| said(status, "up") && status.pid().is_some();
    let status = wait_for(&handle, "the mended program", up).await;
    assert!(status.crash_loop, "not forgotten before it is healthy");
    handle.healthy(true);
    wait_for(&handle, "it is forgotten", |status| !status.crash_loop).await;
    handle.shutdown().await.unwrap();
    place.nothing_left().await;
}

/// Each fault, how it is told, and what mends it.
#[tokio::test]
async fn what_cannot_be_started_says_why_and_starts_once_it_is_mended() {
    type Break = fn(&Path);
    let faults: [(Break, SpawnErrorKind, &str); 6] = [
        (|path| drop(std::fs::remove_file(path)), SpawnErrorKind::Missing, "is not there"),
        (make_directory, SpawnErrorKind::NotAFile, "is not a file"),
        (
            |path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap(),
            SpawnErrorKind::NotExecutable,
            "chmod +x",
        ),
        (
            |path| put_program(path, "\x7fELF, but not really"),
            SpawnErrorKind::WrongFormat,
            "no program for this machine",
        ),
        (
            |path| put_program(path, "echo no interpreter named"),
            SpawnErrorKind::WrongFormat,
            "no program for this machine",
        ),
        (|path| put_program(path, "#!/nonexistent/sh\n"), SpawnErrorKind::InterpreterMissing, "interpreter"),
    ];
    for (break_it, kind, words) in faults {
        let place = Place::new(LIVES);
        break_it(&place.program());
        let handle = place.supervise();
        handle.want(Want::Run(place.command()));
        let status = wait_for(&handle, words, |status| status.spawn_error.is_some()).await;
        let err = status.spawn_error.unwrap();
        assert_eq!(err.kind, kind, "{err}");
        assert!(err.message.contains(words), "{err}");
        assert!(err.message.contains(place.program().to_str().unwrap()), "{err}");

        let _ = std::fs::remove_dir(place.program());
        place.script(LIVES);
        running(&handle).await;
        assert_eq!(handle.status().borrow().spawn_error, None);
        handle.shutdown().await.unwrap();
    }
}

fn make_directory(path: &Path) {
    std::fs::remove_file(path).expect("the script is there");
    std::fs::create_dir(path).expect("a directory in its place");
}

#[tokio::test]
async fn a_missing_working_directory_is_told_from_a_missing_program() {
    let place = Place::new(LIVES);
    let handle = place.supervise();
    handle.want(Want::Run(place.command().cwd("/nonexistent")));
    let status = wait_for(&handle, "the refusal", |status| status.spawn_error.is_some()).await;
    assert_eq!(status.spawn_error.unwrap().kind, SpawnErrorKind::WorkingDirectory);
}

#[tokio::test]
async fn what_ignores_term_is_told_then_killed_with_its_group() {
    let place = Place::new("trap '' TERM; sleep 1000 & echo up; while :; do sleep 1000; done");
    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    wait_for(&handle, "its first line", |status| said(status, "up")).await;
    eventually("it and two grandchildren", || place.pids().len() == 3).await;
    handle.want(stop());
    let status = wait_for(&handle, "the flag", |status| status.ignores_term).await;
    assert!(matches!(status.phase, ChildPhase::Stopping { .. }), "told before the kill: {status:?}");

    let stopped = |status: &ChildStatus| matches!(status.phase, ChildPhase::Stopped { .. });
    let status = wait_for(&handle, "its end", stopped).await;
    assert_eq!(status.last_exit.unwrap().signal, Some(9));
    assert!(status.ignores_term);
    place.nothing_left().await;

    place.script(LIVES);
    handle.want(Want::Run(place.command()));
    running(&handle).await;
    assert!(!handle.status().borrow().ignores_term);
    handle.shutdown().await.unwrap();
    place.nothing_left().await;
}

#[tokio::test]
async fn what_an_ended_child_leaves_behind_is_gone_before_the_next_start() {
    let place = Place::new("sleep 1000 & setsid sleep 1000 & echo up; exec sleep 1000");
    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    let leader = running(&handle).await;
    eventually("the child and two of its own", || place.sleepers().len() == 3).await;
    let first = place.pids();
    super::kit::signal(leader, rustix::process::Signal::KILL);
    wait_for(&handle, "its restart", |status| status.restarts == 1).await;
    assert!(first.iter().all(|pid| !alive(*pid)), "{first:?}");
    handle.shutdown().await.unwrap();
    place.nothing_left().await;
}

#[tokio::test]
async fn a_stop_ends_the_child_and_says_why() {
    let place = Place::new(LIVES);
    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    let pid = running(&handle).await;
    handle.want(stop());
    let stopped =
        |status: &ChildStatus| matches!(&status.phase, ChildPhase::Stopped { reason } if reason == "a test");
    let status = wait_for(&handle, "its end", stopped).await;
    assert_eq!(status.last_exit.unwrap().signal, Some(15));
    assert!(!alive(pid));
    let records = std::fs::read_to_string(place.records()).unwrap();
    assert!(!records.contains("engine"), "{records}");
}

#[tokio::test]
async fn a_flood_of_100_mb_fills_no_disk_and_holds_nothing_up() {
    let place = Place::new("yes floooooood | head -c 104857600; echo; echo over; exec sleep 1000");
    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    wait_for(&handle, "the flood", |status| status.log_flood).await;
    let status = wait_for(&handle, "its end", |status| said(status, "over")).await;
    assert!(status.log_tail.len() <= 20);
    let logs = place.dir.path().join("log");
    let on_disk = || {
        let entries = std::fs::read_dir(&logs).unwrap().flatten();
        entries.map(|entry| entry.metadata().map_or(0, |file| file.len())).sum::<u64>()
    };
    eventually("the logs are small again", || on_disk() < 40 << 20).await;
    assert!(on_disk() > 0);
    handle.shutdown().await.unwrap();
    place.nothing_left().await;
}
