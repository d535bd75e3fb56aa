//! Files too big for the door: programs, which are sent in pieces and told of as they go.
//!
//! A file is put under a name of its own first and moved to its place once it is whole, so that whoever finds it
//! there finds all of it.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use forest_core::reason::Reason;
use futures::stream;
use reqwest::header::CONTENT_LENGTH;
use reqwest::redirect::Policy;
use reqwest::{Body, Method, StatusCode};
use secrecy::ExposeSecret as _;
use url::Url;

use super::http::Login;
use super::place::Place;
use crate::failure::{Failure, chain};

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// So long an upload may take whatever its size.
const AT_LEAST: Duration = Duration::from_secs(120);
/// Nobody plants over a slower line than this, in bytes a second.
const SLOWEST: u64 = 20_000;
/// One piece of an upload, in bytes.
const PIECE: usize = 64 << 10;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);
/// How names of files begin that are not whole yet.
pub const PARTIAL: &str = ".part.";

/// The directory of a place, for big files.
pub struct Shelf {
    place: Place,
    login: Login,
    client: reqwest::Client,
}

impl Shelf {
    /// The files beside the document of `place`; the process's TLS provider has to be installed.
    ///
    /// # Errors
    /// [`Failure`] where the system gives no client.
    pub fn new(place: Place, login: Login) -> Result<Self, Failure> {
        let builder =
            reqwest::Client::builder().redirect(Policy::none()).http1_only().connect_timeout(CONNECT);
        let builder = if place.is_local() { builder.no_proxy() } else { builder };
        let client = builder
            .build()
            .map_err(|err| Failure::new(Reason::NotSupported, format!("no HTTP client: {}", chain(&err))))?;
        Ok(Self { place, login, client })
    }

    /// The URL of a file.
    #[must_use]
    pub fn url(&self, path: &str) -> Url {
        self.place.url(path)
    }

    /// How long a file is; `None`: there is none.
    ///
    /// # Errors
    /// [`Failure`] where the server does not tell.
    pub async fn size(&self, path: &str) -> Result<Option<u64>, Failure> {
        let ask = || async {
            let answer = self.request(Method::HEAD, &self.place.url(path)).timeout(CONNECT).send().await;
            let answer = answer.map_err(|err| self.silent(path, &err))?;
            match answer.status() {
                StatusCode::NOT_FOUND => Ok(None),
                status if status.is_success() => {
                    let length = answer.headers().get(CONTENT_LENGTH);
                    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
                    Ok(Some(length.unwrap_or_default()))
                }
                status => Err(self.refused("HEAD", path, status)),
            }
        };
        ask.retry(tries()).await
    }

    /// Puts a file in place, whole or not at all; `told` hears how many bytes have gone.
    ///
    /// # Errors
    /// [`Failure`]; nothing stands at `path` then that did not before.
    pub async fn put(
        &self,
        dir: &str,
        name: &str,
        bytes: &Arc<Vec<u8>>,
        mut told: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let partial = format!("{dir}/{PARTIAL}{name}.{:016x}", rand::random::<u64>());
        let mut left = 3;
        loop {
            match self.send(&partial, bytes, &mut told).await {
                Ok(()) => break,
                Err(_) if left > 1 => left -= 1,
                Err(err) => {
                    self.forget(&partial).await;
                    return Err(err);
                }
            }
        }
        let moved = self.shift(&partial, &format!("{dir}/{name}")).await;
        self.forget(&partial).await;
        moved
    }

    async fn send(
        &self,
        path: &str,
        bytes: &Arc<Vec<u8>>,
        told: &mut impl FnMut(u64),
    ) -> Result<(), Failure> {
        let sent = Arc::new(AtomicU64::new(0));
        let length = bytes.len() as u64;
        let (counter, whole) = (Arc::clone(&sent), Arc::clone(bytes));
        let pieces = (0..bytes.len().div_ceil(PIECE)).map(move |n| {
            let piece = whole[n * PIECE..whole.len().min((n + 1) * PIECE)].to_vec();
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok::<_, std::io::Error>(piece)
        });
        let request = self
            .request(Method::PUT, &self.place.url(path))
            .timeout(AT_LEAST + Duration::from_secs(length / SLOWEST))
            .header(CONTENT_LENGTH, length)
            .body(Body::wrap_stream(stream::iter(pieces)));
        let sending = request.send();
        tokio::pin!(sending);
        let answer = loop {
            tokio::select! {
                answer = &mut sending => break answer.map_err(|err| self.silent(path, &err))?,
                () = tokio::time::sleep(TICK) => told(sent.load(Ordering::Relaxed)),
            }
        };
        if !answer.status().is_success() {
            return Err(self.refused("PUT", path, answer.status()));
        }
        told(length);
        Ok(())
    }

    /// Where another has put the same file meanwhile, all is well.
    async fn shift(&self, from: &str, to: &str) -> Result<(), Failure> {
        let method = Method::from_bytes(b"MOVE").unwrap_or_default();
        let request = self.request(method, &self.place.url(from)).timeout(CONNECT);
        let request = request.header("Destination", self.place.url(to).as_str()).header("Overwrite", "F");
        let answer = request.send().await.map_err(|err| self.silent(to, &err));
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) if answer.status() == StatusCode::PRECONDITION_FAILED => Ok(()),
            // Lost on the way, perhaps after it was done.
            other => match self.size(to).await? {
                Some(_) => Ok(()),
                None => Err(other
                    .map(|answer| self.refused("MOVE", to, answer.status()))
                    .unwrap_or_else(|err| err)),
            },
        }
    }

    /// Removes a file, if it is there and the server lets us; what stays is swept with the directory.
    async fn forget(&self, path: &str) {
        let _ = self.request(Method::DELETE, &self.place.url(path)).timeout(CONNECT).send().await;
    }

    fn request(&self, method: Method, url: &Url) -> reqwest::RequestBuilder {
        let Login { username, password } = &self.login;
        self.client.request(method, url.clone()).basic_auth(username, Some(password.expose_secret()))
    }

    fn silent(&self, path: &str, err: &reqwest::Error) -> Failure {
        let mut last: &dyn std::error::Error = err;
        while let Some(next) = last.source() {
            last = next;
        }
        let why = if err.source().is_none() { "no answer".to_owned() } else { last.to_string() };
        let why = if err.is_timeout() { "no answer in time".to_owned() } else { why };
        Failure::new(
            Reason::UploadFailed,
            format!("{}: {why}; {}", self.url(path), Reason::UploadFailed.remedy()),
        )
    }

    fn refused(&self, method: &str, path: &str, status: StatusCode) -> Failure {
        let reason = match status.as_u16() {
            401 => Reason::RegistryWrongPassword,
            507 => Reason::RegistryFull,
            _ => Reason::UploadFailed,
        };
        let url = self.url(path);
        Failure::new(reason, format!("{method} {url} is refused: HTTP {status}; {}", reason.remedy()))
    }
}

fn tries() -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(Duration::from_millis(300)).with_max_times(3).with_jitter()
}
