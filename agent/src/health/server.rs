//! The agent's HTTP: every answer comes from the last published snapshot, so it comes at once whatever the share
//! or the engine are doing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, FromRef, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use backon::{BackoffBuilder, ExponentialBuilder};
use forest_core::health::{CONTENT_TYPE, HealthReport, Status};
use forest_core::reason::Reason;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::metrics::{self, metrics};
use crate::health::{Audience, Snapshot, report};

type Snapshots = watch::Receiver<Arc<Snapshot>>;

/// Who can tell of the whole forest.
pub trait Forest: Send + Sync {
    /// Every node of the forest with its report; `None`: it did not answer in time.
    fn gather(&self) -> BoxFuture<'static, BTreeMap<String, Option<HealthReport>>>;
}

/// What the answers are made of.
#[derive(Clone)]
struct Sources {
    snapshots: Snapshots,
    forest: Arc<dyn Forest>,
}

impl FromRef<Sources> for Snapshots {
    fn from_ref(sources: &Sources) -> Self {
        sources.snapshots.clone()
    }
}

/// After so long without progress of the driver, /livez fails; it beats every second.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// The running server.
#[derive(Debug)]
pub struct Server {
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Serves `router` on `address` until `stop`. A port that is taken is tried again and again: the agent never
    /// ends because of its surroundings.
    #[must_use]
    pub fn start(
        address: SocketAddr,
        snapshots: Snapshots,
        forest: Arc<dyn Forest>,
        stop: CancellationToken,
    ) -> Self {
        let task = tokio::spawn(async move {
            tokio::select! {
                () = serve(address, router(snapshots, forest), stop.clone()) => {}
                () = stop.cancelled() => {}
            }
        });
        Self { task }
    }

    /// Waits until the server has stopped.
    pub async fn stopped(self) {
        if let Err(err) = self.task.await {
            tracing::warn!("the health server ended badly: {err}");
        }
    }
}

async fn serve(address: SocketAddr, app: Router, stop: CancellationToken) {
    let pauses = ExponentialBuilder::default()
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times();
    let mut pauses = pauses.build();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!("health is served on http://{address}/health");
                let app = app.clone().into_make_service_with_connect_info::<SocketAddr>();
                let stopping = stop.clone().cancelled_owned();
                match axum::serve(listener, app).with_graceful_shutdown(stopping).await {
                    Ok(()) => return,
                    Err(err) => {
                        tracing::warn!("the health server on {address} ended: {err}; starting it again");
                    }
                }
            }
            Err(err) => tracing::warn!("failed to listen on {address} for /health: {err}; trying again"),
        }
        tokio::time::sleep(pauses.next().unwrap_or(Duration::from_secs(30))).await;
    }
}

/// The routes, answered from `snapshots`. Needs connect info of a [`SocketAddr`].
pub fn router(snapshots: Snapshots, forest: Arc<dyn Forest>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/events", get(events))
        .route("/forest", get(whole_forest))
        .route("/metrics", get(prometheus))
        .fallback(unknown)
        .with_state(Sources { snapshots, forest })
}

fn current(snapshots: &Snapshots, caller: SocketAddr) -> (Arc<Snapshot>, HealthReport) {
    let snapshot = Arc::clone(&snapshots.borrow());
    let audience = Audience::of(caller.ip(), &snapshot);
    let report = report(&snapshot, audience, Instant::now(), Timestamp::now());
    (snapshot, report)
}

async fn health(
    State(snapshots): State<Snapshots>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
) -> Response {
    let (_, report) = current(&snapshots, caller);
    let code = if report.status == Status::Fail { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (code, headers, serde_json::to_string(&report).unwrap_or_default()).into_response()
}

/// The same for Prometheus. It has no address and no line of a log, so every caller gets all of it.
async fn prometheus(
    State(snapshots): State<Snapshots>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
) -> Response {
    let (_, report) = current(&snapshots, caller);
    match metrics(&report) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(err) => (StatusCode::INTERNAL_SERVER_ERROR, err.to_string()).into_response(),
    }
}

/// Does the agent itself make progress? Also tells who it is, so that another node can ask before it takes over
/// an entry.
async fn livez(State(snapshots): State<Snapshots>) -> Response {
    let snapshot = Arc::clone(&snapshots.borrow());
    let alive = snapshot.beat.elapsed() <= DEAD_AFTER;
    let body = json!({
        "status": if alive { "pass" } else { "fail" },
        "forest_id": snapshot.forest.as_str(),
        "node_id": snapshot.node.as_str(),
        "instance": &*snapshot.instance,
    });
    verdict(alive, body)
}

/// Can this node be used: do process, server and JetStream pass?
async fn readyz(
    State(snapshots): State<Snapshots>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
) -> Response {
    let (_, report) = current(&snapshots, caller);
    let asked = ["engine:process", "nats:server", "nats:jetstream"];
    let missing: Vec<_> = report
        .checks
        .iter()
        .into_iter()
        .filter(|(key, check)| asked.contains(key) && check.status != Status::Pass)
        .map(|(key, check)| json!({"check": key, "reason": check.reason, "output": check.output}))
        .collect();
    let ready = missing.is_empty();
    verdict(ready, json!({"status": if ready { "pass" } else { "fail" }, "missing": missing}))
}

/// Every node's health, by one question to all; names those who do not answer.
async fn whole_forest(
    State(sources): State<Sources>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
) -> Json<Value> {
    let snapshot = Arc::clone(&sources.snapshots.borrow());
    let audience = Audience::of(caller.ip(), &snapshot);
    let gathered = sources.forest.gather().await;
    let silent: Vec<_> =
        gathered.iter().filter(|(_, report)| report.is_none()).map(|(node, _)| node).collect();
    let worst = gathered.values().flatten().map(|report| report.status).max().unwrap_or(Status::Fail);
    let status = if silent.is_empty() { worst } else { worst.max(Status::Warn) };
    let nodes: Vec<_> = gathered
        .iter()
        .map(|(node, report)| json!({"node_id": node, "health": report.clone().map(|report| seen_by(audience, report))}))
        .collect();
    Json(json!({"forest_id": snapshot.forest.as_str(), "status": status, "nodes": nodes, "silent": silent}))
}

/// A report of another node, as this caller may see it.
fn seen_by(audience: Audience, mut report: HealthReport) -> HealthReport {
    if audience == Audience::Stranger {
        report.engine.log_tail.clear();
        let peers = report.checks.peers_reachable.iter_mut().filter_map(|check| check.peers.as_mut());
        peers.flatten().for_each(|peer| peer.address = None);
        for check in report.checks.iter_mut() {
            // Only the node itself knows which words of it to withhold.
            if let Some(code) = &check.reason {
                check.output = Reason::of_code(code).map_or("", Reason::meaning).trim().to_owned();
            }
        }
    }
    report
}

async fn events(
    State(snapshots): State<Snapshots>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
) -> Json<Value> {
    let snapshot = Arc::clone(&snapshots.borrow());
    let mut events = snapshot.events.all();
    if Audience::of(caller.ip(), &snapshot) == Audience::Stranger {
        events.iter_mut().for_each(|event| event.message.clear());
    }
    Json(json!({"events": events}))
}

async fn unknown(request: Request) -> Response {
    let message = format!(
        "no {}; there are /health, /livez, /readyz, /events, /forest and /metrics",
        request.uri().path()
    );
    (StatusCode::NOT_FOUND, Json(json!({"error": {"reason": "not_found", "message": message}})))
        .into_response()
}

fn verdict(good: bool, body: Value) -> Response {
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(body)).into_response()
}
