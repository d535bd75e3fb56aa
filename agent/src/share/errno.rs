//! What the kernel's answers mean: pure tables from an errno to a fault that a person can act on.

use std::net::SocketAddr;

use forest_core::reason::Reason;
use rustix::io::Errno;

use super::cifs;
use super::mountinfo::Mount;
use crate::fault::Fault;
use crate::settings::Share;

/// What a failed mount(2) of a cifs share says.
///
/// cifs turns the server's NT status into an errno: a refused logon and a share that refuses the user both become
/// EACCES, an unknown share or directory ENOENT (ENXIO from old servers), a DFS referral EREMOTE. EPERM comes from
/// the kernel itself, before anything is sent.
#[must_use]
pub fn mount_reason(errno: Errno) -> Reason {
    match errno {
        Errno::NODEV => Reason::ShareNoCifs,
        Errno::ACCESS | Errno::KEYREJECTED | Errno::KEYEXPIRED | Errno::KEYREVOKED | Errno::NOKEY => {
            Reason::ShareWrongPassword
        }
        Errno::NOENT | Errno::NXIO | Errno::NOTDIR | Errno::REMOTE => Reason::ShareNotFound,
        Errno::PERM => Reason::SharePermission,
        Errno::CONNREFUSED
        | Errno::CONNRESET
        | Errno::CONNABORTED
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::NOTCONN
        | Errno::TIMEDOUT => Reason::ShareUnreachable,
        _ => Reason::ShareMountFailed,
    }
}

/// The fault of a mount(2) of `share` from `address` that ended with `errno`.
#[must_use]
pub fn mount_fault(share: &Share, address: SocketAddr, errno: Errno) -> Fault {
    let reason = mount_reason(errno);
    let (why, advice) = explain(reason, errno, share);
    let message = format!(
        "failed to mount {} at {} from {address} as user {}: {why} ({})",
        cifs::source(share),
        share.mountpoint.display(),
        share.username,
        name(errno)
    );
    let fault = Fault::new(reason, message);
    match advice {
        Some(advice) => fault.advise(advice),
        None => fault,
    }
}

/// What happened, and what to do about it where the reason's own remedy does not say enough.
fn explain(reason: Reason, errno: Errno, share: &Share) -> (&'static str, Option<String>) {
    match reason {
        Reason::ShareNoCifs => ("this kernel has no cifs file system", None),
        Reason::ShareWrongPassword => {
            let file = share.password_file.display();
            let advice =
                format!("put the right password into {file}, and see that SMB is enabled for the user");
            ("the server refuses this user or this password", Some(advice))
        }
        Reason::ShareNotFound => ("the server has no such share, or the share no such directory", None),
        Reason::SharePermission => ("this process may not mount", None),
        Reason::ShareUnreachable => ("the server drops the connection", None),
        _ if errno == Errno::INVAL => {
            let options = share.options.join(", ");
            let advice = format!("look in dmesg for which of [{options}] it is (closetimeo needs Linux 6.0)");
            ("the kernel does not take one of the options as given", Some(advice))
        }
        _ => ("the kernel refused for another reason", None),
    }
}

/// Does `errno`, the answer of a mounted share, mean that a new mount may help?
#[must_use]
pub fn is_dead(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::IO
            | Errno::STALE
            | Errno::NOTCONN
            | Errno::HOSTDOWN
            | Errno::SHUTDOWN
            | Errno::CONNRESET
            | Errno::CONNABORTED
            | Errno::TIMEDOUT
            | Errno::NOENT
    )
}

/// The fault of a `mount` that stands and answers with `errno`.
#[must_use]
pub fn look_fault(mount: &Mount, errno: Errno) -> Fault {
    let reason = match errno {
        Errno::ACCESS | Errno::PERM => Reason::SharePermission,
        _ => Reason::ShareDead,
    };
    let message = format!(
        "{} ({}) is mounted at {} and answers {}",
        mount.source,
        mount.fstype,
        mount.mountpoint.display(),
        name(errno)
    );
    Fault::new(reason, message)
}

/// The errno's name as in errno(3), for those that a share may answer with; the number for others.
#[must_use]
pub fn name(errno: Errno) -> String {
    let known = match errno {
        Errno::ACCESS => "EACCES",
        Errno::AGAIN => "EAGAIN",
        Errno::BUSY => "EBUSY",
        Errno::CONNABORTED => "ECONNABORTED",
        Errno::CONNREFUSED => "ECONNREFUSED",
        Errno::CONNRESET => "ECONNRESET",
        Errno::HOSTDOWN => "EHOSTDOWN",
        Errno::HOSTUNREACH => "EHOSTUNREACH",
        Errno::INTR => "EINTR",
        Errno::INVAL => "EINVAL",
        Errno::IO => "EIO",
        Errno::KEYEXPIRED => "EKEYEXPIRED",
        Errno::KEYREJECTED => "EKEYREJECTED",
        Errno::KEYREVOKED => "EKEYREVOKED",
        Errno::LOOP => "ELOOP",
        Errno::MFILE => "EMFILE",
        Errno::NETDOWN => "ENETDOWN",
        Errno::NETUNREACH => "ENETUNREACH",
        Errno::NFILE => "ENFILE",
        Errno::NODEV => "ENODEV",
        Errno::NOENT => "ENOENT",
        Errno::NOKEY => "ENOKEY",
        Errno::NOMEM => "ENOMEM",
        Errno::NOSYS => "ENOSYS",
        Errno::NOTCONN => "ENOTCONN",
        Errno::NOTDIR => "ENOTDIR",
        Errno::NXIO => "ENXIO",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::PERM => "EPERM",
        Errno::REMOTE => "EREMOTE",
        Errno::ROFS => "EROFS",
        Errno::SHUTDOWN => "ESHUTDOWN",
        Errno::STALE => "ESTALE",
        Errno::TIMEDOUT => "ETIMEDOUT",
        Errno::XDEV => "EXDEV",
        other => return format!("errno {}", other.raw_os_error()),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share() -> Share {
        Share {
            host: "box.example".into(),
            path: "backup".into(),
            mountpoint: "/mnt/forest".into(),
            username: "u1".into(),
            password_file: "/etc/morpheus/storagebox.password".into(),
            options: vec!["seal".into(), "closetimeo=0".into()],
        }
    }

    #[test]
    fn each_answer_of_mount_has_its_reason_and_names_what_was_tried() {
        for (errno, reason, hint) in [
            (Errno::NODEV, "share_no_cifs", "cifs module"),
            (Errno::ACCESS, "share_wrong_password", "/etc/morpheus/storagebox.password"),
            (Errno::KEYREJECTED, "share_wrong_password", "EKEYREJECTED"),
            (Errno::KEYEXPIRED, "share_wrong_password", "EKEYEXPIRED"),
            (Errno::NOENT, "share_not_found", "check the path in share.source"),
            (Errno::NXIO, "share_not_found", "ENXIO"),
            (Errno::NOTDIR, "share_not_found", "ENOTDIR"),
            (Errno::REMOTE, "share_not_found", "EREMOTE"),
            (Errno::PERM, "share_permission", "as root"),
            (Errno::HOSTDOWN, "share_unreachable", "EHOSTDOWN"),
            (Errno::CONNREFUSED, "share_unreachable", "ECONNREFUSED"),
            (Errno::TIMEDOUT, "share_unreachable", "ETIMEDOUT"),
            (Errno::INVAL, "share_mount_failed", "[seal, closetimeo=0]"),
            (Errno::OPNOTSUPP, "share_mount_failed", "EOPNOTSUPP"),
            (Errno::BADMSG, "share_mount_failed", "errno 74"),
        ] {
            let fault = mount_fault(&share(), "192.0.2.1:445".parse().unwrap(), errno);
            assert_eq!(fault.reason.code(), reason, "{fault}");
            let told = format!("{}; {}", fault.message, fault.remedy());
            assert!(told.contains(hint), "{hint}: {told}");
            for part in ["//box.example/backup", "/mnt/forest", "192.0.2.1:445", "user u1"] {
                assert!(fault.message.contains(part), "{part}: {fault}");
            }
        }
    }

    #[test]
    fn a_mounted_share_is_dead_or_refuses() {
        let mount = Mount {
            id: 1,
            parent: 0,
            mountpoint: "/mnt/forest".into(),
            fstype: "cifs".into(),
            source: "//box.example/backup".into(),
            options: String::new(),
            super_options: String::new(),
        };
        let fault = look_fault(&mount, Errno::HOSTDOWN);
        assert_eq!(fault.reason, Reason::ShareDead);
        assert_eq!(
            fault.message,
            "//box.example/backup (cifs) is mounted at /mnt/forest and answers EHOSTDOWN"
        );
        assert_eq!(look_fault(&mount, Errno::ACCESS).reason, Reason::SharePermission);
        assert!(
            is_dead(Errno::HOSTDOWN)
                && is_dead(Errno::IO)
                && !is_dead(Errno::ACCESS)
                && !is_dead(Errno::MFILE)
        );
    }
}
