//! The share step: is the share mounted, does it answer, and what to do if not.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forest_core::reason::Reason;
use rustix::io::Errno;
use secrecy::SecretString;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::blocking::{self, Seen};
use super::cifs::{self, Request};
use super::dir::{DirError, ShareDir};
use super::lane::{Lane, LaneError};
use super::mounter::{Kernel, Mounter};
use super::mountinfo::Mount;
use super::resolve::{self, Resolver, SystemResolver};
use super::{errno, password};
use crate::fault::{Fault, chain};
use crate::settings::Share;

/// How long each part may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A look at the mounted share, or opening it.
    pub look: Duration,
    /// The name service.
    pub resolve: Duration,
    /// One TCP connection.
    pub connect: Duration,
    /// One mount(2). One that takes longer is not lost: the next look finds what it mounted.
    pub mount: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(5),
            resolve: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            mount: Duration::from_secs(20),
        }
    }
}

/// A share that is mounted and answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What is mounted there.
    pub mount: Mount,
    /// How long it took to answer.
    pub latency: Duration,
}

/// The step. Its parts run one at a time each: looks, names, mounts.
pub struct ShareStep {
    share: Arc<Share>,
    kernel: Arc<dyn Mounter>,
    resolver: Arc<dyn Resolver>,
    limits: Limits,
    looks: Lane,
    names: Lane,
    mounts: Lane,
}

impl ShareStep {
    /// The step for `share`, on this machine.
    #[must_use]
    pub fn new(share: Share) -> Self {
        Self::with(share, Arc::new(Kernel), Arc::new(SystemResolver), Limits::default())
    }

    /// The step with other system calls, another name service, other limits.
    #[must_use]
    pub fn with(share: Share, kernel: Arc<dyn Mounter>, resolver: Arc<dyn Resolver>, limits: Limits) -> Self {
        Self {
            share: Arc::new(share),
            kernel,
            resolver,
            limits,
            looks: Lane::new("share-look"),
            names: Lane::new("share-resolve"),
            mounts: Lane::new("share-mount"),
        }
    }

    /// Is anything mounted at the mountpoint, and does it answer?
    ///
    /// # Errors
    /// `share_not_mounted`, `share_hung`, `share_dead`, `share_permission`; where it hangs because its server is
    /// not to be had, `share_unreachable` or `share_name_not_resolved`.
    pub async fn look(&self) -> Result<Look, Fault> {
        match self.see().await {
            Ok(Seen::Alive(look)) => Ok(look),
            Ok(Seen::Absent) => Err(self.not_mounted()),
            Ok(Seen::Failing(mount, errno)) => Err(errno::look_fault(&mount, errno)),
            Err(fault) if fault.reason == Reason::ShareHung => Err(self.behind(fault).await),
            Err(fault) => Err(fault),
        }
    }

    /// Why our own mount hangs: a server that cannot be reached is the nearer cause, and another thing to put right
    /// than one that does not answer.
    async fn behind(&self, hung: Fault) -> Fault {
        let (kernel, mountpoint) = (Arc::clone(&self.kernel), self.share.mountpoint.clone());
        let job = move || kernel.mount_at(&mountpoint);
        let mounted = self.mounts.run("reading the table of mounts", self.limits.connect, job).await;
        if !matches!(mounted, Ok(Ok(mount)) if self.is_ours(&mount)) {
            return hung;
        }
        let patience = self.limits.resolve + self.limits.connect;
        let cause = match timeout(patience, self.reach()).await {
            Ok(Ok(())) => return hung,
            Ok(Err(cause)) => cause,
            Err(_) => self.unreachable(&[format!("no answer within {patience:?}")]),
        };
        Fault { message: format!("{}: {}", hung.message, cause.message), ..cause }
    }

    /// Does any address of the server accept a connection?
    async fn reach(&self) -> Result<(), Fault> {
        let mut refused = Vec::new();
        for address in self.addresses().await? {
            match self.connect(address).await {
                Ok(()) => return Ok(()),
                Err(why) => refused.push(why),
            }
        }
        Err(self.unreachable(&refused))
    }

    /// Mounts the share where nothing is mounted, and mounts it anew where the agent's own mount is dead and its
    /// server can be reached; then looks again. Anything else at the mountpoint is left as it is.
    ///
    /// # Errors
    /// Each way in which that can fail has its reason, see [`errno::mount_reason`].
    pub async fn act(&self) -> Result<Look, Fault> {
        let dead = match self.see().await? {
            Seen::Alive(look) => return Ok(look),
            Seen::Absent => None,
            Seen::Failing(mount, errno) if errno::is_dead(errno) && self.is_ours(&mount) => Some(mount),
            Seen::Failing(mount, errno) => return Err(self.left_alone(&mount, errno)),
        };
        self.mount(dead).await?;
        self.look().await
    }

    /// What [`Self::act`] would meet before it mounts, looked at and not done: password, kernel, name, port.
    ///
    /// # Errors
    /// The first that would fail.
    pub async fn preflight(&self) -> Result<(), Fault> {
        self.password().await?;
        let kernel = Arc::clone(&self.kernel);
        let known = self.mounts.run("asking for cifs", self.limits.look, move || kernel.has_cifs()).await;
        let known = known.map_err(|err| self.lane_fault(&err))?;
        let mut refused = Vec::new();
        for address in self.addresses().await? {
            if !known {
                return Err(errno::mount_fault(&self.share, address, Errno::NODEV));
            }
            match self.connect(address).await {
                Ok(()) => return Ok(()),
                Err(why) => refused.push(why),
            }
        }
        Err(self.unreachable(&refused))
    }

    /// The directory `below` the root of the share, as a descriptor whose mount was verified; empty: the root.
    ///
    /// # Errors
    /// Nothing is mounted; it hangs; it refuses.
    pub async fn open(&self, below: &Path) -> Result<ShareDir, Fault> {
        let mountpoint = self.share.mountpoint.clone();
        let what = format!("opening {}", mountpoint.join(below).display());
        let below = below.to_owned();
        let open = move || {
            let root = ShareDir::mounted(&mountpoint)?;
            if below.as_os_str().is_empty() {
                return Ok(root);
            }
            root.below(&below)
        };
        let opened: Result<_, DirError> =
            self.looks.run(&what, self.limits.look, open).await.map_err(|err| self.lane_fault(&err))?;
        opened.map_err(DirError::into_fault)
    }

    async fn see(&self) -> Result<Seen, Fault> {
        let (kernel, share) = (Arc::clone(&self.kernel), Arc::clone(&self.share));
        let what = format!("a look at {}", self.share.mountpoint.display());
        self.looks
            .run(&what, self.limits.look, move || blocking::see(kernel.as_ref(), &share.mountpoint))
            .await
            .map_err(|err| self.lane_fault(&err))?
    }

    /// Tries each address in turn. `dead`: our mount to detach first, once its server has answered.
    async fn mount(&self, dead: Option<Mount>) -> Result<(), Fault> {
        let password = self.password().await?;
        let mut refused = Vec::new();
        for address in self.addresses().await? {
            if let Err(why) = self.connect(address).await {
                refused.push(why);
                continue;
            }
            match self.mount_from(address, &password, dead.clone()).await {
                Err(fault) if fault.reason == Reason::ShareUnreachable => refused.push(fault.message),
                result => return result,
            }
        }
        Err(self.unreachable(&refused))
    }

    async fn mount_from(
        &self,
        address: SocketAddr,
        password: &SecretString,
        dead: Option<Mount>,
    ) -> Result<(), Fault> {
        let request = Request::new(&self.share, address, password)?;
        let (kernel, share) = (Arc::clone(&self.kernel), Arc::clone(&self.share));
        let what = format!("mounting {} at {}", request.source, share.mountpoint.display());
        let job = move || blocking::mount(kernel.as_ref(), &share, address, &request, dead.as_ref());
        self.mounts.run(&what, self.limits.mount, job).await.map_err(|err| self.lane_fault(&err))?
    }

    async fn password(&self) -> Result<SecretString, Fault> {
        let path = self.share.password_file.clone();
        let what = format!("reading {}", path.display());
        self.mounts
            .run(&what, self.limits.look, move || password::read(&path))
            .await
            .map_err(|err| self.lane_fault(&err))?
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, Fault> {
        let resolver = Arc::clone(&self.resolver);
        let port = cifs::port(&self.share);
        resolve::addresses(&self.names, resolver, &self.share.host, port, self.limits.resolve).await
    }

    /// The kernel's own attempt would take far longer to tell less.
    async fn connect(&self, address: SocketAddr) -> Result<(), String> {
        match timeout(self.limits.connect, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(err)) => Err(format!("{address}: {err}")),
            Err(_) => Err(format!("{address}: no answer within {:?}", self.limits.connect)),
        }
    }

    fn lane_fault(&self, err: &LaneError) -> Fault {
        let reason = match err {
            LaneError::Hung { .. } => Reason::ShareHung,
            LaneError::Panicked { .. } | LaneError::Thread { .. } => Reason::ShareMountFailed,
        };
        let message = format!("{}: {}", cifs::source(&self.share), chain(err));
        Fault::new(reason, message)
    }

    fn is_ours(&self, mount: &Mount) -> bool {
        let source = cifs::source(&self.share);
        matches!(mount.fstype.as_str(), "cifs" | "smb3")
            && mount.source.trim_end_matches('/') == source.trim_end_matches('/')
    }

    fn not_mounted(&self) -> Fault {
        let mountpoint = self.share.mountpoint.display();
        let message =
            format!("nothing is mounted at {mountpoint}; {} belongs there", cifs::source(&self.share));
        Fault::new(Reason::ShareNotMounted, message)
    }

    fn left_alone(&self, mount: &Mount, errno: Errno) -> Fault {
        let fault = errno::look_fault(mount, errno);
        let advice = if self.is_ours(mount) {
            format!("give user {} the right to read and write there", self.share.username)
        } else {
            "the agent did not mount it and leaves it alone; unmount it".to_owned()
        };
        let mountpoint = mount.mountpoint.display();
        fault.advise(format!("{advice} (umount -l {mountpoint}: it is mounted anew)"))
    }

    fn unreachable(&self, refused: &[String]) -> Fault {
        let port = cifs::port(&self.share);
        let message = format!(
            "no address of {} answers for {} (user {}): {}",
            self.share.host,
            cifs::source(&self.share),
            self.share.username,
            refused.join("; ")
        );
        Fault::new(Reason::ShareUnreachable, message)
            .advise(format!("let TCP {port} out to it, and enable SMB there"))
    }
}

#[cfg(test)]
mod tests;
