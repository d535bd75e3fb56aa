//! The agent's HTTP: every answer comes from the last published snapshot, so it comes at once whatever the share
//! or the engine are doing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use backon::{BackoffBuilder, ExponentialBuilder};
use forest_core::health::{CONTENT_TYPE, HealthReport, Status};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::{Audience, Snapshot, report};

type Snapshots = watch::Receiver<Arc<Snapshot>>;

/// After so many intervals without progress of the driver, /livez fails.
const DEAD_AFTER: u32 = 6;

/// The running server.
#[derive(Debug)]
pub struct Server {
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Serves `router` on `address` until `stop`. A port that is taken is tried again and again: the agent never
    /// ends because of its surroundings.
    #[must_use]
    pub fn start(address: SocketAddr, snapshots: Snapshots, stop: CancellationToken) -> Self {
        let task = tokio::spawn(async move {
            tokio::select! {
                () = serve(address, snapshots, stop.clone()) => {}
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

async fn serve(address: SocketAddr, snapshots: Snapshots, stop: CancellationToken) {
    let pauses = ExponentialBuilder::default()
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times();
    let mut pauses = pauses.build();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!("health is served on http://{address}/health");
                let app = router(snapshots.clone()).into_make_service_with_connect_info::<SocketAddr>();
                let stopping = stop.clone().cancelled_owned();
                match axum::serve(listener, app).with_graceful_shutdown(stopping).await {
                    Ok(()) => return,
                    Err(err) => {
                        tracing::warn!("the health server on {address} ended: {err}; starting it again")
                    }
                }
            }
            Err(err) => tracing::warn!("failed to listen on {address} for /health: {err}; trying again"),
        }
        tokio::time::sleep(pauses.next().unwrap_or(Duration::from_secs(30))).await;
    }
}

/// The routes, answered from `snapshots`. Needs connect info of a [`SocketAddr`].
pub fn router(snapshots: Snapshots) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/events", get(events))
        .fallback(unknown)
        .with_state(snapshots)
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

/// Does the agent itself make progress? Also tells who it is, so that another node can ask before it takes over
/// an entry.
async fn livez(State(snapshots): State<Snapshots>) -> Response {
    let snapshot = Arc::clone(&snapshots.borrow());
    let alive = snapshot.beat.elapsed() <= snapshot.interval * DEAD_AFTER;
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

async fn events(State(snapshots): State<Snapshots>) -> Json<Value> {
    let snapshot = Arc::clone(&snapshots.borrow());
    Json(json!({"events": snapshot.events.all()}))
}

async fn unknown(request: Request) -> Response {
    let message = format!("no {}; there are /health, /livez, /readyz and /events", request.uri().path());
    (StatusCode::NOT_FOUND, Json(json!({"error": {"reason": "not_found", "message": message}})))
        .into_response()
}

fn verdict(good: bool, body: Value) -> Response {
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(body)).into_response()
}
