//! Are a node's ports free? Asked of the kernel by binding each for a moment.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use forest_core::reason::Reason;

use super::network::Network;
use crate::failure::Failure;

/// Client, cluster, monitoring, agent, and those of the witness.
const PORTS: [u16; 6] = [4222, 6222, 8222, 8223, 4223, 6223];

/// Checks that a node can listen at `ip`; NimsForest's monitoring wants its port on all addresses.
///
/// # Errors
/// [`Failure`] naming the port, and what may hold it.
pub fn check(ip: Ipv4Addr, nimsforest: bool) -> Result<(), Failure> {
    PORTS.iter().try_for_each(|port| bind(SocketAddr::from((ip, *port))))?;
    if nimsforest { bind((Ipv4Addr::UNSPECIFIED, 8222).into()) } else { Ok(()) }
}

fn bind(address: SocketAddr) -> Result<(), Failure> {
    let Err(err) = TcpListener::bind(address) else {
        return Ok(());
    };
    let port = address.port();
    let message = if err.kind() == ErrorKind::AddrInUse {
        let service = match port {
            4222 => {
                ", such as the service of a nats-server package (sudo systemctl disable --now nats-server)"
            }
            _ => "",
        };
        format!(
            "{address} is taken by another program{service}: `ss -ltnp sport = :{port}` names it; stop it"
        )
    } else {
        format!("cannot listen at {address}: {err}; is the loopback interface up?")
    };
    Err(Failure::new(Reason::PortTaken, message))
}

/// The networks of the loopback in which anybody listens.
#[must_use]
pub fn busy() -> BTreeSet<Network> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().filter_map(listener).filter_map(Network::of).collect()
}

/// The address of a line of /proc/net/tcp that stands for a listener (state 0A).
fn listener(line: &str) -> Option<Ipv4Addr> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (ip, _) = fields.next()?.split_once(':')?;
    (fields.nth(1)? == "0A").then_some(())?;
    // Four bytes in network order, printed as one number of this machine.
    Some(Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_makes_its_network_busy_and_its_port_taken() {
        let ip = Ipv4Addr::new(127, 231, 77, 1);
        let _held = TcpListener::bind((ip, 8223)).unwrap();
        assert!(busy().contains(&"127.231.77".parse().unwrap()));
        let err = check(ip, false).unwrap_err();
        assert!(
            err.reason == Reason::PortTaken && err.message.starts_with("127.231.77.1:8223 is taken"),
            "{err}"
        );
    }

    #[test]
    fn only_listeners_count() {
        let line = |state| format!("   0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000");
        assert_eq!(
            listener(&line("0A")).is_some(),
            cfg!(target_endian = "little") || listener(&line("0A")).is_some()
        );
        assert_eq!(listener(&line("01")), None);
        assert_eq!(listener("  sl  local_address rem_address   st"), None);
    }
}
