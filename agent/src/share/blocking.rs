//! What the share step does in its lanes: each function here blocks, without end where the share hangs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use forest_core::reason::Reason;
use rustix::io::Errno;

use super::cifs::Request;
use super::dir::DirError;
use super::errno;
use super::mounter::Mounter;
use super::mountinfo::Mount;
use super::step::Look;
use crate::fault::{Fault, chain};
use crate::settings::Share;

/// What a look finds.
pub(super) enum Seen {
    /// Nothing is mounted.
    Absent,
    /// Something is mounted, and answers.
    Alive(Look),
    /// Something is mounted, and answers with an error.
    Failing(Mount, Errno),
}

/// Looks at what is mounted at `mountpoint`, and asks it.
pub(super) fn see(kernel: &dyn Mounter, mountpoint: &Path) -> Result<Seen, Fault> {
    let Some(mount) = standing(kernel, mountpoint)? else {
        return Ok(Seen::Absent);
    };
    let begun = Instant::now();
    Ok(match kernel.probe(mountpoint, &mount) {
        Ok(()) => Seen::Alive(Look { mount, latency: begun.elapsed() }),
        Err(DirError::NotMounted { .. }) => Seen::Absent,
        Err(DirError::Io { source, .. }) => Seen::Failing(mount, source),
    })
}

/// Detaches `dead`, if that is what stands there, and mounts `request`. Whatever else came to stand at the
/// mountpoint meanwhile is left alone: the look that follows judges it.
pub(super) fn mount(
    kernel: &dyn Mounter,
    share: &Share,
    address: SocketAddr,
    request: &Request,
    dead: Option<&Mount>,
) -> Result<(), Fault> {
    let mountpoint = &share.mountpoint;
    if let Some(there) = standing(kernel, mountpoint)? {
        if dead.is_none_or(|dead| dead.id != there.id || dead.source != there.source) {
            return Ok(());
        }
        tracing::warn!(source = request.source, mountpoint = %mountpoint.display(), "detaching the dead share");
        kernel.detach(mountpoint).map_err(|errno| {
            let message = format!(
                "failed to detach the dead {} from {}: {}",
                request.source,
                mountpoint.display(),
                errno::name(errno)
            );
            Fault::new(Reason::ShareMountFailed, message)
        })?;
        if standing(kernel, mountpoint)?.is_some() {
            return Ok(());
        }
    }
    kernel.create(mountpoint).map_err(|err| {
        let message = chain(&err);
        Fault::new(Reason::ShareMountFailed, message)
    })?;
    kernel.mount(request).map_err(|errno| errno::mount_fault(share, address, errno))?;
    tracing::info!(source = request.source, mountpoint = %mountpoint.display(), %address, "mounted the share");
    Ok(())
}

fn standing(kernel: &dyn Mounter, mountpoint: &Path) -> Result<Option<Mount>, Fault> {
    match kernel.mount_at(mountpoint) {
        Ok(mount) => Ok(Some(mount)),
        Err(DirError::NotMounted { .. }) => Ok(None),
        Err(err) => Err(err.into_fault()),
    }
}
