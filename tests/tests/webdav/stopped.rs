//! Writers at the WebDAV door that are killed, or stopped for longer than their lease lasts, at any instruction,
//! while others write at both doors.

use std::env;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use forest_core::registry::{Limits, Owner, SystemClock};
use forest_tests::apache::{Apache, Setup};
use forest_tests::process::signal;
use forest_tests::wait::random_moment;
use morpheus::webdav::{Client, Login, Place, WebDav};
use rustix::process::Signal;

use crate::bench::{Bench, mark, marked};
use crate::dav::Dav;

const URL: &str = "FOREST_TEST_DAV_URL";
const LIVES: usize = 6;
const PAUSES: usize = 3;

/// A lease is taken away after a few seconds, so that the test is short.
fn limits() -> Limits {
    Limits {
        hold: Duration::from_secs(1),
        stale: Duration::from_secs(3),
        give_up: Duration::from_secs(600),
        ..Limits::default()
    }
}

#[test]
fn what_was_acknowledged_outlives_kills_and_pauses() {
    if let Some(url) = env::var_os(URL) {
        write(url.to_str().unwrap());
    }
    let apache = Apache::start(Setup::default());
    let bench = Dav::new(&apache, &Arc::new(apache.client()));
    let url = apache.url(&bench.path());
    let acknowledged = Mutex::new(Vec::new());
    let keep = |names: Vec<String>| acknowledged.lock().unwrap().extend(names);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..LIVES {
                let mut writer = Writer::start(&url);
                let mut names = writer.acknowledged(2);
                // Anywhere in the next update.
                random_moment(Duration::from_millis(50));
                signal(writer.child.id(), Signal::KILL);
                names.extend(writer.rest());
                keep(names);
            }
        });
        scope.spawn(|| {
            let mut writer = Writer::start(&url);
            let mut names = writer.acknowledged(1);
            for _ in 0..PAUSES {
                random_moment(Duration::from_millis(50));
                signal(writer.child.id(), Signal::STOP);
                // Others go on, which proves that a lease it held was taken away.
                let door = bench.other();
                for n in 0..3 {
                    let name = format!("meanwhile-{}-{n}", names.len());
                    mark(&*door, &SystemClock, &Owner::current("other"), &limits(), &name).unwrap();
                    names.push(name);
                }
                signal(writer.child.id(), Signal::CONT);
                names.extend(writer.acknowledged(2));
            }
            signal(writer.child.id(), Signal::KILL);
            names.extend(writer.rest());
            keep(names);
        });
    });
    let (registry, acknowledged) = (bench.registry(), acknowledged.into_inner().unwrap());
    let lost: Vec<_> = acknowledged.iter().filter(|name| !marked(&registry, name)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(acknowledged.len() >= 2 * LIVES + 5 * PAUSES, "{acknowledged:?}");
}

/// A process that writes; killed with its test.
struct Writer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(url: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "stopped::what_was_acknowledged_outlives_kills_and_pauses", "--nocapture"])
            .env(URL, url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next updates that it acknowledges.
    fn acknowledged(&mut self, count: usize) -> Vec<String> {
        let names: Vec<String> = self.names().take(count).collect();
        assert_eq!(names.len(), count, "the writer ended by itself");
        names
    }

    /// Those until its end.
    fn rest(&mut self) -> Vec<String> {
        self.names().collect()
    }

    /// A line that was cut short by the death has no end mark.
    fn names(&mut self) -> impl Iterator<Item = String> {
        let ack = |line: String| Some(line.strip_prefix("ack ")?.strip_suffix(" end")?.to_owned());
        self.lines.by_ref().map_while(Result::ok).filter_map(ack)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Updates until it is killed.
fn write(url: &str) -> ! {
    morpheus::install_tls();
    let place = Place::parse(url).unwrap();
    let login = Login {
        username: forest_tests::apache::USER.to_owned(),
        password: forest_tests::apache::PASSWORD.into(),
    };
    let client = Client::new(&place, login).unwrap();
    let door = WebDav::new(place, Box::new(client));
    let (owner, mut output) = (Owner::current("writer"), std::io::stdout());
    for number in 0.. {
        let name = format!("p{}-{}-{number}", owner.pid, owner.pid_start);
        mark(&door, &SystemClock, &owner, &limits(), &name).unwrap();
        // Fails, and so ends this process, once nobody reads it any more.
        writeln!(output, "ack {name} end").unwrap();
    }
    unreachable!("the numbers do not end")
}
