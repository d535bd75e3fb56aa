//! Fetching an executable: streamed beside its place, hashed on the way, and put there only when its sha256 is
//! the configured one. Whatever fails leaves nothing behind, and what stood there before.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forest_core::reason::Reason;
use reqwest::{Client, Response, StatusCode, redirect};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use url::Url;

use crate::engine::binary::Sha256Digest;
use crate::fault::{Fault, chain};
use crate::files::{self, FileError, Pending};
use crate::settings::Download;

/// Bounds of one download.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most bytes that are taken.
    pub size: u64,
    /// For the connection.
    pub connect: Duration,
    /// Between two pieces.
    pub stall: Duration,
    /// For the whole.
    pub total: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            size: 512 << 20,
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            total: Duration::from_secs(1800),
        }
    }
}

/// Fetches an http or https URL to `target`, mode 0755. Cancel safe: dropped, nothing remains.
///
/// # Errors
/// [`Reason::DownloadSha256`] where another file came, [`Reason::DownloadFailed`] for everything else.
pub async fn fetch_http(download: &Download, target: &Path, bounds: Bounds) -> Result<(), Fault> {
    let response = request(&download.url, bounds).await?;
    let expected = response.content_length().unwrap_or(0);
    if expected > bounds.size {
        return Err(too_large(&download.url, bounds.size));
    }
    // The disk may stall: it is written to from a thread of its own, which sees the end of the channel without
    // an end mark when this future is dropped, and then puts nothing in place.
    let (pieces, inbox) = mpsc::channel(16);
    let writer = {
        let (download, target) = (download.clone(), target.to_owned());
        tokio::task::spawn_blocking(move || write_pieces(inbox, &download, &target, bounds.size))
    };
    let sent = send_pieces(response, &download.url, &pieces).await;
    drop(pieces);
    let written = writer.await.map_err(|err| failed(&download.url, format!("writing it: {err}")))?;
    // A writer that gave up closes the channel; what it says is the cause.
    match (sent, written) {
        (_, Written::Failed(fault)) | (Err(fault), _) => Err(fault),
        (Ok(()), Written::Placed) => Ok(()),
        (Ok(()), Written::Cut) => Err(failed(&download.url, "it ended early")),
    }
}

/// Copies `source`, opened from the file URL of `download`, to `target`, mode 0755. It blocks as `source` does: one
/// from the share is read in the share's own lane.
///
/// # Errors
/// As [`fetch_http`].
pub fn copy(source: &mut dyn Read, download: &Download, target: &Path, bounds: Bounds) -> Result<(), Fault> {
    let mut sink = Sink::create(download, target, bounds.size)?;
    let mut piece = vec![0; 64 << 10];
    loop {
        match source.read(&mut piece) {
            Ok(0) => return sink.finish(),
            Ok(n) => sink.take(&piece[..n])?,
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
            Err(err) => return Err(failed(&download.url, format!("cannot read it: {err}"))),
        }
    }
}

/// The path of a file URL; `None` for every other URL.
#[must_use]
pub fn file_path(url: &Url) -> Option<PathBuf> {
    (url.scheme() == "file").then(|| url.to_file_path().ok()).flatten()
}

/// `url` for a message: without user, password, query and fragment, all of which may hold a secret.
#[must_use]
pub fn printable(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let cut = url.query().is_some() || url.fragment().is_some();
    url.set_query(None);
    url.set_fragment(None);
    if cut { format!("{url}?…") } else { url.to_string() }
}

async fn request(url: &Url, bounds: Bounds) -> Result<Response, Fault> {
    let response = client(bounds)
        .map_err(|err| failed(url, chain(&err)))?
        .get(url.clone())
        .send()
        .await
        .map_err(|err| failed(url, chain(&err.without_url())))?;
    match response.status() {
        StatusCode::OK => Ok(response),
        status => Err(failed(url, format!("the server answers {status}"))),
    }
}

fn client(bounds: Bounds) -> Result<Client, reqwest::Error> {
    crate::engine::monitor::install_crypto();
    Client::builder()
        .connect_timeout(bounds.connect)
        .read_timeout(bounds.stall)
        .timeout(bounds.total)
        .redirect(redirect::Policy::limited(5))
        .referer(false)
        .user_agent(concat!("forest-agent/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// A part of the file, or `None` for its end.
type Piece = Option<Vec<u8>>;

async fn send_pieces(mut response: Response, url: &Url, pieces: &mpsc::Sender<Piece>) -> Result<(), Fault> {
    loop {
        let chunk = response.chunk().await.map_err(|err| failed(url, chain(&err.without_url())))?;
        let end = chunk.is_none();
        let gone = pieces.send(chunk.map(|chunk| chunk.to_vec())).await.is_err();
        if end || gone {
            return Ok(());
        }
    }
}

enum Written {
    Placed,
    /// The end mark never came.
    Cut,
    Failed(Fault),
}

fn write_pieces(mut inbox: mpsc::Receiver<Piece>, download: &Download, target: &Path, size: u64) -> Written {
    let mut write = || -> Result<Written, Fault> {
        let mut sink = Sink::create(download, target, size)?;
        while let Some(piece) = inbox.blocking_recv() {
            match piece {
                Some(bytes) => sink.take(&bytes)?,
                None => return sink.finish().map(|()| Written::Placed),
            }
        }
        Ok(Written::Cut)
    };
    write().unwrap_or_else(Written::Failed)
}

/// Where the bytes go: counted, hashed, written.
struct Sink<'a> {
    download: &'a Download,
    pending: Pending,
    hasher: Sha256,
    room: u64,
    size: u64,
}

impl<'a> Sink<'a> {
    fn create(download: &'a Download, target: &Path, size: u64) -> Result<Self, Fault> {
        files::parent_dir(target).map_err(disk(&download.url))?;
        Ok(Self {
            download,
            pending: Pending::create(target, 0o755).map_err(disk(&download.url))?,
            hasher: Sha256::new(),
            room: size,
            size,
        })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let left = self.room.checked_sub(bytes.len() as u64);
        self.room = left.ok_or_else(|| too_large(&self.download.url, self.size))?;
        self.hasher.update(bytes);
        self.pending.write(bytes).map_err(disk(&self.download.url))
    }

    fn finish(self) -> Result<(), Fault> {
        let found = Sha256Digest(self.hasher.finalize().into());
        let expected = Sha256Digest(self.download.sha256);
        if found != expected {
            let url = printable(&self.download.url);
            let message = format!("{url} has sha256 {found}, and {expected} is configured");
            return Err(Fault::new(Reason::DownloadSha256, message));
        }
        self.pending.commit().map_err(disk(&self.download.url))
    }
}

fn failed(url: &Url, why: impl AsRef<str>) -> Fault {
    let message = format!("cannot download {}: {}", printable(url), why.as_ref());
    Fault::new(Reason::DownloadFailed, message)
}

fn too_large(url: &Url, size: u64) -> Fault {
    failed(url, format!("it is larger than {} MiB", size >> 20))
}

fn disk(url: &Url) -> impl FnOnce(FileError) -> Fault {
    move |err| failed(url, chain(&err))
}

#[cfg(test)]
mod tests;
