//! What an ssh with `-N -L` does, for the one in a laptop's `bin`, which only says that it was asked to.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::{Cloud, LAPTOP, Laptop, Servers};
use crate::process;
use crate::wait::{pause, until};

/// A port of the laptop's that leads to a machine, for as long as its ssh runs.
#[derive(Debug)]
pub struct Tunnel {
    /// The ssh.
    pub ssh: u32,
    /// The port of the laptop's.
    pub port: u16,
}

impl Cloud {
    /// Waits until a laptop's ssh was asked for a tunnel, and makes it.
    ///
    /// # Panics
    /// If none is asked for, or it is no tunnel between loopbacks.
    #[must_use]
    #[track_caller]
    pub fn tunnel(&self, laptop: &Laptop) -> Tunnel {
        let asked = laptop.path("tunnel");
        let line = until("a tunnel is asked for", || std::fs::read_to_string(&asked).ok());
        std::fs::remove_file(&asked).expect("it is read once");
        let words: Vec<&str> = line.split_whitespace().collect();
        let [ssh, machine, forward] = words[..] else { panic!("{line}") };
        let ports = forward.strip_prefix("127.0.0.1:").and_then(|rest| rest.split_once(":127.0.0.1:"));
        let (from, to) = ports.unwrap_or_else(|| panic!("{forward} does not lead from loopback to loopback"));
        let number = |text: &str| text.parse::<u16>().expect("a port");
        let (ssh, machine) = (ssh.parse().expect("a pid"), machine.parse().expect("a pid"));
        let tunnel = Tunnel { ssh, port: number(from) };
        let listener = self.servers.lab.listen(LAPTOP, (Ipv4Addr::LOCALHOST, tunnel.port));
        let (servers, to) = (Arc::clone(&self.servers), number(to));
        thread::spawn(move || servers.forward(&listener, ssh, machine, to));
        tunnel
    }

    /// Somebody on the laptop listens at this port.
    #[must_use]
    pub fn laptop_listens(&self, port: u16) -> TcpListener {
        self.servers.lab.listen(LAPTOP, (Ipv4Addr::LOCALHOST, port))
    }

    /// A connection from the laptop to a port of its own.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn laptops_own(&self, port: u16) -> io::Result<TcpStream> {
        self.servers.lab.inside(LAPTOP, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)))
    }
}

impl Servers {
    /// Until `ssh` is gone.
    fn forward(&self, listener: &TcpListener, ssh: u32, machine: u32, port: u16) {
        listener.set_nonblocking(true).expect("a socket");
        let host = self.standing().values().find_map(|(host, standing)| match standing {
            super::Standing::Machine(found) => (found.pid() == machine).then_some(*host),
            _ => None,
        });
        let host = host.expect("the machine runs");
        while process::runs(ssh) {
            let Ok((near, _)) = listener.accept() else {
                pause();
                continue;
            };
            near.set_nonblocking(false).expect("a socket");
            if let Ok(far) = self.lab.inside(host, || TcpStream::connect((Ipv4Addr::LOCALHOST, port))) {
                let ends = || Ok::<_, io::Error>((near.try_clone()?, far.try_clone()?));
                let (mut near_again, mut far_again) = ends().expect("descriptors");
                let (mut near, mut far) = (near, far);
                thread::spawn(move || io::copy(&mut near, &mut far));
                thread::spawn(move || io::copy(&mut far_again, &mut near_again));
            }
        }
    }
}
