//! Hosts of a test: network namespaces on a bridge of their own, with IPv6 addresses that exist nowhere else. Needs
//! root and iproute2. Dropped, nothing of them remains.

use std::fs::File;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process;
use crate::wait::until;

/// After this time without an answer the packets of a connection were dropped; a refusal comes at once.
const SILENCE: Duration = Duration::from_millis(700);

/// How an attempt to connect went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Somebody listens.
    Open,
    /// Nobody listens.
    Refused,
    /// No answer at all.
    Dropped,
}

/// A bridge with hosts on it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    hosts: AtomicUsize,
}

impl Lab {
    /// `hosts` hosts, numbered from 1.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn new(hosts: usize) -> anyhow::Result<Self> {
        static LABS: AtomicUsize = AtomicUsize::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let lab = Self { name: format!("fl{}-{number}", std::process::id()), hosts: AtomicUsize::new(0) };
        let switch = lab.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for _ in 0..hosts {
            lab.join()?;
        }
        Ok(lab)
    }

    /// One host more; its number.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn join(&self) -> anyhow::Result<usize> {
        let n = self.hosts.fetch_add(1, Ordering::Relaxed) + 1;
        self.add(n)?;
        Ok(n)
    }

    /// Takes host `n` away: whatever runs there is killed.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn leave(&self, n: usize) -> anyhow::Result<()> {
        let host = self.host(n);
        until(&format!("nothing runs on {host}"), || {
            let pids = ip(&["netns", "pids", &host]).unwrap_or_default();
            let pids: Vec<u32> = pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            pids.iter().for_each(|pid| process::signal(*pid, Signal::KILL));
            pids.iter().all(|pid| !process::runs(*pid)).then_some(())
        });
        ip(&["netns", "del", &host]).map(drop)
    }

    /// Gives host `n` one address more, in a network that all hosts are in.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn address_more(&self, n: usize, address: Ipv6Addr, prefix: u8) -> anyhow::Result<()> {
        let address = format!("{address}/{prefix}");
        ip(&["-n", &self.host(n), "-6", "addr", "add", &address, "dev", "eth0", "nodad"]).map(drop)
    }

    /// Lets host `n` believe that all the world is behind its cable.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn route_everything(&self, n: usize) -> anyhow::Result<()> {
        ip(&["-n", &self.host(n), "-6", "route", "add", "default", "dev", "eth0"]).map(drop)
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
        ip(&["-n", &host, "link", "set", "eth0", "up"]).map(drop)
    }

    /// Connects from host `n`, and says how it went.
    ///
    /// # Panics
    /// If the host is not there.
    #[must_use]
    pub fn reach(&self, n: usize, to: impl Into<SocketAddr>) -> Reach {
        let to = to.into();
        match self.inside(n, move || TcpStream::connect_timeout(&to, SILENCE)) {
            Ok(_) => Reach::Open,
            Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => Reach::Refused,
            Err(err) if err.kind() == io::ErrorKind::TimedOut => Reach::Dropped,
            Err(err) => panic!("{to} from host {n}: {err}"),
        }
    }

    /// Listens on host `n`: the kernel answers whoever connects.
    ///
    /// # Panics
    /// If the host is not there or the address is taken.
    #[must_use]
    pub fn listen(&self, n: usize, at: impl Into<SocketAddr>) -> TcpListener {
        let at = at.into();
        self.inside(n, move || TcpListener::bind(at)).expect("the address is free")
    }

    /// Runs a program on host `n`; what it printed.
    ///
    /// # Errors
    /// What the program says.
    pub fn run(&self, n: usize, command: &[&str]) -> anyhow::Result<String> {
        let host = self.host(n);
        ip(&[&["netns", "exec", &host], command].concat())
    }

    /// Carries out `work` in a thread on host `n`; a socket stays there, and so do the threads that it starts.
    ///
    /// # Panics
    /// If the host is not there.
    pub fn inside<T: Send>(&self, n: usize, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.host(n))).expect("the host is there");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter the host");
                work()
            });
            thread.join().expect("the thread ends well")
        })
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
        ip(&["-n", &self.switch(), "link", "set", &format!("p{n}"), "down"]).map(drop)
    }

    /// Puts it back.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn connect(&self, n: usize) -> anyhow::Result<()> {
        ip(&["-n", &self.switch(), "link", "set", &format!("p{n}"), "up"]).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for n in 1..=self.hosts.load(Ordering::Relaxed) {
            let _ = ip(&["netns", "del", &self.host(n)]);
        }
        let _ = ip(&["netns", "del", &self.switch()]);
    }
}

/// Takes away the names of hosts whose tests were killed before they could.
fn sweep() {
    let named = ip(&["netns", "list"]).unwrap_or_default();
    let names = named.lines().filter_map(|line| line.split_whitespace().next());
    for name in names {
        let pid = name.strip_prefix("fl").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        // Of our own number there is none yet: it was another's before.
        if pid.is_some_and(|pid| pid == std::process::id() || !process::runs(pid)) {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(args: &[&str]) -> anyhow::Result<String> {
    let output: Output = Command::new("ip").args(args).output().context("iproute2 is needed")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {}` failed: {}", args.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
