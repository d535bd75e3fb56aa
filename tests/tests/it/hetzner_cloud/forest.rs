//! A forest of real agents and real engines, from nothing to nothing; what was printed on the way is `docs/cloud.md`'s
//! transcript. Secrets are looked for everywhere: on every disk, on every console, in every argument list.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use forest_tests::apache::PASSWORD;
use forest_tests::cloud::laptop::said;
use forest_tests::cloud::{Behind, Cloud, Laptop};
use forest_tests::hetzner::TOKEN;
use forest_tests::wait::{pause, until, until_value};
use forest_tests::{nats, programs, stand_in};
use serde_json::Value;

use super::{behind, fits, names, nothing_is_left};

/// Where the transcript lies, below docs/.
const TRANSCRIPT: &str = "transcripts/cloud.txt";

/// What a person would see of one command after the other.
struct Session<'a> {
    laptop: &'a Laptop,
    text: String,
}

impl Session<'_> {
    /// Runs a command, both its outputs in the order in which they come, as a terminal without colours shows them.
    /// How it ended, and what it printed.
    fn screen(&self, command: &mut Command) -> (ExitStatus, String) {
        let path = self.laptop.path("screen");
        let screen = fs::File::create(&path).unwrap();
        command.stdout(Stdio::from(screen.try_clone().unwrap())).stderr(Stdio::from(screen));
        let status = command.status().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(path).unwrap();
        (status, text)
    }

    fn keep(&mut self, shown: &str, text: &str) {
        self.text.push_str(&format!("$ {shown}\n{}\n\n", text.trim_end()));
    }

    #[track_caller]
    fn run(&mut self, shown: &str, command: &mut Command) {
        let (status, text) = self.screen(command);
        assert!(status.success(), "{shown}: {status}\n{text}");
        self.keep(shown, &text);
    }

    #[track_caller]
    fn says(&mut self, shown: &str) {
        self.run(shown, &mut self.command(shown));
    }

    /// A node that is well may warn for a moment on a loaded machine, and then the command says so.
    #[track_caller]
    fn comes_to_say(&mut self, shown: &str) {
        let text = until(shown, || {
            let (status, text) = self.screen(&mut self.command(shown));
            status.success().then_some(text)
        });
        self.keep(shown, &text);
    }

    fn command(&self, shown: &str) -> Command {
        let args: Vec<&str> = shown.split(' ').skip(1).collect();
        self.laptop.command(&args)
    }
}

/// Says that something has ended when it is dropped, also by a panic.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_forest_is_planted_grown_and_torn_down() {
    let (cloud, laptop) = behind(Behind::Machine);
    let mut session = Session { laptop: &laptop, text: String::new() };
    let (ended, shown) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                shown.fetch_or(in_an_argument_list(), Ordering::SeqCst);
                pause();
            }
        });
        let _ends = Ends(&ended);
        let plant = "morpheus plant cloud medium --name grove";
        session.run(plant, &mut laptop.plant(&nats::server(), &["medium", "--name", "grove"]));
        session.comes_to_say("morpheus status grove");
        session.says("morpheus grow grove");
        session.says("morpheus grow grove --nodes 2");
        session.says("morpheus list");
    });
    assert!(!shown.load(Ordering::SeqCst), "an argument list had a secret");
    // The witness leaves once there are real nodes enough.
    let status = until_value(
        "the five are one cluster",
        || laptop.run(&["status", "grove", "--json"]).json(),
        |status| {
            let nodes = status["nodes"].as_array().unwrap();
            nodes.iter().all(|node| node["health"]["checks"]["nats:jetstream"][0]["observedValue"] == 5)
        },
    );
    fits("status", &status);
    assert_eq!(names(&status), [1, 2, 3, 4, 5].map(|n| format!("grove-node-{n}")));
    let grow = laptop.run(&["grow", "grove", "--json"]).exits(0).json();
    fits("grow", &grow);
    secrets_are_where_they_belong(&cloud, &laptop);

    session.says("morpheus teardown grove --yes");
    nothing_is_left(&cloud);
    until("no machine is left", || (cloud.standing() == 0).then_some(()));
    session.says("morpheus list");
    write(&session.text);
}

/// The engine is NimsForest (its stand-in): it and the nats-server of its witness travel through the share.
#[test]
fn a_node_of_nimsforest_brings_a_nats_server_for_its_witness() {
    let (cloud, laptop) = behind(Behind::Machine);
    let path = laptop.path("programs");
    fs::create_dir(&path).unwrap();
    programs::copy(&nats::server(), &path.join("nats-server"));
    let mut plant =
        laptop.plant_with("--forest-binary", &stand_in::binary(), &["small", "--name", "grove", "--json"]);
    said(plant.env("PATH", format!("{}:/usr/bin:/bin", path.display()))).exits(0);
    let status = laptop.run(&["status", "grove", "--json"]).json();
    assert_eq!(status["nodes"][0]["health"]["engine"]["kind"], "nimsforest");
    let shelf: Vec<String> = files(&cloud.share().join("bin")).iter().map(|file| file_name(file)).collect();
    for name in ["forest-agent-x86_64-", "forest-x86_64-", "nats-server-x86_64-"] {
        assert!(shelf.iter().any(|file| file.starts_with(name)), "{name} of {shelf:?}");
    }
    laptop.run(&["teardown", "grove", "--yes"]).exits(0);
    nothing_is_left(&cloud);
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Does any process show a secret to every other?
fn in_an_argument_list() -> bool {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lists = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lists.into_iter().any(|list| [TOKEN, PASSWORD].iter().any(|secret| has(&list, secret)))
}

/// The token is on no disk at all. The share's password is in the two files of each machine that need it, and the
/// forest's own credentials are in files of their owner alone.
fn secrets_are_where_they_belong(cloud: &Cloud, laptop: &Laptop) {
    let founding: Value =
        serde_json::from_slice(&fs::read(cloud.share().join("secrets/grove.json")).unwrap()).unwrap();
    let own = ["route", "sys"].map(|user| founding[user]["password"].as_str().unwrap().to_owned());
    let mut disks = vec![laptop.home.path().to_owned(), cloud.share()];
    cloud.each_machine(|machine| {
        assert!(!machine.console().contains(PASSWORD), "{}'s console", machine.name);
        disks.push(machine.disk().to_owned());
    });
    let mut found = 0;
    for path in disks.iter().flat_map(|disk| files(disk)) {
        let Ok(text) = fs::read(&path) else { continue };
        assert!(!has(&text, TOKEN), "{} has the API token", path.display());
        let allowed = path.ends_with("etc/morpheus/storagebox.password") || path.ends_with("agent.curl");
        assert!(allowed || !has(&text, PASSWORD), "{} has the share's password", path.display());
        if allowed || own.iter().any(|secret| has(&text, secret)) {
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o177, 0, "{} is 0{mode:o}", path.display());
            assert!(!path.to_string_lossy().contains("console"), "{}", path.display());
            found += 1;
        }
    }
    assert!(found > 5 * 3, "the search finds what there is: {found}");
}

/// Every file below a directory; what goes away meanwhile is passed over.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .flat_map(|path| if path.is_dir() && !path.is_symlink() { files(&path) } else { vec![path] })
        .collect()
}

/// By the standard library's own search, which is quick in a debug build too.
fn has(bytes: &[u8], secret: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(secret)
}

/// Keeps the transcript for the documents, where that is asked for.
fn write(text: &str) {
    if std::env::var_os("FOREST_WRITE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(TRANSCRIPT);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{}\n", text.trim_end())).unwrap();
    }
}
