//! One virtual machine: switched on, asked by ssh, cut off, and its power cut.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::run;
use crate::http;
use crate::wait::{pause, until};

/// cloud-init's last word on the console.
const FINISHED: &str = "finished at";
/// Far beyond what a boot takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// Who a guest is in its network.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its hostname.
    pub name: String,
    /// Its address.
    pub ip: Ipv6Addr,
    /// The length of the network's prefix.
    pub prefix: u8,
}

/// A guest. Dropped, its power is cut.
#[derive(Debug)]
pub struct Guest {
    n: u8,
    host: Host,
    dir: PathBuf,
    image: PathBuf,
    power: Option<Child>,
    kernel: Vec<String>,
}

impl Guest {
    pub(super) fn new(n: u8, host: Host, dir: &Path, image: &Path, user_data: &str) -> anyhow::Result<Self> {
        let (dir, image) = (dir.to_owned(), image.to_owned());
        let this = Self { n, host, dir, image, power: None, kernel: Vec::new() };
        this.seed(user_data)?;
        Ok(this)
    }

    /// The CD that tells cloud-init who the guest is.
    fn seed(&self, user_data: &str) -> anyhow::Result<()> {
        let seed = self.dir.join("seed");
        fs::create_dir_all(&seed)?;
        fs::write(seed.join("user-data"), user_data)?;
        let name = self.name();
        fs::write(seed.join("meta-data"), format!("instance-id: {name}\nlocal-hostname: {name}\n"))?;
        // Without these two, networkd waits for a router that is not there.
        let network = format!(
            "version: 2\nethernets:\n  vec0:\n    addresses: [\"{}/{}\"]\n    accept-ra: false\n    link-local: []\n",
            self.host.ip, self.host.prefix
        );
        fs::write(seed.join("network-config"), network)?;
        self.burn()
    }

    /// What its provider's image does by itself at the first boot: a cloud-config beside the user-data.
    ///
    /// # Errors
    /// The CD cannot be made anew.
    pub fn vendor_data(&self, text: &str) -> anyhow::Result<()> {
        fs::write(self.dir.join("seed/vendor-data"), text)?;
        self.burn()
    }

    fn burn(&self) -> anyhow::Result<()> {
        let (iso, seed) = (self.dir.join("seed.iso"), self.dir.join("seed").display().to_string());
        let iso = iso.to_string_lossy();
        let made =
            run("xorriso", &["-as", "genisoimage", "-quiet", "-o", &iso, "-V", "cidata", "-J", "-r", &seed]);
        made.map(drop)
    }

    /// Adds a word to the kernel's command line from the next power-on.
    pub fn kernel_option(&mut self, option: &str) {
        self.kernel.push(option.to_owned());
    }

    /// Its hostname.
    #[must_use]
    pub fn name(&self) -> String {
        self.host.name.clone()
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> Ipv6Addr {
        self.host.ip
    }

    /// Switches it on; its disk is as it was left.
    ///
    /// # Errors
    /// User-Mode Linux cannot be started.
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        ensure!(self.power.is_none(), "{} is on already", self.name());
        let (dir, n) = (self.dir.display(), self.n);
        let console = File::create(self.console_file())?;
        let child = Command::new("linux.uml")
            .env("TMPDIR", &self.dir)
            // Without it, no guest starts on a processor with AMX.
            .env("LD_PRELOAD", self.image.join("xstate.so"))
            .arg(format!("umid={}", self.name()))
            .arg(format!("uml_dir={dir}"))
            .arg("mem=384M")
            .arg(format!("ubd0={dir}/disk.cow,{}/base.img", self.image.display()))
            .arg(format!("ubd1r={dir}/seed.iso"))
            .args(["root=/dev/ubda", "rw"])
            .arg(format!(
                "vec0:transport=tap,ifname=tap{n},mac=02:77:00:00:00:{:02x},depth=128,gro=1",
                0x10 + n
            ))
            .args([
                "con=null",
                "con0=null,fd:1",
                "console=tty0",
                "net.ifnames=0",
                "quiet",
                "systemd.show_status=1",
            ])
            .args(&self.kernel)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .process_group(0)
            .spawn()
            .context("failed to start linux.uml")?;
        self.power = Some(child);
        Ok(())
    }

    /// Pulls the plug: what was not on the disk is lost.
    pub fn power_cut(&mut self) {
        let Some(mut child) = self.power.take() else { return };
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let _ = child.wait();
    }

    /// Shuts it down in order, and switches it on again: a reboot. (One that User-Mode Linux does by itself comes back
    /// without a network: its tap is still held.)
    ///
    /// # Errors
    /// It does not shut down.
    pub fn reboot(&mut self) -> anyhow::Result<()> {
        // The answer is cut off.
        let _ = self.ssh("systemctl poweroff", "")?;
        let mut child = self.power.take().context("it is off")?;
        let begun = Instant::now();
        while child.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                self.power = Some(child);
                bail!("{} does not shut down", self.name());
            }
            pause();
        }
        self.power_on()
    }

    /// Waits until cloud-init says that it is done, well or not.
    ///
    /// # Errors
    /// It never does, or the guest dies.
    pub fn booted(&mut self) -> anyhow::Result<()> {
        let name = self.name();
        let finished = |guest: &mut Self| {
            let console = guest.console();
            Ok(console
                .lines()
                .any(|line| line.contains("Cloud-init v") && line.contains(FINISHED))
                .then_some(()))
        };
        self.wait(&format!("cloud-init of {name} finishes"), finished)
    }

    /// Looks until `look` gives something.
    ///
    /// # Errors
    /// It never does, the guest dies, or `look` fails.
    pub fn wait<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            if let Some(status) = self.power.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                bail!("{} died ({status}) while waiting until {what}", self.name());
            }
            ensure!(begun.elapsed() < PATIENCE, "waited {} s in vain until {what}", PATIENCE.as_secs());
            pause();
        }
    }

    /// What it wrote to its console since it was switched on.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.console_file()).unwrap_or_default()).replace('\r', "")
    }

    fn console_file(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// Runs a line of shell in it, as root; gives what it printed.
    ///
    /// # Errors
    /// It fails, or the guest does not answer.
    pub fn sh(&self, line: &str) -> anyhow::Result<String> {
        self.sh_with(line, "")
    }

    /// As [`Self::sh`], with something on its standard input: for what must be on no command line.
    ///
    /// # Errors
    /// As [`Self::sh`].
    pub fn sh_with(&self, line: &str, input: &str) -> anyhow::Result<String> {
        let output = self.ssh(line, input)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`{line}` in {} failed ({}): {}",
            self.name(),
            output.status,
            said.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Runs a line of shell in it, whatever comes of it.
    ///
    /// # Errors
    /// ssh cannot be started.
    pub fn ssh(&self, line: &str, input: &str) -> anyhow::Result<Output> {
        let mut child = self.start(line)?;
        // A command that does not read it may have ended already.
        let _ = child.stdin.take().context("a pipe")?.write_all(input.as_bytes());
        Ok(child.wait_with_output()?)
    }

    /// Starts a line of shell in it, with pipes to and from it.
    ///
    /// # Errors
    /// ssh cannot be started.
    pub fn start(&self, line: &str) -> anyhow::Result<Child> {
        let mut ssh = self.ssh_command();
        ssh.arg(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ssh.spawn().context("failed to start ssh")
    }

    /// Lets a port of this machine's loopback lead to the same one of the guest's, for as long as what is returned
    /// lives.
    ///
    /// # Errors
    /// ssh cannot be started.
    pub fn forward(&self, port: u16) -> anyhow::Result<Tunnel> {
        let mut ssh = self.ssh_command();
        ssh.args(["-N", "-L", &format!("127.0.0.1:{port}:127.0.0.1:{port}")]);
        let child = ssh.stdin(Stdio::null()).spawn().context("failed to start ssh")?;
        let tunnel = Tunnel(child);
        until(&format!("port {port} leads into {}", self.name()), || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        Ok(tunnel)
    }

    fn ssh_command(&self) -> Command {
        let mut command = Command::new("ssh");
        command
            .arg("-i")
            .arg(self.image.join("id"))
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
            ])
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10"])
            .arg(format!("root@{}", self.ip()));
        command
    }

    /// Its /health, asked from outside; `None` while nobody answers.
    #[must_use]
    pub fn health(&self) -> Option<Value> {
        let answer = http::get(SocketAddr::new(self.ip().into(), 8223), "/health").ok()?;
        serde_json::from_str(&answer.body).ok()
    }

    /// Waits until its /health, asked from outside, satisfies `condition`.
    ///
    /// # Errors
    /// It never does; the error shows the last one.
    pub fn until_health(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let mut last = None;
        let found = self.wait(what, |guest| {
            last = guest.health();
            Ok(last.clone().filter(|health| condition(health)))
        });
        found.with_context(|| {
            format!("its last /health: {}", last.map_or_else(|| "none".into(), |health| health.to_string()))
        })
    }

    /// Waits until its /health passes.
    ///
    /// # Errors
    /// It never does.
    pub fn healthy(&mut self) -> anyhow::Result<Value> {
        let what = format!("{} is healthy", self.name());
        self.until_health(&what, |health| health["status"] == "pass" && health["step"] == "ready")
    }

    /// Saves its console, and its journal if it still answers.
    pub(super) fn keep(&self, dir: &Path) -> anyhow::Result<()> {
        let file = |what: &str| dir.join(format!("{}-{what}", self.name()));
        fs::write(file("console.log"), self.console())?;
        if self.power.is_some() {
            for (what, line) in [
                ("journal.log", "journalctl --no-pager -o short-precise"),
                ("cloud-init.log", "cat /var/log/cloud-init.log"),
            ] {
                fs::write(file(what), self.ssh(line, "")?.stdout)?;
            }
        }
        Ok(())
    }
}

/// A port forwarded; dropped, it is so no longer.
#[derive(Debug)]
pub struct Tunnel(Child);

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.power_cut();
    }
}
