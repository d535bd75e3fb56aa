//! A laptop: morpheus as a program, on a host of the test's, with a home, a configuration and a key of its own.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::Cloud;
use crate::apache::{PASSWORD, USER};
use crate::bounded::Started;
use crate::hetzner::TOKEN;
use crate::node::{agent_binary, built};
use crate::programs::script;

/// Where the share of the forests would be mounted from.
const STORAGE_HOST: &str = "box.test";

/// An ssh, as far as morpheus goes: what follows the address is run by a shell of the machine; of a tunnel it says that
/// it is wanted, and waits.
const SSH: &str = r#"#!/bin/sh
while [ "$1" != -- ]; do [ "$1" = -L ] && forward=$2; shift; done
ip=$2
shift 2
pid=$(sed -n "s/^$ip //p" "$HOME/machines")
[ -n "$pid" ] && [ -e "/proc/$pid/ns/net" ] || { echo "ssh: connect to host $ip port 22: Connection timed out" >&2; exit 255; }
[ -n "$forward" ] && { echo "$$ $pid $forward" > "$HOME/tunnel.new"; mv "$HOME/tunnel.new" "$HOME/tunnel"; exec sleep 600; }
PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin exec nsenter --target "$pid" --net --mount sh -c "$*"
"#;

/// A laptop.
pub struct Laptop {
    /// Its home; nothing is written elsewhere.
    pub home: TempDir,
    host: String,
    endpoint: String,
    certificate: PathBuf,
}

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The exit code.
    pub code: Option<i32>,
    /// Its stdout.
    pub out: String,
    /// Its stderr.
    pub err: String,
}

impl Said {
    /// Takes it from what came of a command.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The JSON it printed.
    ///
    /// # Panics
    /// If it printed none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }

    /// The same, once the exit code was looked at.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }
}

impl Said {
    /// The same, once it ended with `code`, or was refused for `reason`.
    ///
    /// # Panics
    /// If it ended otherwise.
    #[track_caller]
    pub fn exits_or(&self, code: i32, reason: &str) {
        let other = self.code != Some(code) && self.json()["error"]["reason"] != reason;
        assert!(!other, "{}\n{}", self.out, self.err);
    }
}

impl Laptop {
    pub(super) fn new(cloud: &Cloud, host: &str) -> Self {
        let laptop = Self {
            home: tempfile::Builder::new().prefix("laptop.").tempdir().expect("a home"),
            host: host.to_owned(),
            endpoint: cloud.api.endpoint(),
            certificate: cloud.storage.certificate(),
        };
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEo0k1sLdPq4kzMXv3lVyZ2g7QfWbq0m4m8t3n1o2p3q me@laptop\n";
        std::fs::create_dir(laptop.path(".ssh")).expect("a directory");
        std::fs::write(laptop.path(".ssh/id_ed25519.pub"), key).expect("a key");
        laptop.configure(&laptop.config(&cloud.storage.url("morpheus/registry.json")));
        laptop
    }

    /// A path in its home.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The configuration that leads to the cloud.
    fn config(&self, url: &str) -> String {
        format!(
            "machine:\n  provider: hetzner\n  hetzner: {{ server_type: cx23, server_type_fallback: [cpx22], image: debian-12, location: fsn1 }}\n\
             registry:\n  type: storagebox\n  url: \"{url}\"\n  storagebox_host: {STORAGE_HOST}\n  username: {USER}\n  \
             password: \"${{CANARY}}\"\nsecrets: {{ hetzner_api_token: \"${{API_TOKEN}}\" }}\n"
        )
    }

    /// Puts another configuration in place.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.path("config.yaml"), text).expect("the configuration is written");
    }

    /// Changes the configuration.
    ///
    /// # Panics
    /// If it has no such text.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("config.yaml")).expect("a configuration");
        assert!(text.contains(from), "{text}");
        self.configure(&text.replace(from, to));
    }

    /// morpheus with nothing of the tester's environment.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host]).arg(built("morpheus")).args(args);
        command.env_clear().current_dir(self.home.path()).stdin(Stdio::null());
        let own = self.path("bin");
        command.env("HOME", self.home.path());
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", own.display()));
        command.env("HCLOUD_ENDPOINT", &self.endpoint).env("HCLOUD_POLL_INTERVAL", "10ms");
        command.env("API_TOKEN", TOKEN).env("CANARY", PASSWORD).env("SSL_CERT_FILE", &self.certificate);
        command
    }

    /// Puts an ssh into its `bin` that logs in to these machines, by their addresses and first processes.
    pub(super) fn reaches(&self, machines: impl Iterator<Item = (Ipv6Addr, u32)>) {
        let known: String = machines.map(|(ip, pid)| format!("{ip} {pid}\n")).collect();
        std::fs::write(self.path("machines"), known).expect("they are written");
        std::fs::create_dir_all(self.path("bin")).expect("a directory");
        script(&self.path("bin/ssh"), SSH);
    }

    /// `plant cloud` with this nats-server, and these arguments more.
    #[must_use]
    pub fn plant(&self, engine: &Path, args: &[&str]) -> Command {
        self.plant_with("--engine-binary", engine, args)
    }

    /// `plant cloud` with an engine given by the option `by`, and these arguments more.
    #[must_use]
    pub fn plant_with(&self, by: &str, engine: &Path, args: &[&str]) -> Command {
        let mut command = self.command(&["plant", "cloud", "--agent-binary"]);
        command.arg(agent()).arg(by).arg(engine).args(args);
        command
    }

    /// Runs a command of morpheus to its end.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Said {
        said(&mut self.command(args))
    }
}

/// Runs a command to its end. No secret is ever printed.
///
/// # Panics
/// If it cannot be run, hangs, or prints a secret.
#[must_use]
#[track_caller]
pub fn said(command: &mut Command) -> Said {
    ended(Started::new(command))
}

/// What a command said that was started before.
///
/// # Panics
/// If it hangs, or prints a secret.
#[must_use]
#[track_caller]
pub fn ended(command: Started) -> Said {
    let said = Said::of(&command.ended());
    for secret in [TOKEN, PASSWORD] {
        assert!(!said.out.contains(secret) && !said.err.contains(secret), "a secret is shown: {said:?}");
    }
    said
}

/// The agent of this build without its symbols, which are most of it; made once.
///
/// # Panics
/// Without binutils.
#[must_use]
pub fn agent() -> PathBuf {
    static STRIPPED: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    STRIPPED
        .get_or_init(|| {
            let full = agent_binary();
            let slim = full.with_file_name("forest-agent.slim");
            let made = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
            if made(&slim) < made(&full) {
                let new = slim.with_extension(format!("slim.{}", std::process::id()));
                let status = Command::new("strip").arg("-o").arg(&new).arg(&full).status();
                assert!(status.is_ok_and(|status| status.success()), "strip is needed (binutils)");
                std::fs::rename(&new, &slim).expect("it is put in place");
            }
            slim
        })
        .clone()
}
