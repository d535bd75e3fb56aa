//! A project of Hetzner Cloud whose servers are guests of the lab, and the laptop that plants there: the fake API on
//! the loopback of the lab's network, a home, a configuration, and the program `morpheus`.

use std::fs::{self, File};
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use forest_tests::hetzner::{FakeHetzner, Hooks, TOKEN};
use forest_tests::vm::storage_box::{NEEDLE, PASSWORD, USER};
use forest_tests::vm::{Guest, Host};
use serde_json::Value;

use crate::stage::Stage;

/// The network of all servers, of which each has a /64, as a provider gives it.
const PREFIX: u8 = 48;
/// Between two looks whether a command has ended.
const LOOK: Duration = Duration::from_millis(50);
/// Far beyond what a machine takes that is just being deleted.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the provider's image does by itself: the kernel of the guests knows no nftables of family inet, so that an agent
/// which manages the firewall could never say that all is well. One line tells it so, before it starts; the user-data
/// stays as it was sent.
const IMAGE: &str = r#"#cloud-config
bootcmd:
- - sh
  - -c
  - |
    mkdir -p /etc/systemd/system/forest-agent.service.d
    printf '[Service]\nExecStartPre=+%s\n' /etc/no-firewall >/etc/systemd/system/forest-agent.service.d/lab.conf
    printf '#!/bin/sh\ngrep -q ^firewall: %s || echo "firewall: { manage: false }" >>%s\n' \
      /etc/morpheus/agent.yaml /etc/morpheus/agent.yaml >/etc/no-firewall
    chmod 755 /etc/no-firewall
"#;

/// What the API did, and who waits until it is so.
struct Order {
    what: Asked,
    done: Sender<()>,
}

enum Asked {
    /// A server with this number, by this request.
    Made(u64, Value),
    /// The server with this number is deleted.
    Gone(u64),
}

/// The project and its laptop.
pub(super) struct Project {
    pub(super) api: FakeHetzner,
    /// Every server that was made: its number, and the request.
    pub(super) made: Vec<(u64, Value)>,
    orders: Receiver<Order>,
    home: PathBuf,
    certificate: PathBuf,
}

/// What a command did.
pub(super) struct Ran {
    /// Its exit code.
    pub(super) code: Option<i32>,
    /// What stood on its screen: both outputs in the order in which they came.
    pub(super) screen: String,
    /// So long it took.
    pub(super) took: Duration,
}

impl Project {
    /// An empty project, and a laptop that never planted anything.
    pub(super) fn new(stage: &Stage) -> anyhow::Result<Self> {
        // Servers have networks of their own, and the laptop has a way into the internet, as far as it can see.
        ip(&["-6", "route", "replace", &format!("{}/{PREFIX}", address(0, 0)), "dev", "br0"])?;
        ip(&["-6", "route", "replace", "default", "dev", "br0"])?;
        let (sender, orders) = channel();
        let home = stage.dir.join("laptop");
        furnish(&home, stage.lab.image())?;
        let api = FakeHetzner::with_hooks(hooks(sender));
        Ok(Self { api, made: Vec::new(), orders, home, certificate: stage.lab.image().join("box.crt") })
    }

    /// `morpheus` with these arguments, and nothing of this process's environment.
    pub(super) fn morpheus(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?.with_file_name("morpheus"));
        command.args(args).env_clear().current_dir(&self.home).stdin(Stdio::null());
        command.env("HOME", &self.home).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HCLOUD_ENDPOINT", self.api.endpoint()).env("HCLOUD_POLL_INTERVAL", "200ms");
        command.env("API_TOKEN", TOKEN).env("BOX_PASSWORD", PASSWORD);
        command.env("SSL_CERT_FILE", &self.certificate);
        Ok(command)
    }

    /// Runs a command to its end, and meanwhile does with the guests what it asks of the API.
    pub(super) fn run(
        &mut self,
        stage: &Stage,
        guests: &mut Vec<Guest>,
        command: &mut Command,
    ) -> anyhow::Result<Ran> {
        let begun = Instant::now();
        let path = self.home.join("screen");
        let screen = File::create(&path)?;
        command.stdout(screen.try_clone()?).stderr(screen);
        let mut child = command.spawn().context("failed to start morpheus")?;
        let status = loop {
            if let Ok(order) = self.orders.recv_timeout(LOOK)
                && let Err(err) = self.carry_out(stage, guests, order)
            {
                let _ = child.kill();
                let _ = child.wait();
                return Err(err);
            }
            if let Some(status) = child.try_wait()? {
                break status;
            }
        };
        let screen = fs::read_to_string(&path)?;
        for secret in [TOKEN, NEEDLE] {
            ensure!(!screen.contains(secret), "a secret is shown");
        }
        Ok(Ran { code: status.code(), screen, took: begun.elapsed() })
    }

    /// Until no guest is left of the servers that were deleted.
    pub(super) fn until_all_are_gone(
        &mut self,
        stage: &Stage,
        guests: &mut Vec<Guest>,
    ) -> anyhow::Result<()> {
        while !guests.is_empty() {
            match self.orders.recv_timeout(PATIENCE) {
                Ok(order) => self.carry_out(stage, guests, order)?,
                Err(_) => bail!("{} guests are still on", guests.len()),
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, stage: &Stage, guests: &mut Vec<Guest>, order: Order) -> anyhow::Result<()> {
        match order.what {
            Asked::Made(id, request) => {
                guests.push(self.switched_on(stage, id, &request)?);
                self.made.push((id, request));
            }
            Asked::Gone(id) => guests.retain(|guest| guest.ip() != address(net(id), 1)),
        }
        // A fake that has ended waits for nothing.
        let _ = order.done.send(());
        Ok(())
    }

    /// The machine behind a server: it is told what the request has, and has the server's name and address.
    fn switched_on(&self, stage: &Stage, id: u64, request: &Value) -> anyhow::Result<Guest> {
        let text = |key: &str| request[key].as_str().with_context(|| format!("a server without {key}"));
        let host = Host { name: text("name")?.to_owned(), ip: address(net(id), 1), prefix: PREFIX };
        let n = u8::try_from(self.made.len() + 1)?;
        let mut guest = stage.lab.guest_as(n, host, text("user_data")?)?;
        guest.vendor_data(IMAGE)?;
        guest.power_on()?;
        Ok(guest)
    }
}

/// What the API shows as the server's address is the guest's.
fn hooks(sender: Sender<Order>) -> Hooks {
    let (made, gone) = (sender.clone(), sender);
    Hooks {
        network: Arc::new(|id| format!("{}/64", address(net(id), 0))),
        created: Some(Arc::new(move |id, request| ask(&made, Asked::Made(id, request)))),
        deleted: Arc::new(move |id| ask(&gone, Asked::Gone(id))),
    }
}

/// Asks, and waits until it is done, or nobody is there who could.
fn ask(orders: &Sender<Order>, what: Asked) {
    let (done, end) = channel();
    if orders.send(Order { what, done }).is_ok() {
        let _ = end.recv();
    }
}

/// A home with a key that opens the guests, and a configuration that leads to the fake and to the StorageBox.
fn furnish(home: &Path, image: &Path) -> anyhow::Result<()> {
    let _ = fs::remove_dir_all(home);
    fs::create_dir_all(home)?;
    for name in ["id", "id.pub"] {
        fs::copy(image.join(name), home.join(name)).with_context(|| format!("no {name} in the image"))?;
    }
    let config = home.join("config.yaml");
    let text = format!(
        "machine:\n  provider: hetzner\n  \
         hetzner: {{ server_type: cx23, image: debian-12, location: fsn1 }}\n  ssh: {{ key_path: {key} }}\n\
         registry:\n  type: storagebox\n  url: https://box.test/morpheus/registry.json\n  \
         storagebox_host: box.test\n  username: {USER}\n  password: \"${{BOX_PASSWORD}}\"\n\
         secrets: {{ hetzner_api_token: \"${{API_TOKEN}}\" }}\n",
        key = home.join("id.pub").display(),
    );
    fs::write(&config, text)?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("ip").args(args).status().context("failed to run ip")?;
    ensure!(status.success(), "`ip {}` failed: {status}", args.join(" "));
    Ok(())
}

/// The number of a server's network; the StorageBox's is 0.
fn net(id: u64) -> u16 {
    u16::try_from(id % 60_000).unwrap_or_default() + 1
}

/// An address of the lab.
fn address(net: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, net, 0, 0, 0, host)
}
