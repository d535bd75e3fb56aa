//! Who holds a TCP port: the kernel's table of sockets, then the process that has the socket open.
//!
//! Reads /proc and nothing else. The process of another user is seen only with the right to look into it.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Known.
    Process {
        /// Its id.
        pid: u32,
        /// Its name, as the kernel has it: at most 15 bytes.
        name: String,
    },
    /// Somebody listens, and this process may not see who.
    Hidden,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "pid {pid} ({name})"),
            Self::Hidden => f.write_str("a process of another user"),
        }
    }
}

/// A listening TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    ip: IpAddr,
    port: u16,
    inode: u64,
}

/// Who listens on `port`, on `ip` or on every address; `None`: nobody. Blocks for some milliseconds.
#[must_use]
pub fn holder(ip: Option<IpAddr>, port: u16) -> Option<Holder> {
    let proc = Path::new("/proc");
    let tables =
        ["net/tcp", "net/tcp6"].map(|table| fs::read_to_string(proc.join(table)).unwrap_or_default());
    let inodes: Vec<_> = tables
        .iter()
        .flat_map(|table| listeners(table))
        .filter(|listener| listener.port == port && overlaps(listener.ip, ip))
        .map(|listener| listener.inode)
        .collect();
    if inodes.is_empty() {
        return None;
    }
    Some(owner(proc, &inodes).unwrap_or(Holder::Hidden))
}

fn overlaps(held: IpAddr, wanted: Option<IpAddr>) -> bool {
    wanted.is_none_or(|wanted| held.is_unspecified() || wanted.is_unspecified() || held == wanted)
}

/// The listening sockets in the text of /proc/net/tcp or tcp6.
fn listeners(table: &str) -> Vec<Listener> {
    const LISTEN: &str = "0A";
    let parse = |line: &str| {
        let mut fields = line.split_whitespace();
        let (ip, port) = fields.nth(1)?.split_once(':')?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        let listener = Listener { ip: parse_ip(ip)?, port: u16::from_str_radix(port, 16).ok()?, inode };
        (state == LISTEN).then_some(listener)
    };
    table.lines().filter_map(parse).collect()
}

/// The kernel prints addresses as words of 32 bits in the machine's byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let mut bytes = [0; 16];
    let words = hex.len() / 8;
    for (index, word) in bytes.chunks_mut(4).take(words).enumerate() {
        let text = hex.get(index * 8..index * 8 + 8)?;
        word.copy_from_slice(&u32::from_str_radix(text, 16).ok()?.to_ne_bytes());
    }
    match words {
        1 => Some(Ipv4Addr::from([bytes[0], bytes[1], bytes[2], bytes[3]]).into()),
        4 => Some(Ipv6Addr::from(bytes).to_canonical()),
        _ => None,
    }
}

fn owner(proc: &Path, inodes: &[u64]) -> Option<Holder> {
    let links: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let holds = |pid: u32| {
        let fds = fs::read_dir(proc.join(format!("{pid}/fd"))).ok()?;
        fds.flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .find(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
    };
    let pid = fs::read_dir(proc)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid| holds(*pid).is_some())?;
    let name = fs::read_to_string(proc.join(format!("{pid}/comm"))).unwrap_or_default();
    Some(Holder::Process { pid, name: name.trim_end().escape_default().to_string() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn reads_the_kernels_tables() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:107E 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0\n   \
             1: 0100007F:107E 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0\n";
        let found = listeners(table);
        if cfg!(target_endian = "little") {
            let ip = Ipv4Addr::LOCALHOST.into();
            assert_eq!(found, [Listener { ip, port: 4222, inode: 4711 }]);
            let v6 = parse_ip("00000000000000000000000001000000");
            assert_eq!(v6, Some(Ipv6Addr::LOCALHOST.into()));
        }
        assert!(listeners("nonsense\n\u{0}: : :\n").is_empty());
    }

    #[test]
    fn names_this_process_for_a_port_it_holds() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let socket = TcpListener::bind(address).unwrap();
            let bound = socket.local_addr().unwrap();
            let Some(Holder::Process { pid, name }) = holder(Some(bound.ip()), bound.port()) else {
                panic!("{address} is held")
            };
            assert_eq!(pid, std::process::id());
            assert!(!name.is_empty());
        }
    }

    #[test]
    fn another_address_is_not_in_the_way() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(holder(Some("127.0.0.2".parse().unwrap()), port), None);
        assert!(holder(Some("0.0.0.0".parse().unwrap()), port).is_some());
    }
}
