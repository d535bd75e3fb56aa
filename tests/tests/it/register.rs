//! Many registrars on one registry: whole processes, real locks, kill -9.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forest_tests::bounded::{self, Started};
use forest_tests::node::agent_binary;
use forest_tests::wait::random_moment;
use serde_json::{Value, json};

/// A directory with a registry and a config for each of many nodes.
struct Registrars {
    dir: tempfile::TempDir,
}

impl Registrars {
    fn new(nodes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("share")).unwrap();
        for n in 1..=nodes {
            let base = dir.path().display();
            let config = format!(
                "forest_id: grove\nnode_id: grove-node-{n}\naddress: fd00::{n:x}\nregistry: {base}/share/registry.json\n\
                 state_dir: {base}/state-{n}\nruntime_dir: {base}/run-{n}\nnode_info: {base}/info-{n}.json\n"
            );
            fs::write(dir.path().join(format!("agent-{n}.yaml")), config).unwrap();
        }
        Self { dir }
    }

    fn registry(&self) -> PathBuf {
        self.dir.path().join("share/registry.json")
    }

    fn command(&self, n: usize) -> Command {
        let mut command = Command::new(agent_binary());
        command.arg("register").arg("--config").arg(self.dir.path().join(format!("agent-{n}.yaml")));
        command
    }

    fn spawn(&self, n: usize) -> Started {
        Started::new(&mut self.command(n))
    }

    fn read(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.registry()).unwrap()).unwrap()
    }

    fn ids(&self) -> Vec<String> {
        let registry = self.read();
        let list = registry["nodes"]["grove"].as_array().unwrap().iter();
        let mut ids: Vec<_> = list.map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

/// Reads the file all the while: it must be there and parse every time, once it has been there.
fn poll(path: &Path, stop: &AtomicBool) -> usize {
    let mut reads = 0;
    while !stop.load(Ordering::Relaxed) {
        match fs::read_to_string(path) {
            Ok(text) => {
                serde_json::from_str::<Value>(&text).unwrap_or_else(|err| panic!("torn ({err}): {text:?}"));
                reads += 1;
            }
            Err(err) => assert!(reads == 0, "the registry vanished: {err}"),
        }
    }
    reads
}

fn with_reader<T>(path: &Path, work: impl FnOnce() -> T) -> (T, usize) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| poll(path, &stop));
        // Told to stop also when the work panics: the scope would else wait for ever.
        let stopper = StopOnDrop(&stop);
        let result = work();
        drop(stopper);
        (result, reader.join().unwrap())
    })
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn sixty_four_registrars_sixteen_at_a_time_lose_nobody() {
    let registrars = Registrars::new(64);
    let ((), reads) = with_reader(&registrars.registry(), || {
        std::thread::scope(|scope| {
            for worker in 0..16 {
                let registrars = &registrars;
                scope.spawn(move || {
                    for n in (1..=64).filter(|n| n % 16 == worker) {
                        let output = bounded::output(&mut registrars.command(n));
                        let stderr = String::from_utf8_lossy(&output.stderr);
                        assert!(output.status.success(), "node {n}: {stderr}");
                    }
                });
            }
        });
    });
    assert_eq!(registrars.ids().len(), 64);
    assert!(reads > 0);
    let again = bounded::output(registrars.command(7).args(["--dry-run", "--json"]));
    let answer: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(answer["action"], "none");
}

#[test]
fn registrars_killed_at_random_moments_lose_nothing_and_leave_no_lease() {
    const ROUNDS: usize = 500;
    const AT_ONCE: usize = 5;
    let registrars = Registrars::new(ROUNDS);
    let (finished, _) = with_reader(&registrars.registry(), || {
        let mut finished = Vec::new();
        // So long that some finish and some do not, whatever else the machine does.
        let mut longest = Duration::from_millis(12);
        for round in 0..ROUNDS / AT_ONCE {
            let before = finished.len();
            let range = round * AT_ONCE + 1..=(round + 1) * AT_ONCE;
            let mut children: Vec<_> = range.map(|n| (n, registrars.spawn(n))).collect();
            for (n, child) in &mut children {
                random_moment(longest);
                if child.kill().success() {
                    finished.push(format!("grove-node-{n}"));
                }
            }
            longest = match finished.len() - before {
                0 => (longest * 5 / 4).min(Duration::from_secs(1)),
                AT_ONCE => longest * 4 / 5,
                _ => longest,
            };
        }
        finished
    });
    // One more takes the lease at once, whoever died with it, and clears up.
    let output = bounded::output(&mut registrars.command(1));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ids = registrars.ids();
    for id in &finished {
        assert!(ids.contains(id), "{id} finished and is not in the registry");
    }
    assert!(!registrars.dir.path().join("share/.registry.lease").exists());
    assert!(!finished.is_empty() && finished.len() < ROUNDS, "{} of {ROUNDS} finished", finished.len());
}

#[test]
fn a_dry_run_touches_nothing_and_tells_the_diff() {
    let registrars = Registrars::new(1);
    let output = bounded::output(registrars.command(1).args(["--dry-run", "--json"]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["action"], "add");
    assert_eq!(answer["forest_id"], "grove");
    assert_eq!(answer["node_id"], "grove-node-1");
    assert_eq!(answer["registry"], json!(registrars.registry()));
    assert_eq!(answer["entry"]["ip"], "fd00::1");
    assert!(answer["diff"].as_str().unwrap().contains("+        \"id\": \"grove-node-1\""), "{answer:#}");
    let mut names: Vec<_> =
        fs::read_dir(registrars.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["agent-1.yaml", "share"]);
    assert_eq!(fs::read_dir(registrars.dir.path().join("share")).unwrap().count(), 0);
}

#[test]
fn unknown_keys_at_all_levels_survive_a_hundred_updates() {
    let registrars = Registrars::new(1);
    let before = r#"{
  "version": 1,
  "x-top": {"deep": [1.10, 12345678901234567890123]},
  "forests": {"grove": {"id": "grove", "x-forest": 1e400, "size": "small"}},
  "nodes": {
    "other": [{"id": "other-1", "ip": "fd00::99", "x": null}],
    "grove": [{"x-first": true, "id": "grove-node-1", "ip": "fd00::dead", "forest_id": "grove", "metadata": {"x-meta": "kept"}}]
  }
}"#;
    fs::write(registrars.registry(), before).unwrap();
    for round in 0..100 {
        // Another address each time, so that each one is an update.
        let config = registrars.dir.path().join("agent-1.yaml");
        let text = fs::read_to_string(&config).unwrap();
        let lines = text.lines().map(|line| match line.starts_with("address:") {
            true => format!("address: fd00::1:{round:x}\n"),
            false => format!("{line}\n"),
        });
        let text: String = lines.collect();
        fs::write(&config, text).unwrap();
        let output = bounded::output(&mut registrars.command(1));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = fs::read_to_string(registrars.registry()).unwrap();
    for kept in
        ["1.10", "12345678901234567890123", "1e400", "\"x-first\": true", "\"x-meta\": \"kept\"", "fd00::99"]
    {
        assert!(
            text.contains(kept) || text.contains(&kept.replace("1e400", "1e+400")),
            "{kept} is lost: {text}"
        );
    }
    let keys: Vec<_> = registrars.read().as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys[..4], ["version", "x-top", "forests", "nodes"]);
    assert_eq!(registrars.read()["nodes"]["grove"][0]["ip"], "fd00::1:63");
}
