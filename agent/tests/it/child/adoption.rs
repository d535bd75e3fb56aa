//! The agent dies or is replaced at bad moments; the child is found again, and never doubled.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use forest_agent::child::{ChildStatus, Want};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::helper::Agent;
use super::kit::{LIVES, Place, Stranger, alive, eventually, running, signal, wait_for};

/// Counts its lines, so that one that is lost is missed.
const COUNTS: &str = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.02; done";

/// What a process has in its environment. It reads as empty while the process executes another program.
async fn environ(pid: u32) -> String {
    let text = std::cell::RefCell::default();
    eventually("its environment", || {
        text.replace(std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap());
        !text.borrow().is_empty()
    })
    .await;
    text.into_inner()
}

#[tokio::test]
async fn the_next_agent_adopts_what_a_killed_one_left_and_its_log_goes_on() {
    let place = Place::new(COUNTS);
    let mut agent = Agent::start(&place, false);
    let pid: i32 = agent.says().parse().unwrap();
    drop(agent);
    assert!(alive(pid));

    let handle = place.supervise();
    assert_eq!(running(&handle).await, pid);
    handle.want(Want::Run(place.command()));
    let status = handle.status().borrow().clone();
    assert!(status.adopted && status.restarts == 0, "{status:?}");
    let before = status.log_tail.len();
    let goes_on = |status: &ChildStatus| status.log_tail.len() >= (before + 5).min(20);
    let status = wait_for(&handle, "its log", goes_on).await;
    assert!(!status.pending_change, "{status:?}");
    let numbers: Vec<u32> = status.log_tail.iter().map(|line| line[5..].parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert_eq!(place.leaders(), [pid]);

    signal(pid, Signal::KILL);
    let status = wait_for(&handle, "its restart", |status| status.restarts == 1).await;
    assert_eq!(status.last_exit.unwrap().code, None, "nobody could tell");
    assert!(!status.adopted);
    handle.shutdown().await.unwrap();
    place.nothing_left().await;
}

#[tokio::test]
async fn found_again_whatever_became_of_the_record() {
    let place = Place::new(LIVES);
    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    let pid = running(&handle).await;
    handle.detach().await;
    let without_pid = || {
        let mut records: Value = serde_json::from_slice(&std::fs::read(place.records()).unwrap()).unwrap();
        records["children"]["engine"]["process"] = Value::Null;
        std::fs::write(place.records(), records.to_string()).unwrap();
    };
    let spoilers: [&dyn Fn(); 4] = [
        &|| (),
        &without_pid,
        &|| std::fs::write(place.records(), "{\"version\":1,\"chil").unwrap(),
        &|| std::fs::remove_file(place.records()).unwrap(),
    ];
    for spoil in spoilers {
        spoil();
        let handle = place.supervise();
        assert_eq!(running(&handle).await, pid);
        assert_eq!(place.leaders(), [pid]);
        handle.detach().await;
    }
    place.supervise().shutdown().await.unwrap();
    place.nothing_left().await;
}

#[tokio::test]
async fn another_installation_at_the_same_path_is_left_alone() {
    let place = Place::new(LIVES);
    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    let pid = running(&handle).await;
    handle.detach().await;
    // What another mount namespace has at that path is all its own.
    std::fs::remove_file(place.dir.path().join("instance")).unwrap();
    std::fs::remove_file(place.records()).unwrap();

    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    assert_ne!(running(&handle).await, pid);
    assert!(alive(pid));
    handle.shutdown().await.unwrap();
    assert!(alive(pid));
}

#[tokio::test]
async fn what_a_dead_child_left_running_is_ended_and_not_taken_for_it() {
    let place = Place::new("setsid sleep 1000 & exec sleep 1000");
    let mut agent = Agent::start(&place, false);
    let pid: i32 = agent.says().parse().unwrap();
    eventually("it has a child of its own", || place.sleepers().len() == 2).await;
    let left: Vec<i32> = place.leaders().into_iter().filter(|leader| *leader != pid).collect();
    drop(agent);
    signal(pid, Signal::KILL);
    eventually("it is gone", || !alive(pid)).await;

    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    let new = running(&handle).await;
    assert!(!left.contains(&new) && !handle.status().borrow().adopted);
    assert!(!alive(left[0]));
    handle.shutdown().await.unwrap();
    place.nothing_left().await;
}

#[tokio::test]
async fn a_deleted_log_directory_is_made_again() {
    let place = Place::new("echo up; exec sleep 1000");
    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    let pid = running(&handle).await;
    wait_for(&handle, "its first line", |status| status.log_tail == ["up"]).await;
    std::fs::remove_dir_all(place.dir.path().join("log")).unwrap();
    signal(pid, Signal::KILL);
    wait_for(&handle, "its restart", |status| status.restarts == 1 && status.pid().is_some()).await;
    wait_for(&handle, "its second line", |status| status.log_tail == ["up", "up"]).await;
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn another_command_waits_for_the_next_start() {
    let place = Place::new(LIVES);
    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    let pid = running(&handle).await;
    handle.want(Want::Run(place.command().args(["--new"])));
    let status = wait_for(&handle, "the change", |status| status.pending_change).await;
    assert_eq!(status.pid(), Some(pid.unsigned_abs()));
    signal(pid, Signal::KILL);
    let taken = |status: &ChildStatus| status.restarts == 1 && !status.pending_change;
    let status = wait_for(&handle, "the change is taken", taken).await;
    let environ = environ(status.pid().unwrap()).await;
    assert!(environ.contains("FOREST_AGENT_CHILD=") && !environ.contains("CARGO"), "{environ}");
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_pid_that_belongs_to_another_now_is_neither_adopted_nor_killed() {
    let place = Place::new(LIVES);
    let other = Stranger::start(Command::new("sleep").arg("1000"));
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let record = json!({
        "token": "0123456789abcdef.0123456789abcdef", "boot_id": boot_id.trim(), "command": "",
        "process": {"pid": other.pid(), "start_time": 1},
    });
    let records = json!({"version": 1, "children": {"engine": record}});
    std::fs::write(place.records(), records.to_string()).unwrap();

    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    let pid = running(&handle).await;
    assert_ne!(pid, other.pid());
    assert!(!handle.status().borrow().adopted);
    handle.shutdown().await.unwrap();
    assert!(alive(other.pid()));
}

#[tokio::test]
async fn a_second_start_that_nobody_knows_of_is_ended() {
    let place = Place::new(LIVES);
    let handle = place.supervise();
    handle.want(Want::Run(place.command()));
    let pid = running(&handle).await;
    handle.detach().await;
    let records: Value = serde_json::from_slice(&std::fs::read(place.records()).unwrap()).unwrap();
    let token = records["children"]["engine"]["token"].as_str().unwrap();
    let (prefix, _) = token.split_once('.').unwrap();
    let mut command = Command::new("sleep");
    command.arg("1000").process_group(0).env("FOREST_AGENT_CHILD", format!("{prefix}.other"));
    let double = Stranger::start(&mut command);

    let handle = place.supervise();
    assert_eq!(running(&handle).await, pid);
    assert!(!alive(double.pid()));
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_of_a_start_never_makes_two() {
    for delay in 0..24 {
        let place = Place::new(LIVES);
        let agent = Agent::start(&place, false);
        // From before the first record until after the last.
        let begun = || place.records().exists() || !place.pids().is_empty();
        if delay % 2 == 0 {
            eventually("it has begun", begun).await;
        }
        tokio::time::sleep(Duration::from_micros(delay * 500)).await;
        drop(agent);

        let handle = place.supervise();
        handle.want(Want::Run(place.command()));
        let pid = running(&handle).await;
        assert_eq!(place.leaders(), [pid], "after {delay}");
        handle.shutdown().await.unwrap();
        place.nothing_left().await;
    }
}

#[tokio::test]
async fn an_agent_that_executes_itself_still_reaps_its_child() {
    let place = Place::new("trap 'exit 5' USR1; echo up; while :; do sleep 0.02; done");
    let mut agent = Agent::start(&place, true);
    let pid: i32 = agent.says().parse().unwrap();
    assert_eq!(agent.says().parse(), Ok(pid), "adopted after the exec");
    let log = place.dir.path().join("log/engine.log");
    eventually("its trap", || std::fs::read(&log).is_ok_and(|log| !log.is_empty())).await;
    signal(pid, Signal::USR1);
    assert_eq!(agent.says(), "Some(5)");
    drop(agent);
    place.supervise().shutdown().await.unwrap();
    place.nothing_left().await;
}
