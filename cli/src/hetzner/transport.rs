//! One call of the API: the token, bounds on time, size and number, the rate budget, the retries.

use std::error::Error as _;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ConstantBuilder, ExponentialBackoff, ExponentialBuilder, Retryable as _};
use forest_core::reason::Reason;
use reqwest::{Client, Method, redirect};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::sync::Semaphore;
use url::Url;

use super::access::Access;
use super::budget::Budget;
use super::error::{ApiError, Code, Silence};
use crate::failure::{Failure, chain};

/// No answer is larger, in bytes.
const MAX_BODY: usize = 16 << 20;
/// So many calls at once, no more: an account can be closed for what looks like an attack.
const AT_ONCE: usize = 6;

/// How long things may take. Shorter ones are for tests.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// One request with its answer.
    pub request: Duration,
    /// The first wait before a call is made again; each is twice as long as the last.
    pub wait: Duration,
    /// The longest such wait.
    pub longest_wait: Duration,
    /// Between two looks at running actions, at least.
    pub poll: Duration,
    /// Between two tries of what is locked.
    pub locked_wait: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(30),
            wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(30),
            poll: Duration::from_millis(500),
            locked_wait: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// With another time between two looks, and all waits as much shorter or longer.
    #[must_use]
    pub fn of_poll(poll: Duration) -> Self {
        let standard = Self::default();
        let scale = poll.as_secs_f64() / standard.poll.as_secs_f64();
        Self {
            request: standard.request,
            wait: standard.wait.mul_f64(scale),
            longest_wait: standard.longest_wait.mul_f64(scale),
            poll,
            locked_wait: standard.locked_wait.mul_f64(scale),
        }
    }

    /// Five more tries, and not by all clients at the same moment.
    fn backoff(&self) -> ExponentialBackoff {
        let builder = ExponentialBuilder::new().with_min_delay(self.wait).with_max_delay(self.longest_wait);
        builder.with_max_times(5).with_jitter().build()
    }

    /// An action holds a lock for seconds, seldom for a minute.
    fn locked(&self) -> ConstantBuilder {
        ConstantBuilder::new().with_delay(self.locked_wait).with_max_times(45)
    }
}

/// Which call: the method and the address, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    method: String,
    url: String,
}

impl Call {
    pub(super) fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into() }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// With its slash at the beginning.
    pub(super) path: String,
    pub(super) query: Vec<(&'a str, String)>,
    pub(super) body: Option<Value>,
}

impl Ask<'_> {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), body: None }
    }
}

/// Makes calls.
pub(super) struct Transport {
    client: Client,
    access: Access,
    pub(super) timing: Timing,
    gate: Semaphore,
    budget: Mutex<Budget>,
}

impl Transport {
    pub(super) fn new(access: Access, timing: Timing) -> Result<Self, Failure> {
        let builder = Client::builder()
            .user_agent(concat!("morpheus/", env!("CARGO_PKG_VERSION")))
            .timeout(timing.request)
            // A redirection could take the token elsewhere.
            .redirect(redirect::Policy::none());
        let builder = if access.loopback { builder.no_proxy() } else { builder };
        // Without TLS there is nobody to trust, and no need to read the system's certificates.
        let builder = if access.plain { builder.tls_certs_only([]) } else { builder };
        let client = builder
            .build()
            .map_err(|err| Failure::new(Reason::NotSupported, format!("no HTTP client: {}", chain(&err))))?;
        Ok(Self { client, access, timing, gate: Semaphore::new(AT_ONCE), budget: Mutex::default() })
    }

    /// Makes the call, again where that may help; `Null` where the answer has no body.
    pub(super) async fn call(&self, ask: &Ask<'_>) -> Result<Value, ApiError> {
        let patiently = || (|| self.once(ask)).retry(Again(self.timing)).when(ApiError::passes).into_future();
        patiently.retry(self.timing.locked()).when(|err| err.is(&Code::Locked)).await
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Value, ApiError> {
        let call = self.shown(ask);
        let url = Url::parse_with_params(&call.url, &ask.query)
            .map_err(|err| ApiError::Strange { call: call.clone(), why: err.to_string() })?;
        // It is never closed.
        let _permit = self.gate.acquire().await.ok();
        let pause = self.budget().reserve(Instant::now());
        tokio::time::sleep(pause).await;
        let mut request = self.client.request(ask.method.clone(), url);
        request = request.bearer_auth(self.access.token.expose_secret());
        if let Some(body) = &ask.body {
            request = request.json(body);
        }
        let lost = |err: reqwest::Error| silent(call.clone(), &err, self.timing.request);
        let mut answer = request.send().await.map_err(lost)?;
        self.budget().note(answer.headers());
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(lost)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BODY {
                return Err(ApiError::Strange { call, why: "it does not end".to_owned() });
            }
        }
        match status.is_success() {
            true if body.is_empty() => Ok(Value::Null),
            true => serde_json::from_slice(&body)
                .map_err(|err| ApiError::Strange { call, why: format!("no JSON: {err}") }),
            false => Err(ApiError::refused(call, status.as_u16(), &body)),
        }
    }

    fn budget(&self) -> std::sync::MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call, for messages.
    pub(super) fn shown(&self, ask: &Ask<'_>) -> Call {
        Call::new(ask.method.as_str(), format!("{}{}", self.access.endpoint, ask.path))
    }
}

/// A fresh backoff for each series of tries.
#[derive(Debug, Clone, Copy)]
struct Again(Timing);

impl backon::BackoffBuilder for Again {
    type Backoff = ExponentialBackoff;

    fn build(self) -> Self::Backoff {
        self.0.backoff()
    }
}

fn silent(call: Call, err: &reqwest::Error, limit: Duration) -> ApiError {
    let silence = match err.is_connect() && !err.is_timeout() {
        true => Silence::NoConnection,
        false => Silence::Lost,
    };
    let why = match err.is_timeout() {
        true => format!("no answer within {} s", limit.as_secs_f32()),
        // What lies above the bottom repeats the address.
        false => err.source().map_or_else(|| err.to_string(), deepest),
    };
    ApiError::Silent { call, silence, why }
}

fn deepest(err: &(dyn std::error::Error + 'static)) -> String {
    err.source().map_or_else(|| err.to_string(), deepest)
}
