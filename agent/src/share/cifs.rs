//! What mount(2) is to be told about a CIFS share without mount.cifs beside it: pure, no system call here.
//!
//! The kernel takes server, share and the directories below it from the source (`unc=` and `prefixpath=` are
//! ignored since 5.11), and needs the address as `ip=`. The password is in the data alone, which is wiped when
//! the request is dropped and never shown.

use std::ffi::CStr;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use forest_core::reason::Reason;
use rustix::mount::MountFlags;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use crate::fault::Fault;
use crate::settings::Share;

/// Where SMB listens, unless `port=` is among the options.
const SMB_PORT: u16 = 445;
/// mount(2) reads one page of data and cuts the rest off.
const DATA_MAX: usize = 4096;

/// One call of mount(2) with file system type cifs.
#[derive(Clone)]
pub struct Request {
    /// `//host/share/directory`.
    pub source: String,
    /// Where to mount it.
    pub target: PathBuf,
    /// Flags that are not cifs's own.
    pub flags: MountFlags,
    /// Ends in a NUL.
    data: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("source", &self.source)
            .field("target", &self.target)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

impl Request {
    /// The mount of `share` from `address`.
    ///
    /// # Errors
    /// `share_mount_failed`: the options are longer than mount(2) takes, or hold a NUL.
    pub fn new(share: &Share, address: SocketAddr, password: &SecretString) -> Result<Self, Fault> {
        let (flags, options) = split_options(&share.options);
        let data = data(share, address, password.expose_secret(), &options);
        let fault = |problem: &str| {
            let message = format!("the mount options of {} {problem}", source(share));
            Fault::new(Reason::ShareMountFailed, message)
        };
        if data.len() > DATA_MAX {
            return Err(fault(&format!("are longer than the {DATA_MAX} bytes that mount(2) takes")));
        }
        if CStr::from_bytes_with_nul(&data).is_err() {
            return Err(fault("hold a NUL byte"));
        }
        Ok(Self { source: source(share), target: share.mountpoint.clone(), flags, data })
    }

    /// The data of the call: options, user name and password. Not to be shown to anyone but the kernel.
    #[must_use]
    pub fn expose_data(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.data).unwrap_or_default()
    }
}

/// `//host/share/directory`, as the kernel wants it and as mountinfo shows it.
#[must_use]
pub fn source(share: &Share) -> String {
    format!("//{}/{}", share.host, share.path)
}

/// The TCP port of `share`'s server.
#[must_use]
pub fn port(share: &Share) -> u16 {
    let (_, options) = split_options(&share.options);
    let given = options.iter().rev().find_map(|option| option.strip_prefix("port="));
    given.and_then(|port| port.parse().ok()).unwrap_or(SMB_PORT)
}

/// Options apart: flags of mount(2), and what goes into the data. Words that only mount(8) and fstab know are
/// dropped, since cifs would refuse them.
fn split_options(options: &[String]) -> (MountFlags, Vec<&str>) {
    let mut flags = MountFlags::empty();
    let mut rest = Vec::new();
    // An empty option would end the kernel's reading of the data, or double a comma.
    let words = options.iter().flat_map(|text| text.split(','));
    for word in words.map(str::trim).filter(|word| !word.is_empty()) {
        match flag(word) {
            Some((flag, on)) => flags.set(flag, on),
            None if is_for_fstab(word) => {}
            None => rest.push(word),
        }
    }
    (flags, rest)
}

fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "nosymfollow" => (MountFlags::NOSYMFOLLOW, true),
        _ => return None,
    })
}

fn is_for_fstab(word: &str) -> bool {
    let known = ["defaults", "auto", "noauto", "nofail", "_netdev", "users", "nousers"];
    known.contains(&word) || word.starts_with("x-") || word.starts_with("comment=")
}

/// `ip=…,username=…,password=…,options` and a NUL. Allocated once: a buffer that grows leaves copies behind.
fn data(share: &Share, address: SocketAddr, password: &str, options: &[&str]) -> Zeroizing<Vec<u8>> {
    let ip = ip(address);
    let fields = [("ip", ip.as_str()), ("username", &share.username), ("password", password)];
    let length = fields.iter().map(|(key, value)| key.len() + 2 + 2 * value.len()).sum::<usize>()
        + options.iter().map(|option| option.len() + 1).sum::<usize>();
    let mut data = Zeroizing::new(Vec::with_capacity(length + 1));
    for (key, value) in fields {
        if !data.is_empty() {
            data.push(b',');
        }
        data.extend_from_slice(key.as_bytes());
        data.push(b'=');
        for &byte in value.as_bytes() {
            data.push(byte);
            // The kernel reads a doubled comma as one that does not end the value.
            if byte == b',' {
                data.push(byte);
            }
        }
    }
    for option in options {
        data.push(b',');
        data.extend_from_slice(option.as_bytes());
    }
    data.push(0);
    data
}

/// A link-local address needs its interface's number.
fn ip(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => address.ip().to_string(),
    }
}

#[cfg(test)]
mod tests;
