//! Where this machine's lock of the registry's queue lies: one file for each share, however many agents use it, for
//! on CIFS a second opener of the lock file on the share drops the first one's lock. Looks, and makes nothing.

use std::path::{Path, PathBuf};

use rustix::fs::Access;
use sha2::{Digest, Sha256};

use crate::settings::Settings;

/// Where locks of the whole machine lie.
const LOCKS: &str = "/run/lock";

/// The lock's path, by what is mounted and where in it the registry lies. No call goes to the share itself, which
/// may hang.
#[must_use]
pub fn path(settings: &Settings) -> PathBuf {
    let dir = settings.registry.parent().unwrap_or(Path::new(""));
    let identity = match &settings.share {
        Some(share) => {
            let below = dir.strip_prefix(&share.mountpoint).unwrap_or(dir);
            Path::new(&format!("//{}/{}", share.host, share.path)).join(below)
        }
        None => std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()),
    };
    let digest = Sha256::digest(identity.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let dir = of_machine(Path::new(LOCKS)).unwrap_or_else(|| settings.runtime_dir.clone());
    dir.join(format!("registry-queue-{name}.lock"))
}

/// The directory for all agents of this user, where it is, or can be made to be, this user's alone.
fn of_machine(locks: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;

    let dir = locks.join("forest-agent");
    let ours = match std::fs::symlink_metadata(&dir) {
        Ok(found) => {
            found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0
        }
        Err(_) => rustix::fs::access(locks, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
    };
    ours.then_some(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_machines_directory_is_used_only_where_it_is_ours_alone() {
        let locks = tempfile::tempdir().unwrap();
        let dir = locks.path().join("forest-agent");
        assert_eq!(of_machine(locks.path()).as_ref(), Some(&dir));
        assert!(!dir.exists(), "nothing is made by looking");
        assert_eq!(of_machine(&locks.path().join("nowhere")), None);

        std::fs::create_dir(&dir).unwrap();
        for (mode, ours) in [(0o700, true), (0o777, false)] {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(of_machine(locks.path()).is_some(), ours, "{mode:o}");
        }
        std::fs::remove_dir(&dir).unwrap();
        symlink("/tmp", &dir).unwrap();
        assert_eq!(of_machine(locks.path()), None);
    }

    #[test]
    fn agents_of_one_share_have_one_lock() {
        let of = |mountpoint: &str, source: &str| {
            let text = format!(
                "forest_id: grove\nnode_id: grove-node-1\nregistry: {mountpoint}/a/registry.json\n\
                 share: {{ source: {source}, mountpoint: {mountpoint}, username: u, password_file: /p }}\n\
                 engine: {{ kind: nats-server, binary: /b }}\n"
            );
            path(&Settings::parse(&text, Path::new("agent.yaml")).unwrap())
        };
        assert_eq!(of("/mnt/a", "//h/s"), of("/mnt/b", "//h/s"));
        assert_ne!(of("/mnt/a", "//h/s"), of("/mnt/a", "//h/t"));
    }
}
