//! What every scenario begins with: a lab whose StorageBox holds a forest without nodes, and its programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use forest_cloud_init::{Download, Engine, EngineKind, Fetch, Sha256, Share, UserData};
use forest_tests::nats;
use forest_tests::vm::storage_box::{PASSWORD, USER};
use forest_tests::vm::{Guest, Lab};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256 as Hasher};

/// The forest of every scenario.
pub(super) const FOREST: &str = "grove";

/// The lab and the programs of its guests.
pub(super) struct Stage {
    pub(super) lab: Lab,
    pub(super) dir: PathBuf,
    agent: Program,
    engine: Program,
}

struct Program {
    bytes: Vec<u8>,
    sha256: Sha256,
}

impl Stage {
    /// Programs are the workspace's own build and the newest nats-server.
    pub(super) fn new(dir: &Path, image: &Path, kept: &Path) -> anyhow::Result<Self> {
        let built = std::env::current_exe()?.with_file_name("forest-agent");
        let (agent, engine) = (dir.join("forest-agent"), nats::server());
        strip(&built, &agent)?;
        let stage = Self {
            agent: Program::read(&agent)?,
            engine: Program::read(&engine)?,
            lab: Lab::new(dir, image, kept)?,
            dir: dir.to_owned(),
        };
        Ok(stage)
    }

    /// A StorageBox as the laptop leaves it before the first node: the forest's record, the programs.
    pub(super) fn fresh(&mut self) -> anyhow::Result<()> {
        self.lab.storage.renew()?;
        self.lab.storage.put("bin/forest-agent", &self.agent.bytes)?;
        self.lab.storage.put("bin/nats-server", &self.engine.bytes)?;
        let now = "2026-11-22T20:00:00Z";
        let forest = json!({"id": FOREST, "provider": "hetzner", "status": "active", "created_at": now});
        let registry = json!({"version": 1, "updated_at": now, "forests": {FOREST: forest}, "nodes": {}});
        self.lab.storage.put("registry.json", format!("{registry:#}\n").as_bytes())
    }

    /// Puts the program `share-client` among the others.
    pub(super) fn put_client(&self) -> anyhow::Result<()> {
        let built = std::env::current_exe()?.with_file_name("share-client");
        let stripped = self.dir.join("share-client");
        strip(&built, &stripped)?;
        self.lab.storage.put("bin/share-client", &fs::read(&stripped)?)
    }

    /// The agent that travels, as a file.
    pub(super) fn agent(&self) -> PathBuf {
        self.dir.join("forest-agent")
    }

    /// What node `n` is told.
    pub(super) fn plan(&self, n: u8) -> UserData {
        UserData {
            forest: FOREST.parse().expect("an id"),
            node: format!("{FOREST}-node-{n}").parse().expect("an id"),
            share: Share {
                source: "//box.test/backup/morpheus".into(),
                username: USER.into(),
                password: SecretString::from(PASSWORD),
            },
            agent: Fetch {
                download: self.agent.at("https://box.test/morpheus/bin/forest-agent"),
                login: true,
            },
            engine: Engine {
                kind: EngineKind::NatsServer,
                download: Some(self.engine.at("file:///mnt/forest/bin/nats-server")),
            },
            witness: None,
        }
    }

    /// Guest `n`, told this, and not yet switched on.
    ///
    /// One line is told beside it: the kernel of the guests knows no nftables of family inet, so that the agent
    /// could never say that all is well. What it says of that kernel, `refusals` shows.
    pub(super) fn off(&self, n: u8, plan: &UserData) -> anyhow::Result<Guest> {
        let text = plan.render()?;
        let text = text.expose_secret();
        let (engine, managed) = ("\n    engine:\n", "\n    firewall: { manage: false }\n    engine:\n");
        ensure!(text.matches(engine).count() == 1, "agent.yaml has another shape than it had");
        self.lab.guest(n, &text.replace(engine, managed))
    }

    /// Guest `n`, told this and nothing else, and not yet switched on.
    pub(super) fn off_as_it_is(&self, n: u8, plan: &UserData) -> anyhow::Result<Guest> {
        self.lab.guest(n, plan.render()?.expose_secret())
    }

    /// Guest `n`, told this, and switched on.
    pub(super) fn planted(&self, n: u8, plan: &UserData) -> anyhow::Result<Guest> {
        let mut guest = self.off(n, plan)?;
        guest.power_on()?;
        Ok(guest)
    }

    /// The registry as it lies on the StorageBox.
    pub(super) fn registry(&self) -> anyhow::Result<Value> {
        let path: PathBuf = self.lab.storage.forest().join("registry.json");
        let text = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
    }

    /// The entries of the forest's nodes.
    pub(super) fn entries(&self) -> anyhow::Result<Vec<Value>> {
        Ok(self.registry()?["nodes"][FOREST].as_array().cloned().unwrap_or_default())
    }
}

impl Program {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
        let digest: String = Hasher::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { sha256: digest.parse()?, bytes })
    }

    fn at(&self, url: &str) -> Download {
        Download { url: url.parse().expect("a URL"), sha256: self.sha256.clone() }
    }
}

/// Without its symbols it travels in a third of the time.
fn strip(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("strip").arg("-o").arg(to).arg(from).status().context("failed to run strip")?;
    ensure!(status.success(), "strip {} failed: {status}", from.display());
    Ok(())
}

/// A line of what was seen.
pub(super) fn saw(what: &str, value: impl std::fmt::Display) {
    println!("    {what}: {value}");
}

/// A number that the environment gives.
pub(super) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
