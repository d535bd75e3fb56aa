use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, mpsc};

use proptest::prelude::*;

use super::*;

/// Only a hang takes this long.
const LONG: Duration = Duration::from_secs(60);

/// A kernel that answers as it was told, and remembers what it was asked to do.
#[derive(Default)]
struct Fake {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is mounted, the topmost last.
    mounts: Vec<Mount>,
    /// What a probe of the topmost answers; none: it is well.
    probe: Option<Errno>,
    /// What the next mounts answer; then they work.
    answers: VecDeque<Errno>,
    done: Vec<&'static str>,
    ids: u64,
    /// A mount waits here for its answer.
    gate: Option<mpsc::Receiver<()>>,
    /// A probe waits here for its answer.
    probe_gate: Option<mpsc::Receiver<()>>,
}

impl State {
    fn push(&mut self, fstype: &str, source: &str) {
        self.ids += 1;
        self.mounts.push(Mount {
            id: self.ids,
            parent: 0,
            mountpoint: "/mnt/forest".into(),
            fstype: fstype.into(),
            source: source.into(),
            options: String::new(),
            super_options: String::new(),
        });
    }
}

impl Fake {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn done(&self) -> Vec<&'static str> {
        self.state().done.clone()
    }
}

impl Mounter for Fake {
    fn mount_at(&self, path: &Path) -> Result<Mount, DirError> {
        let top = self.state().mounts.last().cloned();
        top.ok_or_else(|| DirError::NotMounted { path: path.into() })
    }

    fn probe(&self, path: &Path, _mount: &Mount) -> Result<(), DirError> {
        let gate = self.state().probe_gate.take();
        if let Some(gate) = gate {
            let _ = gate.recv();
        }
        let verb = "list";
        let path = path.into();
        self.state().probe.map_or(Ok(()), |source| Err(DirError::Io { verb, path, source }))
    }

    fn create(&self, _mountpoint: &Path) -> Result<(), DirError> {
        self.state().done.push("create");
        Ok(())
    }

    fn mount(&self, request: &Request) -> Result<(), Errno> {
        self.state().done.push("mount");
        let gate = self.state().gate.take();
        if let Some(gate) = gate {
            let _ = gate.recv();
        }
        if let Some(errno) = self.state().answers.pop_front() {
            return Err(errno);
        }
        let mut state = self.state();
        state.probe = None;
        state.push("cifs", &request.source);
        Ok(())
    }

    fn detach(&self, _mountpoint: &Path) -> Result<(), Errno> {
        let mut state = self.state();
        state.done.push("detach");
        state.mounts.pop();
        Ok(())
    }

    fn has_cifs(&self) -> bool {
        true
    }
}

struct Names(Vec<&'static str>);

impl Resolver for Names {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if host != "box.test" {
            return Err(io::Error::other("Name or service not known"));
        }
        Ok(self.0.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect())
    }
}

/// A share whose server listens on 127.0.0.1 alone.
struct Given {
    _dir: tempfile::TempDir,
    _server: std::net::TcpListener,
    kernel: Arc<Fake>,
    share: Share,
}

impl Given {
    fn a_share() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let password_file = dir.path().join("password");
        fs::write(&password_file, "s3cret\n").unwrap();
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).unwrap();
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let share = Share {
            host: "box.test".into(),
            path: "backup".into(),
            mountpoint: "/mnt/forest".into(),
            username: "u1".into(),
            password_file,
            options: vec!["seal".into(), format!("port={port}")],
        };
        Self { _dir: dir, _server: server, kernel: Arc::default(), share }
    }

    fn step(&self, addresses: &[&'static str]) -> ShareStep {
        self.step_within(addresses, LONG)
    }

    fn step_within(&self, addresses: &[&'static str], mount: Duration) -> ShareStep {
        let limits = Limits { look: LONG, mount, ..Limits::default() };
        let names = Arc::new(Names(addresses.to_vec()));
        ShareStep::with(self.share.clone(), Arc::clone(&self.kernel) as _, names, limits)
    }

    fn mounted(self, fstype: &str, source: &str, probe: Option<Errno>) -> Self {
        self.kernel.state().push(fstype, source);
        self.kernel.state().probe = probe;
        self
    }
}

fn source(share: &Share) -> String {
    cifs::source(share)
}

#[tokio::test]
async fn an_absent_share_is_told_and_then_mounted_once() {
    let given = Given::a_share();
    let step = given.step(&["127.0.0.1"]);
    let fault = step.look().await.unwrap_err();
    assert_eq!(fault.reason, Reason::ShareNotMounted);
    assert_eq!(fault.message, "nothing is mounted at /mnt/forest; //box.test/backup belongs there");
    assert_eq!(step.act().await.unwrap().mount.source, source(&given.share));
    step.act().await.unwrap();
    assert_eq!(given.kernel.done(), ["create", "mount"]);
}

#[tokio::test]
async fn anything_mounted_there_counts_as_the_share() {
    let given = Given::a_share().mounted("tmpfs", "something", None);
    assert_eq!(given.step(&[]).act().await.unwrap().mount.fstype, "tmpfs");
    assert_eq!(given.kernel.done(), [""; 0]);
}

#[tokio::test]
async fn every_address_is_tried_in_turn() {
    let given = Given::a_share();
    given.step(&["127.0.0.2", "127.0.0.1"]).act().await.unwrap();
    assert_eq!(given.kernel.done(), ["create", "mount"]);

    let fault = given_nothing_answers().await;
    assert_eq!(fault.reason, Reason::ShareUnreachable);
    for part in ["127.0.0.2:", "127.0.0.3:", "refused", "//box.test/backup", "u1"] {
        assert!(fault.message.contains(part), "{part}: {fault}");
    }
}

async fn given_nothing_answers() -> Fault {
    let given = Given::a_share();
    let fault = given.step(&["127.0.0.2", "127.0.0.3"]).act().await.unwrap_err();
    assert_eq!(given.kernel.done(), [""; 0]);
    fault
}

#[tokio::test]
async fn a_connection_that_mount_loses_leads_to_the_next_address_and_a_wrong_password_does_not() {
    let given = Given::a_share();
    given.kernel.state().answers.push_back(Errno::CONNRESET);
    given.step(&["127.0.0.1", "127.0.0.1"]).act().await.unwrap_err();
    given.kernel.state().answers = VecDeque::from([Errno::ACCESS, Errno::ACCESS]);
    let fault = given.step(&["127.0.0.1"]).act().await.unwrap_err();
    assert_eq!(fault.reason, Reason::ShareWrongPassword);
    assert!(!fault.message.contains("s3cret"));
    assert_eq!(given.kernel.state().answers.len(), 1, "asked once");
}

#[tokio::test]
async fn each_errno_of_mount_reaches_the_caller() {
    for (errno, reason) in [
        (Errno::NODEV, Reason::ShareNoCifs),
        (Errno::PERM, Reason::SharePermission),
        (Errno::NOENT, Reason::ShareNotFound),
        (Errno::HOSTDOWN, Reason::ShareUnreachable),
        (Errno::INVAL, Reason::ShareMountFailed),
    ] {
        let given = Given::a_share();
        given.kernel.state().answers.push_back(errno);
        assert_eq!(given.step(&["127.0.0.1"]).act().await.unwrap_err().reason, reason);
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_and_a_missing_password_are_told_apart() {
    let mut given = Given::a_share();
    given.share.host = "box.invalid".into();
    let fault = given.step(&[]).act().await.unwrap_err();
    assert_eq!(fault.reason, Reason::ShareNameNotResolved);
    fs::remove_file(&given.share.password_file).unwrap();
    let fault = given.step(&[]).act().await.unwrap_err();
    assert_eq!(fault.reason, Reason::SharePasswordFile);
    assert_eq!(given.kernel.done(), [""; 0]);
}

#[tokio::test]
async fn our_dead_mount_is_detached_and_mounted_anew() {
    let given = Given::a_share().mounted("cifs", "//box.test/backup/", Some(Errno::HOSTDOWN));
    let step = given.step(&["127.0.0.1"]);
    assert_eq!(step.look().await.unwrap_err().reason, Reason::ShareDead);
    assert_eq!(step.act().await.unwrap().mount.id, 2);
    assert_eq!(given.kernel.done(), ["detach", "create", "mount"]);
}

#[tokio::test]
async fn our_dead_mount_stays_while_its_server_cannot_be_reached() {
    let given = Given::a_share().mounted("cifs", "//box.test/backup", Some(Errno::HOSTDOWN));
    let fault = given.step(&["127.0.0.2"]).act().await.unwrap_err();
    assert_eq!(fault.reason, Reason::ShareUnreachable);
    assert_eq!(given.kernel.done(), [""; 0]);
}

#[tokio::test]
async fn a_mount_below_the_dead_one_is_not_mounted_over() {
    let given = Given::a_share().mounted("tmpfs", "below", None).mounted(
        "cifs",
        "//box.test/backup",
        Some(Errno::HOSTDOWN),
    );
    given.step(&["127.0.0.1"]).act().await.unwrap_err();
    assert_eq!(given.kernel.done(), ["detach"]);
}

#[tokio::test]
async fn foreign_and_refusing_mounts_are_left_alone() {
    for (fstype, source, errno, reason, advice) in [
        ("fuse", "//box.test/backup", Errno::IO, Reason::ShareDead, "did not mount it"),
        ("cifs", "//other/backup", Errno::IO, Reason::ShareDead, "did not mount it"),
        ("cifs", "//box.test/backup", Errno::ACCESS, Reason::SharePermission, "user u1"),
    ] {
        let given = Given::a_share().mounted(fstype, source, Some(errno));
        let fault = given.step(&["127.0.0.1"]).act().await.unwrap_err();
        assert_eq!(fault.reason, reason);
        assert!(
            fault.remedy().contains(advice) && fault.remedy().contains("umount -l /mnt/forest"),
            "{fault}"
        );
        assert_eq!(given.kernel.done(), [""; 0]);
    }
}

#[tokio::test]
async fn a_mount_that_hangs_is_told_and_found_when_it_comes_back() {
    let given = Given::a_share();
    let (release, gate) = mpsc::channel();
    given.kernel.state().gate = Some(gate);
    let step = given.step_within(&["127.0.0.1"], Duration::from_millis(200));
    for _ in 0..3 {
        let fault = step.act().await.unwrap_err();
        assert_eq!(fault.reason, Reason::ShareHung);
        assert!(
            fault.message.contains("mounting //box.test/backup at /mnt/forest has not come back"),
            "{fault}"
        );
    }
    assert_eq!(given.kernel.done(), ["create", "mount"], "one call hangs, no second one");
    drop(release);
    let found = async { while step.look().await.is_err() {} };
    timeout(LONG, found).await.expect("the late mount is found");
    step.act().await.unwrap();
    assert_eq!(given.kernel.done(), ["create", "mount"]);
}

#[tokio::test]
async fn what_hangs_is_told_from_what_cannot_be_reached() {
    for (addresses, source, reason) in [
        (["127.0.0.1"], "//box.test/backup", Reason::ShareHung),
        (["127.0.0.2"], "//box.test/backup", Reason::ShareUnreachable),
        // Of what somebody else mounted, our share's server says nothing.
        (["127.0.0.2"], "//other.test/share", Reason::ShareHung),
    ] {
        let given = Given::a_share();
        let (_release, gate) = mpsc::channel();
        given.kernel.state().push("cifs", source);
        given.kernel.state().probe_gate = Some(gate);
        let limits = Limits { look: Duration::from_millis(200), connect: LONG, resolve: LONG, mount: LONG };
        let names = Arc::new(Names(addresses.to_vec()));
        let step = ShareStep::with(given.share.clone(), Arc::clone(&given.kernel) as _, names, limits);
        for _ in 0..2 {
            let fault = step.look().await.unwrap_err();
            assert_eq!(fault.reason, reason, "{fault}");
            assert!(fault.message.contains("a look at /mnt/forest has not come back"), "{fault}");
        }
    }
}

#[tokio::test]
async fn preflight_asks_everything_and_mounts_nothing() {
    let given = Given::a_share();
    given.step(&["127.0.0.2", "127.0.0.1"]).preflight().await.unwrap();
    let fault = given.step(&["127.0.0.2"]).preflight().await.unwrap_err();
    assert_eq!(fault.reason, Reason::ShareUnreachable);
    assert_eq!(given.kernel.done(), [""; 0]);
}

proptest! {
    /// Whatever is mounted and whatever it answers: only our own dead mount is ever detached, and nothing is
    /// ever mounted over anything.
    #[test]
    fn only_our_own_dead_mount_is_touched(
        fstype in "cifs|smb3|fuse|tmpfs",
        source in "//box\\.test/backup/?|//box\\.test/other|none",
        errno in prop::sample::select(vec![None, Some(Errno::IO), Some(Errno::ACCESS), Some(Errno::MFILE), Some(Errno::STALE)]),
    ) {
        let given = Given::a_share().mounted(&fstype, &source, errno);
        let step = given.step(&["127.0.0.1"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(step.act());
        let ours = matches!(fstype.as_str(), "cifs" | "smb3") && source.starts_with("//box.test/backup");
        let dead = matches!(errno, Some(Errno::IO | Errno::STALE));
        prop_assert_eq!(result.is_ok(), errno.is_none() || (ours && dead));
        let done = given.kernel.done();
        prop_assert_eq!(done.contains(&"detach"), ours && dead);
        prop_assert_eq!(given.kernel.state().mounts.len(), 1);
    }
}
