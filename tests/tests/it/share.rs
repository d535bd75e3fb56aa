//! The share step against the real kernel: its answers, and a file system that hangs.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forest_agent::fault::Fault;
use forest_agent::settings::Share;
use forest_agent::share::dir::ShareDir;
use forest_agent::share::mounter::{Kernel, Mounter};
use forest_agent::share::resolve::Resolver;
use forest_agent::share::{Limits, Look, ShareStep};
use forest_core::reason::Reason;
use forest_tests::hangfs::HangFs;
use forest_tests::ports;
use rustix::io::Errno;
use tokio::time::{Instant, timeout};

/// Only a hang takes this long.
const LONG: Duration = Duration::from_secs(60);

struct Nobody;

impl Resolver for Nobody {
    fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other("Name or service not known"))
    }
}

struct Given {
    dir: tempfile::TempDir,
    share: Share,
}

impl Given {
    fn a_share_at(host: &str, port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let password_file = dir.path().join("password");
        fs::write(&password_file, "s3cret,\n").unwrap();
        fs::set_permissions(&password_file, Permissions::from_mode(0o600)).unwrap();
        let share = Share {
            host: host.into(),
            path: "backup/morpheus".into(),
            mountpoint: dir.path().join("mnt/forest"),
            username: "u1".into(),
            password_file,
            options: vec!["vers=3.1.1".into(), "soft".into(), format!("port={port}")],
        };
        Self { dir, share }
    }

    fn mirror(&self) -> HangFs {
        let back = self.dir.path().join("back");
        fs::create_dir_all(&back).unwrap();
        fs::create_dir_all(&self.share.mountpoint).unwrap();
        HangFs::mount(&back, &self.share.mountpoint).unwrap()
    }

    fn step(&self) -> ShareStep {
        let limits = Limits { look: Duration::from_secs(10), ..Limits::default() };
        ShareStep::with(self.share.clone(), Arc::new(Kernel), Arc::new(Nobody), limits)
    }
}

/// Looks until it is well again.
async fn recovered(step: &ShareStep) -> Look {
    let look = async {
        loop {
            if let Ok(look) = step.look().await {
                return look;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, look).await.expect("the share is well again")
}

fn has_cifs() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    known.lines().any(|line| line.ends_with("\tcifs"))
}

fn threads_named(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.trim_end() == name).count()
}

#[tokio::test]
async fn the_kernels_own_answer_to_mount_is_told_apart() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let given = Given::a_share_at("127.0.0.1", server.local_addr().unwrap().port());
    let Fault { reason, message, .. } = given.step().act().await.unwrap_err();
    let may_mount = rustix::process::geteuid().is_root();
    match reason {
        Reason::SharePermission => assert!(!may_mount, "{message}"),
        Reason::ShareNoCifs => {
            assert!(may_mount && !has_cifs(), "{message}");
            assert!(
                message.contains("ENODEV") && message.contains("//127.0.0.1/backup/morpheus"),
                "{message}"
            );
        }
        // With cifs, the kernel finds a server that speaks no SMB, or gives up waiting for it.
        Reason::ShareUnreachable | Reason::ShareMountFailed | Reason::ShareHung => {
            assert!(may_mount && has_cifs(), "{message}");
        }
        other => panic!("{other}: {message}"),
    }
    assert!(!message.contains("s3cret"));
    let made = fs::metadata(&given.share.mountpoint).unwrap();
    assert_eq!(made.mode() & 0o777, 0o700);
    assert_eq!(given.step().look().await.unwrap_err().reason, Reason::ShareNotMounted);
}

#[tokio::test]
async fn a_refused_port_and_an_unknown_name_are_told_and_nothing_is_made() {
    let nobodys = ports::claim();
    let port = nobodys.number;
    let given = Given::a_share_at("127.0.0.1", port);
    let fault = given.step().act().await.unwrap_err();
    assert_eq!(fault.reason, Reason::ShareUnreachable);
    assert!(fault.message.contains(&format!("127.0.0.1:{port}: Connection refused")), "{fault}");

    let given = Given::a_share_at("forest.invalid", port);
    let fault = given.step().act().await.unwrap_err();
    assert_eq!(fault.reason, Reason::ShareNameNotResolved);
    assert!(fault.message.contains("forest.invalid"), "{fault}");
    assert!(!given.share.mountpoint.exists());
}

#[tokio::test]
async fn whatever_is_mounted_there_is_the_share() {
    let given = Given::a_share_at("forest.invalid", 445);
    let step = given.step();
    let mirror = given.mirror();
    let look = step.act().await.unwrap();
    assert_eq!((look.mount.fstype.as_str(), look.mount.source.as_str()), ("fuse", "hangfs"));

    let dir = step.open(Path::new("")).await.unwrap();
    fs::create_dir(given.share.mountpoint.join("bin")).unwrap();
    assert_eq!(step.open(Path::new("bin")).await.unwrap().path(), given.share.mountpoint.join("bin"));
    drop(mirror);
    assert_eq!(step.look().await.unwrap_err().reason, Reason::ShareNotMounted);
    assert_eq!(step.open(Path::new("")).await.unwrap_err().reason, Reason::ShareNotMounted);
    assert!(dir.probe().is_err(), "the descriptor leads to the dead mount, not to the directory below");
}

#[tokio::test]
async fn of_stacked_mounts_the_upper_one_is_opened() {
    let given = Given::a_share_at("forest.invalid", 445);
    let _lower = given.mirror();
    let lower = given.step().look().await.unwrap().mount.id;
    let upper = given.mirror();
    fs::write(given.dir.path().join("back/a"), "a").unwrap();
    let look = given.step().look().await.unwrap();
    assert_eq!(look.mount.parent, lower);
    ShareDir::mounted(&given.share.mountpoint).unwrap();
    drop(upper);
    assert_eq!(given.step().look().await.unwrap().mount.id, lower);
}

#[tokio::test]
async fn a_hanging_share_costs_one_thread_and_recovers() {
    let given = Given::a_share_at("forest.invalid", 445);
    let mirror = given.mirror();
    let step = given.step();
    step.look().await.unwrap();
    mirror.hang();

    let begun = Instant::now();
    for _ in 0..50 {
        let fault = step.look().await.unwrap_err();
        assert_eq!(fault.reason, Reason::ShareHung);
        assert!(fault.message.contains(given.share.mountpoint.to_str().unwrap()), "{fault}");
        assert_eq!(step.act().await.unwrap_err().reason, Reason::ShareHung);
    }
    assert_eq!(step.open(Path::new("")).await.unwrap_err().reason, Reason::ShareHung);
    assert!(begun.elapsed() < LONG, "only the first look waits for its deadline");
    // Each step of the tests in this process has one; a thread a look would make fifty.
    assert!(threads_named("share-look") < 20);

    mirror.resume();
    assert_eq!(recovered(&step).await.mount.source, "hangfs");
}

#[tokio::test]
async fn a_share_that_answers_with_errors_is_dead_and_a_foreign_one_is_left_alone() {
    let given = Given::a_share_at("forest.invalid", 445);
    let mirror = given.mirror();
    let step = given.step();
    mirror.fail_with(Errno::IO.raw_os_error());
    let fault = step.look().await.unwrap_err();
    assert_eq!(fault.reason, Reason::ShareDead);
    assert!(fault.message.ends_with("answers EIO"), "{fault}");
    assert_eq!(step.act().await.unwrap_err().reason, Reason::ShareDead);
    mirror.resume();
    recovered(&step).await;
}

#[test]
fn the_kernel_detaches_a_hanging_mount_at_once() {
    let given = Given::a_share_at("forest.invalid", 445);
    let mountpoint: PathBuf = given.share.mountpoint.clone();
    let mirror = given.mirror();
    mirror.hang();
    Kernel.mount_at(&mountpoint).unwrap();
    Kernel.detach(&mountpoint).unwrap();
    assert!(Kernel.mount_at(&mountpoint).is_err());
}
