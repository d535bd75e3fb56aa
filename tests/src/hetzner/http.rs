//! The API over HTTP: who may ask, what goes wrong, which handler answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::faults::Fault;
use super::world::{Refusal, Seen, World};
use super::{Shared, TOKEN, catalogue, keys, servers};

/// Between two looks whether a request is still held.
const HOLD: Duration = Duration::from_millis(10);

/// What a handler gives: status and body; no body for 204.
pub(super) type Answer = Result<(u16, Value), Refusal>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().strip_prefix("/v1").unwrap_or_default().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let seen = Seen {
        method: method.to_string(),
        path: path.clone(),
        query: uri.query().unwrap_or_default().to_owned(),
        body: body.clone(),
    };
    let (fault, spent, authorized) = {
        let mut world = shared.world();
        let authorized =
            headers.get(header::AUTHORIZATION).is_some_and(|value| value == &format!("Bearer {TOKEN}"));
        (world.tick(seen), world.spend(), authorized)
    };
    if fault == Some(Fault::Hold) {
        while shared.world().rules.iter().any(|rule| rule.fault == Fault::Hold) {
            tokio::time::sleep(HOLD).await;
        }
    }
    let refused = |status, code: &'static str| Err((status, code, format!("refused: {code}")));
    let answer = match &fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Page(status)) => {
            let status = StatusCode::from_u16(*status).unwrap_or_default();
            return (status, "<html><h1>a proxy's page</h1></html>").into_response();
        }
        Some(Fault::Refuse(status, code)) => refused(*status, code),
        _ if !authorized => refused(401, "unauthorized"),
        _ if !spent => refused(429, "rate_limit_exceeded"),
        _ => dispatch(&shared, method.as_str(), &path, &query(uri.query()), &body),
    };
    match fault {
        Some(Fault::HangAfter) => std::future::pending().await,
        Some(Fault::Lost) => broken(),
        _ => respond(&shared.world(), answer),
    }
}

fn respond(world: &World, answer: Answer) -> Response {
    let (status, body) = answer.unwrap_or_else(|(status, code, message)| {
        (status, json!({"error": {"code": code, "message": message, "details": {}}}))
    });
    let status = StatusCode::from_u16(status).unwrap_or_default();
    let (limit, left) = world.budget;
    let headers = [
        ("ratelimit-limit", limit.to_string()),
        ("ratelimit-remaining", left.to_string()),
        ("ratelimit-reset", "1795377600".to_owned()),
    ];
    match body {
        Value::Null => (status, headers).into_response(),
        body => (status, headers, axum::Json(body)).into_response(),
    }
}

/// An answer that ends before its end.
fn broken() -> Response {
    let part = Ok(Bytes::from_static(b"{"));
    let end = Err(std::io::Error::other("the connection is lost"));
    Body::from_stream(futures::stream::iter([part, end])).into_response()
}

fn dispatch(
    shared: &Arc<Shared>,
    method: &str,
    path: &str,
    query: &[(String, String)],
    body: &Value,
) -> Answer {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let number = |text: &str| text.parse::<u64>().unwrap_or_default();
    match (method, parts.as_slice()) {
        ("GET", ["pricing"]) => Ok((200, catalogue::pricing())),
        ("GET", ["actions"]) if query.iter().all(|(key, _)| key != "id") => {
            Err((410, "deprecated_api_endpoint", "ask for actions by their ids".to_owned()))
        }
        ("GET", [kind]) => Ok((200, page(&shared.world(), kind, query))),
        ("POST", ["servers"]) => servers::create(shared, body),
        ("DELETE", ["servers", id]) => servers::delete(shared, number(id)),
        ("POST", ["servers", id, "actions", "poweron"]) => servers::power_on(&mut shared.world(), number(id)),
        ("POST", ["ssh_keys"]) => keys::create_key(&mut shared.world(), body),
        ("POST", ["firewalls"]) => keys::create_firewall(&mut shared.world(), body),
        ("POST", ["firewalls", id, "actions", what]) => {
            keys::firewall_action(&mut shared.world(), number(id), what, body)
        }
        ("POST", ["placement_groups"]) => keys::create_group(&mut shared.world(), body),
        ("DELETE", [kind, id]) => keys::delete(&mut shared.world(), kind, number(id)),
        _ => Err((404, "not_found", format!("no {method} {path} here"))),
    }
}

/// One page of a listing.
fn page(world: &World, kind: &str, query: &[(String, String)]) -> Value {
    let number = |key: &str, default: usize| {
        let found = query.iter().find(|(k, _)| k == key).and_then(|(_, v)| v.parse().ok());
        found.unwrap_or(default).max(1)
    };
    let all = world.select(kind, query);
    let (page, per_page) = (number("page", 1), number("per_page", 25).min(world.page_cap));
    let last = all.len().div_ceil(per_page).max(1);
    let next = (page < last).then_some(page + 1);
    let things: Vec<Value> = all.iter().skip((page - 1) * per_page).take(per_page).cloned().collect();
    json!({kind: things, "meta": {"pagination": {"page": page, "per_page": per_page,
        "previous_page": (page > 1).then(|| page - 1), "next_page": next, "last_page": last,
        "total_entries": all.len()}}})
}

fn query(text: Option<&str>) -> Vec<(String, String)> {
    let url = url::Url::parse(&format!("http://x/?{}", text.unwrap_or_default()));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}
