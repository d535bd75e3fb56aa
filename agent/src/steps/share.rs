//! Step `share`: the registry's directory is there: on the mounted share, or a plain one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forest_core::reason::Reason;
use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::io::Errno;

use crate::driver::{Fact, Look, Looked, Seen, Step};
use crate::fault::{Fault, SUDO, chain};
use crate::settings::Settings;
use crate::share::dir::DirError;
use crate::share::lane::{Lane, LaneError};
use crate::share::{ShareDir, ShareStep};

/// How long a plain directory may take to open.
const DEADLINE: Duration = Duration::from_secs(3);

/// The step, for either kind of directory.
pub enum DirStep {
    /// On a share that the agent mounts.
    Mounted {
        /// The share.
        share: Arc<ShareStep>,
        /// The registry's directory, relative to the mountpoint.
        below: PathBuf,
    },
    /// A directory of this machine.
    Plain {
        /// Its path.
        path: PathBuf,
        /// Where it is touched: it may hang as well.
        lane: Arc<Lane>,
    },
}

impl DirStep {
    /// The step that `settings` ask for; plain directories are touched in `lane`.
    #[must_use]
    pub fn new(settings: &Settings, lane: Arc<Lane>) -> Self {
        let dir = settings.registry.parent().unwrap_or(Path::new("/"));
        match &settings.share {
            Some(share) => {
                let below = dir.strip_prefix(&share.mountpoint).unwrap_or(Path::new("")).to_owned();
                Self::Mounted { share: Arc::new(ShareStep::new(share.clone())), below }
            }
            None => Self::Plain { path: dir.to_owned(), lane },
        }
    }
}

impl DirStep {
    /// What an act would meet, looked at and not done.
    ///
    /// # Errors
    /// The first thing that would fail.
    pub async fn preflight(&self) -> Result<(), Fault> {
        match self {
            Self::Mounted { share, .. } => share.preflight().await,
            Self::Plain { .. } => Ok(()),
        }
    }
}

impl Step for DirStep {
    fn look(&self, _seen: Seen) -> BoxFuture<'static, Looked> {
        match self {
            Self::Mounted { share, below } => look_mounted(Arc::clone(share), below.clone()).boxed(),
            Self::Plain { path, lane } => look_plain(path.clone(), Arc::clone(lane)).boxed(),
        }
    }

    fn act(&self, _seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        match self {
            Self::Mounted { share, .. } => {
                let share = Arc::clone(share);
                async move {
                    let look = share.act().await?;
                    Ok(format!("{} is mounted at {}", look.mount.source, look.mount.mountpoint.display()))
                }
                .boxed()
            }
            Self::Plain { path, lane } => {
                let (path, lane) = (path.clone(), Arc::clone(lane));
                async move {
                    let what = format!("making {}", path.display());
                    let shown = path.display().to_string();
                    let made = lane.run(&what, DEADLINE, move || ShareDir::plain(&path).map(drop)).await;
                    made.map_err(|err| hung(&err))?.map_err(|err| unreadable(&err))?;
                    Ok(format!("made the directory {shown}"))
                }
                .boxed()
            }
        }
    }
}

async fn look_mounted(share: Arc<ShareStep>, below: PathBuf) -> Looked {
    let look = match share.look().await {
        Ok(look) => look,
        Err(fault) => {
            // What a mount can put right is worth an act; a share that hangs or refuses is not helped by one.
            let mounts = matches!(fault.reason, Reason::ShareNotMounted | Reason::ShareDead);
            let result = if mounts { Ok(Look::Differs(fault)) } else { Err(fault) };
            return Looked::with(result, vec![Fact::NoDir]);
        }
    };
    match share.open(&below).await {
        Ok(dir) => {
            let detail = format!("{} at {} answers", look.mount.source, look.mount.mountpoint.display());
            Looked::with(Ok(Look::Stands(detail)), vec![Fact::Dir(Arc::new(dir), Some(look.latency))])
        }
        Err(fault) => Looked::with(Err(fault), vec![Fact::NoDir]),
    }
}

async fn look_plain(path: PathBuf, lane: Arc<Lane>) -> Looked {
    let what = format!("opening {}", path.display());
    let shown = path.display().to_string();
    let open = move || match std::fs::metadata(&path) {
        // `ShareDir::plain` would make it, and a look makes nothing.
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => ShareDir::plain(&path).map(Some),
    };
    match lane.run(&what, DEADLINE, open).await {
        Ok(Ok(Some(dir))) => Looked::with(Ok(Look::Stands(shown)), vec![Fact::Dir(Arc::new(dir), None)]),
        Ok(Ok(None)) => {
            let fault =
                Fault::new(Reason::RegistryMissing, format!("the directory {shown} is not there yet"));
            let fault = fault.advise("wait: the agent makes it");
            Looked::with(Ok(Look::Differs(fault)), vec![Fact::NoDir])
        }
        Ok(Err(err)) => Looked::with(Err(unreadable(&err)), vec![Fact::NoDir]),
        Err(err) => Looked::with(Err(hung(&err)), vec![Fact::NoDir]),
    }
}

fn unreadable(err: &DirError) -> Fault {
    let fault = Fault::new(Reason::RegistryUnreadable, chain(err));
    match err {
        DirError::Io { source: Errno::ACCESS | Errno::PERM, .. } => fault.advise(SUDO),
        _ => fault,
    }
}

/// A plain directory whose lane has no answer.
pub(super) fn hung(err: &LaneError) -> Fault {
    Fault::new(Reason::RegistryHung, chain(err))
}
