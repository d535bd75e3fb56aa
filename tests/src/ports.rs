//! Ports that are a test's own. One that the kernel says is free, and that is let go again, is anybody's: a
//! connection going out takes it, or another test.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

/// A TCP port of this machine at which nobody listens, kept from other tests until this is dropped.
#[derive(Debug)]
pub struct Port {
    /// Its number, below those that the kernel hands out.
    pub number: u16,
    /// Who has the UDP port has the TCP port of the same number.
    _claim: UdpSocket,
}

/// Claims a port.
#[must_use]
pub fn claim() -> Port {
    loop {
        let number = rand::random_range(10_000..30_000);
        let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        if any.iter().all(|ip| is_free(*ip, number)) {
            return Port { number, _claim: claim };
        }
    }
}

/// A family of addresses that the machine does not have is no obstacle.
fn is_free(ip: IpAddr, port: u16) -> bool {
    TcpListener::bind((ip, port)).map_or_else(|err| err.kind() != io::ErrorKind::AddrInUse, |_| true)
}
