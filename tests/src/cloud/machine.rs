//! A simulated machine: its user-data carried out in a network and a mount namespace of its own, with private /etc,
//! /opt, /run, /usr/local/bin and /var/lib, and the StorageBox's directory where the kernel would have it mounted.
//!
//! systemd is missing: `forest-agent install` becomes `forest-agent run`. Everything else of the user-data is done as
//! it stands, curl's download over TLS among it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use tempfile::TempDir;

/// What a new machine has of this one's /etc.
const ETC: [&str; 6] = ["passwd", "group", "nsswitch.conf", "hosts", "ssl", "ld.so.cache"];

/// The parts of a cloud-config that are used.
#[derive(Deserialize)]
struct CloudConfig {
    write_files: Vec<WrittenFile>,
    runcmd: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct WrittenFile {
    path: String,
    permissions: String,
    content: String,
}

/// A machine that runs.
#[derive(Debug)]
pub struct Machine {
    /// The name of its server.
    pub name: String,
    dir: TempDir,
    first: Child,
}

impl Machine {
    /// Boots it on `host`, a network namespace.
    ///
    /// # Panics
    /// If the user-data is none, or something cannot be made.
    #[must_use]
    pub fn boot(host: &str, name: &str, user_data: &str, share: &Path, certificate: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("machine.").tempdir().expect("a directory");
        let config: CloudConfig = serde_saphyr::from_str(user_data).expect("a cloud-config");
        let mut machine = Self { name: name.to_owned(), dir, first: nothing() };
        machine.furnish();
        for file in &config.write_files {
            machine.write(file);
        }
        let script = machine.script(&config.runcmd, share);
        fs::write(machine.path("boot.sh"), script).expect("the script is written");
        let console = fs::File::create(machine.path("console.log")).expect("a console");
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            host,
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-e",
        ]);
        // The stand-in for NimsForest has no server linked into it: it finds the one that was fetched for the witness.
        command.arg(machine.path("boot.sh")).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/opt/nimsforest/bin");
        // What signs the StorageBox's certificate is known to every machine, in earnest.
        command.env("CURL_CA_BUNDLE", certificate).process_group(0).stdin(Stdio::null());
        command.stdout(console.try_clone().expect("a descriptor")).stderr(console);
        machine.first = command.spawn().expect("it boots");
        machine
    }

    /// Its first process, in whose namespaces everything of it runs.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.first.id()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Everything that was written on its disk lies below.
    #[must_use]
    pub fn disk(&self) -> &Path {
        self.dir.path()
    }

    /// What stands on its console: the log of the boot and of the agent.
    #[must_use]
    pub fn console(&self) -> String {
        fs::read_to_string(self.path("console.log")).unwrap_or_default()
    }

    fn furnish(&self) {
        for part in ["etc/morpheus", "opt", "run", "usr-local-bin", "var-lib", "mnt/forest"] {
            fs::create_dir_all(self.path(part)).expect("a directory");
        }
        for part in ETC {
            let from = Path::new("/etc").join(part);
            if from.exists() {
                let done = Command::new("cp").arg("-a").arg(from).arg(self.path("etc")).status();
                assert!(done.is_ok_and(|status| status.success()), "/etc/{part} is copied");
            }
        }
        fs::write(self.path("etc/machine-id"), format!("{:032x}\n", rand::random::<u128>())).expect("an id");
    }

    /// Where a path of the machine lies on this one.
    fn on_disk(&self, path: &str) -> PathBuf {
        for (part, dir) in [("/etc/", "etc"), ("/run/", "run")] {
            if let Some(rest) = path.strip_prefix(part) {
                return self.path(dir).join(rest);
            }
        }
        panic!("the user-data writes to {path}, which is no machine's own here");
    }

    fn write(&self, file: &WrittenFile) {
        let path = self.on_disk(&file.path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("its directory");
        let mode = u32::from_str_radix(&file.permissions, 8).expect("an octal mode");
        let mut options = fs::OpenOptions::new();
        let mut open =
            options.write(true).create(true).truncate(true).mode(mode).open(&path).expect("a file");
        std::io::Write::write_all(&mut open, file.content.as_bytes()).expect("it is written");
        let found = path.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }

    fn script(&self, commands: &[Vec<String>], share: &Path) -> String {
        let mut script = String::new();
        let mut line = |words: &[&str]| {
            let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(script, "{}", quoted.join(" "));
        };
        let own = |dir: &str| self.path(dir).display().to_string();
        for (dir, at) in [
            ("mnt", "/mnt"),
            ("opt", "/opt"),
            ("usr-local-bin", "/usr/local/bin"),
            ("var-lib", "/var/lib"),
            ("etc", "/etc"),
        ] {
            line(&["mount", "--bind", &own(dir), at]);
        }
        line(&["mount", "--bind", &share.display().to_string(), "/mnt/forest"]);
        line(&["mount", "--bind", &own("run"), "/run"]);
        for command in commands {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            match words.as_slice() {
                // What systemd's unit does; nothing comes back from it.
                [agent, "install"] => line(&["exec", agent, "run"]),
                words => line(words),
            }
        }
        script
    }
}

impl Drop for Machine {
    #[expect(clippy::print_stderr, reason = "the test's own output, shown only when it fails")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = self.console();
            let tail: Vec<&str> = console.lines().rev().take(25).collect();
            eprintln!("--- the console of {}:", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A process that has ended, until there is a better one.
fn nothing() -> Child {
    Command::new("true").spawn().expect("true can be run")
}
