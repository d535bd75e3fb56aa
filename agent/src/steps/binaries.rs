//! Step `binaries`: the engine's executable is there, is for this machine, and is the one that was asked for. The
//! witness's is fetched in the same way, by the step that starts it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forest_core::reason::Reason;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::driver::{Fact, FileIdentity, Look, Looked, Seen, Step};
use crate::engine::binary::Inspector;
use crate::engine::download::{Bounds, copy, fetch_http, file_path};
use crate::fault::{Fault, chain};
use crate::settings::{Download, Settings};
use crate::share::lane::Lane;

/// How long copying from a file may take: it may lie on the share, where the binaries travel.
const COPY: Duration = Duration::from_secs(240);

/// The step for one executable.
#[derive(Clone)]
pub struct BinariesStep {
    binary: PathBuf,
    download: Option<Download>,
    /// The mountpoint of the share on which the download lies, where it does.
    share: Option<PathBuf>,
    inspector: Arc<Mutex<Inspector>>,
    copies: Arc<Lane>,
}

impl BinariesStep {
    /// For the engine's executable.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let engine = &settings.engine;
        Self::of(settings, engine.binary.clone(), engine.download.clone())
    }

    /// For an executable at `binary`, fetched from `download` where that is given.
    #[must_use]
    pub fn of(settings: &Settings, binary: PathBuf, download: Option<Download>) -> Self {
        let source = download.as_ref().and_then(|download| file_path(&download.url));
        let on_share =
            |mountpoint: &PathBuf| source.as_ref().is_some_and(|source| source.starts_with(mountpoint));
        let share = settings.share.as_ref().map(|share| share.mountpoint.clone()).filter(on_share);
        Self {
            binary,
            download,
            share,
            inspector: Arc::default(),
            copies: Arc::new(Lane::new("binary-copy")),
        }
    }

    /// The same, as if the share were there already: for saying what would be done.
    #[must_use]
    pub fn once_mounted(self) -> Self {
        Self { share: None, ..self }
    }
}

impl BinariesStep {
    /// How the executable stands, and which file it is. Blocks while a changed file is hashed.
    pub(super) fn compare(&self, seen: &Seen) -> (Result<Look, Fault>, Option<FileIdentity>) {
        let sha256 = self.download.as_ref().map(|download| download.sha256);
        let state = self.inspector.lock().unwrap_or_else(PoisonError::into_inner).look(&self.binary, sha256);
        let away = self.share.as_ref().filter(|_| seen.dir.is_none());
        let result = match state.fault(&self.binary) {
            None => Ok(Look::Stands(self.binary.display().to_string())),
            Some(fault) if let Some(share) = away => Err(fault.advise(waits(share))),
            // Whatever stands in the way, the right file in its place puts it right.
            Some(fault) if self.download.is_some() => Ok(Look::Differs(fault)),
            Some(fault) => Err(fault),
        };
        (result, identity(&self.binary))
    }
}

impl Step for BinariesStep {
    fn look(&self, seen: Seen) -> BoxFuture<'static, Looked> {
        let step = self.clone();
        async move {
            let (result, identity) = match tokio::task::spawn_blocking(move || step.compare(&seen)).await {
                Ok(compared) => compared,
                Err(err) => (Err(Fault::new(Reason::EngineNotExecutable, err.to_string())), None),
            };
            Looked::with(result, identity.map(Fact::Binary).into_iter().collect())
        }
        .boxed()
    }

    fn act(&self, _seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        let (binary, download) = (self.binary.clone(), self.download.clone());
        let copies = Arc::clone(&self.copies);
        async move {
            let Some(download) = download else {
                return Ok("nothing to fetch".to_owned());
            };
            let done = format!("fetched {}", binary.display());
            match file_path(&download.url) {
                None => fetch_http(&download, &binary, Bounds::default()).await?,
                Some(source) => {
                    let what = format!("copying {}", source.display());
                    let job = move || copy_file(&source, &download, &binary);
                    let copied = copies.run(&what, COPY, job).await;
                    copied.map_err(|err| Fault::new(Reason::DownloadFailed, chain(&err)))??;
                }
            }
            Ok(done)
        }
        .boxed()
    }
}

/// A try would fail, and make the next one wait.
fn waits(share: &Path) -> String {
    format!("bring the share at {} back, on which its download lies", share.display())
}

fn identity(path: &Path) -> Option<FileIdentity> {
    let meta = std::fs::metadata(path).ok()?;
    let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
    Some((meta.dev(), meta.ino(), changed))
}

fn copy_file(source: &Path, download: &Download, target: &Path) -> Result<(), Fault> {
    let mut file = File::open(source).map_err(|err| {
        Fault::new(Reason::DownloadFailed, format!("failed to open {}: {err}", source.display()))
    })?;
    copy(&mut file, download, target, Bounds::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::ShareDir;

    fn step(url: &str) -> BinariesStep {
        let text = format!(
            "{{forest_id: f, node_id: n, share: {{source: //h/s, username: u}}, \
             engine: {{binary: /no/such/engine, download: {{url: '{url}', sha256: '{}'}}}}}}",
            "0".repeat(64)
        );
        BinariesStep::new(&Settings::parse(&text, Path::new("agent.yaml")).unwrap())
    }

    #[tokio::test]
    async fn what_lies_on_the_share_waits_for_the_share() {
        let away = Seen::default();
        let dir = tempfile::tempdir().unwrap();
        let there = Seen { dir: Some(Arc::new(ShareDir::plain(dir.path()).unwrap())), ..Seen::default() };
        let on_share = || step("file:///mnt/forest/bin/nats-server");
        let fault = on_share().look(away.clone()).await.result.unwrap_err();
        assert!(fault.remedy().contains("/mnt/forest"), "{fault}");
        assert!(matches!(on_share().look(there).await.result, Ok(Look::Differs(_))));
        assert!(matches!(on_share().once_mounted().look(away.clone()).await.result, Ok(Look::Differs(_))));
        for elsewhere in ["https://x.example/nats-server", "file:///mnt/forest2/nats-server"] {
            assert!(
                matches!(step(elsewhere).look(away.clone()).await.result, Ok(Look::Differs(_))),
                "{elsewhere}"
            );
        }
    }
}
