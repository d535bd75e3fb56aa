//! Hosts of a test: network namespaces on a bridge of their own, with IPv6 addresses that exist nowhere else. Needs
//! root and iproute2. Dropped, nothing of them remains.

use std::net::Ipv6Addr;
use std::process::{Command, Output};

use anyhow::{Context, ensure};

/// A bridge with hosts on it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    hosts: usize,
}

impl Lab {
    /// `hosts` hosts, numbered from 1.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn new(hosts: usize) -> anyhow::Result<Self> {
        let lab = Self { name: format!("fl{}", std::process::id()), hosts };
        let switch = lab.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for n in 1..=hosts {
            lab.add(n)?;
        }
        Ok(lab)
    }

    fn add(&self, n: usize) -> anyhow::Result<()> {
        let (switch, host, port) = (self.switch(), self.host(n), format!("p{n}"));
        ip(&["netns", "add", &host])?;
        ip(&["-n", &host, "link", "set", "lo", "up"])?;
        // Made inside the switch's namespace, so that no name meets one of this machine's.
        ip(&["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &host])?;
        ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"])?;
        let address = format!("{}/64", self.address(n));
        ip(&["-n", &host, "-6", "addr", "add", &address, "dev", "eth0", "nodad"])?;
        ip(&["-n", &host, "link", "set", "eth0", "up"])
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.name)
    }

    /// The namespace of host `n`.
    #[must_use]
    pub fn host(&self, n: usize) -> String {
        format!("{}-h{n}", self.name)
    }

    /// The address of host `n`.
    #[must_use]
    pub fn address(&self, n: usize) -> Ipv6Addr {
        let last = u16::try_from(n).unwrap_or(u16::MAX);
        Ipv6Addr::new(0xfd5a, 0xf0e5, 0x7, 0, 0, 0, 0, last)
    }

    /// Pulls host `n`'s plug.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn cut(&self, n: usize) -> anyhow::Result<()> {
        ip(&["-n", &self.switch(), "link", "set", &format!("p{n}"), "down"])
    }

    /// Puts it back.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn connect(&self, n: usize) -> anyhow::Result<()> {
        ip(&["-n", &self.switch(), "link", "set", &format!("p{n}"), "up"])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for n in 1..=self.hosts {
            let _ = ip(&["netns", "del", &self.host(n)]);
        }
        let _ = ip(&["netns", "del", &self.switch()]);
    }
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let output: Output = Command::new("ip").args(args).output().context("iproute2 is needed")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {}` failed: {}", args.join(" "), said.trim());
    Ok(())
}
