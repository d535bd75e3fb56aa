//! One exchange with the server, and all that can happen to it. [`Client`] is the real thing; tests put faults
//! in between.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use forest_core::reason::Reason;
use forest_core::registry::{Kind, MAX_BYTES};
use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap, LAST_MODIFIED, LOCATION};
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::bridge::Bridge;
use super::place::Place;
use crate::failure::{Failure, chain};

/// How long one exchange may take in all: well below the time after which a lease counts as left behind.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Servers close connections that are idle, many after five seconds: a request must not meet that.
const IDLE: Duration = Duration::from_secs(3);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `MKCOL`, …
    pub method: &'static str,
    /// Of what.
    pub url: Url,
    /// Headers, without those of the login.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent along.
    pub body: Vec<u8>,
}

/// What was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// ETag
    pub etag: Option<String>,
    /// Last-Modified
    pub modified: Option<String>,
    /// Location
    pub location: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// One exchange after another, from any thread.
pub trait Http: Send + Sync {
    /// Sends `request` once, and returns whatever the server answers.
    ///
    /// # Errors
    /// [`HttpError`] where it answers nothing that is whole.
    fn send(&self, request: Request) -> Result<Answer, HttpError>;
}

impl<H: Http + ?Sized> Http for Arc<H> {
    fn send(&self, request: Request) -> Result<Answer, HttpError> {
        (**self).send(request)
    }
}

/// An exchange without an answer. The messages have no URL: whoever shows them says it.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The host name has no address.
    #[error("the host name is not resolved: check it, and this machine's DNS")]
    NotResolved,
    /// No connection came about.
    #[error("no connection, {0}: check host and port, and this machine's network")]
    NoConnection(String),
    /// The server is not who it should be, or says so in a way that is not understood.
    #[error(
        "TLS failed, {0}: check the host name; a certificate of your own has to be known to this machine (SSL_CERT_FILE)"
    )]
    Tls(String),
    /// The request was sent, perhaps; whether it was carried out is not known.
    #[error("no answer, {0}")]
    Lost(String),
    /// The answer is bigger than any document.
    #[error("{0} bytes, and {MAX_BYTES} are the most")]
    TooBig(u64),
}

impl HttpError {
    /// What it means for a call; `met`: has the server answered before? Then it may do so again soon.
    #[must_use]
    pub fn kind(&self, met: bool) -> Kind {
        match self {
            Self::TooBig(_) => Kind::TooBig,
            Self::NotResolved | Self::NoConnection(_) | Self::Tls(_) if !met => Kind::Unreachable,
            _ => Kind::Ambiguous,
        }
    }
}

/// Who asks.
#[derive(Clone)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password; sent over TLS, or to this machine.
    pub password: SecretString,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The real HTTP: HTTP/1.1, basic authentication, no redirects, one try.
#[derive(Debug)]
pub struct Client {
    bridge: Bridge,
    client: reqwest::Client,
    login: Login,
}

impl Client {
    /// A client of the server of `place`; the process's TLS provider has to be installed.
    ///
    /// # Errors
    /// [`Failure`] where the system gives no thread, or no TLS.
    pub fn new(place: &Place, login: Login) -> Result<Self, Failure> {
        let builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .http1_only()
            .connect_timeout(CONNECT)
            .timeout(DEADLINE)
            .pool_idle_timeout(IDLE);
        // A proxy is the way out of this machine, not into it.
        let builder = if place.is_local() { builder.no_proxy() } else { builder };
        let client = builder
            .build()
            .map_err(|err| Failure::new(Reason::NotSupported, format!("no HTTP client: {}", chain(&err))))?;
        Ok(Self { bridge: Bridge::start().map_err(Failure::no_runtime)?, client, login })
    }
}

impl Http for Client {
    fn send(&self, request: Request) -> Result<Answer, HttpError> {
        let Request { method, url, headers, body } = request;
        let method = method.parse().map_err(|_| HttpError::Lost(format!("{method} is no method")))?;
        let mut request = self
            .client
            .request(method, url)
            .basic_auth(&self.login.username, Some(self.login.password.expose_secret()));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let exchange = exchange(request.body(body));
        self.bridge.run(exchange).unwrap_or_else(|| Err(HttpError::Lost("the client has ended".to_owned())))
    }
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<Answer, HttpError> {
    let mut response = request.send().await.map_err(|err| failed(&err))?;
    let header = |headers: &HeaderMap, name| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let headers = response.headers();
    let told = header(headers, CONTENT_LENGTH).and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut answer = Answer {
        status: response.status().as_u16(),
        etag: header(headers, ETAG),
        modified: header(headers, LAST_MODIFIED),
        location: header(headers, LOCATION),
        body: Vec::new(),
    };
    if told > MAX_BYTES {
        return Err(HttpError::TooBig(told));
    }
    while let Some(chunk) = response.chunk().await.map_err(|err| failed(&err))? {
        answer.body.extend_from_slice(&chunk);
        if answer.body.len() as u64 > MAX_BYTES {
            return Err(HttpError::TooBig(answer.body.len() as u64));
        }
    }
    Ok(answer)
}

/// The cause in words: the chain of an error repeats the URL, and says little more than its last part.
fn failed(err: &reqwest::Error) -> HttpError {
    let mut parts = Vec::new();
    let mut tls = None;
    let mut next: Option<&(dyn Error + 'static)> = err.source();
    while let Some(part) = next {
        parts.push(part.to_string());
        tls = tls.or_else(|| tls_cause(part));
        next = part.source();
    }
    let last = parts.last().cloned().unwrap_or_else(|| "the client does not say why".to_owned());
    match tls {
        Some(cause) => HttpError::Tls(cause),
        None if parts.iter().any(|part| part.contains("dns error")) => HttpError::NotResolved,
        None if err.is_connect() && err.is_timeout() => {
            HttpError::NoConnection(format!("none in {} s", CONNECT.as_secs()))
        }
        None if err.is_connect() => HttpError::NoConnection(last),
        None if err.is_timeout() => HttpError::Lost(format!("none in {} s", DEADLINE.as_secs())),
        None => HttpError::Lost(last),
    }
}

/// rustls's errors hide in I/O errors, which name what is in them as no source of theirs.
fn tls_cause(err: &(dyn Error + 'static)) -> Option<String> {
    let inner = err.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match inner {
        Some(inner) => tls_cause(inner),
        None => err.downcast_ref::<rustls::Error>().map(ToString::to_string),
    }
}
