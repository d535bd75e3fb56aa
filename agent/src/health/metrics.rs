//! `/metrics`: the report as Prometheus reads it, in OpenMetrics' text. Pure: what was not measured has no sample.

use std::fmt;

use forest_core::health::{Check, HealthReport, Status};
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What begins every name.
const PREFIX: &str = "forest_agent";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Identity {
    forest_id: String,
    node_id: String,
    version: String,
    engine_kind: String,
    engine_version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCheck {
    check: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reasoned {
    check: &'static str,
    reason: String,
}

/// The whole text.
///
/// # Errors
/// None that a report could cause.
pub fn metrics(report: &HealthReport) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    of_agent(&mut registry, report);
    of_checks(&mut registry, report);
    of_engine(&mut registry, report);
    of_surroundings(&mut registry, report);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn of_agent(registry: &mut Registry, report: &HealthReport) {
    let identity = Identity {
        forest_id: report.forest_id.clone(),
        node_id: report.node_id.clone(),
        version: report.release_id.clone(),
        engine_kind: report.engine.kind.clone(),
        engine_version: report.engine.version.clone().unwrap_or_default(),
    };
    registry.register("node", "Which node this is, and what it runs", Info::new(identity));
    let uptime = Some(whole(report.uptime_seconds));
    seconds(registry, "uptime", "How long the agent has been running", uptime);
    let status = Some(level(report.status));
    gauge(registry, "health_status", "The node's verdict: 0 pass, 1 warn, 2 fail", status);
}

fn of_checks(registry: &mut Registry, report: &HealthReport) {
    let (statuses, reasons) = (Family::<OfCheck, Gauge>::default(), Family::<Reasoned, Gauge>::default());
    for (check, found) in report.checks.iter() {
        statuses.get_or_create(&OfCheck { check }).set(i64::from(found.status as u8));
        if let Some(reason) = &found.reason {
            reasons.get_or_create(&Reasoned { check, reason: reason.clone() }).set(1);
        }
    }
    registry.register("check_status", "A check of /health: 0 pass, 1 warn, 2 fail", statuses);
    registry.register("check_reason", "1: why a check does not pass, as a stable reason code", reasons);
}

fn of_engine(registry: &mut Registry, report: &HealthReport) {
    let engine = &report.engine;
    let up = Some(f64::from(u8::from(engine.pid.is_some())));
    gauge(registry, "engine_up", "1 while the engine's process lives, else 0", up);
    gauge(registry, "engine_pid", "The engine's process id, while it lives", engine.pid.map(f64::from));
    let restarts: Counter = Counter::default();
    restarts.inc_by(engine.restarts);
    let help = "Starts of the engine after the first, since the agent began";
    registry.register("engine_restarts", help, restarts);
    let checks = &report.checks;
    let rtt = observed(&checks.nats_server).map(|ms| ms / 1e3);
    seconds(registry, "nats_rtt", "A client's round trip through the local engine", rtt);
    let help = "Members of JetStream's meta group, the witness among them";
    gauge(registry, "jetstream_meta_members", help, observed(&checks.nats_jetstream));
}

fn of_surroundings(registry: &mut Registry, report: &HealthReport) {
    let checks = &report.checks;
    #[expect(clippy::cast_precision_loss, reason = "a number of nodes")]
    let known = checks.peers_reachable[0].peers.as_ref().map(|peers| peers.len() as f64);
    gauge(registry, "peers_known", "Other nodes of the forest, by the registry", known);
    let reachable = observed(&checks.peers_reachable);
    gauge(registry, "peers_reachable", "Those of them whose cluster port answers", reachable);
    let age = observed(&checks.registry_entry);
    seconds(registry, "registry_age", "How long ago the registry was last read well", age);
    let latency = observed(&checks.share_mounted).map(|ms| ms / 1e3);
    seconds(registry, "share_latency", "How long the share took to answer", latency);
    let rules = observed(&checks.firewall_rules);
    gauge(registry, "firewall_rules", "Firewall rules of ours that stand", rules);
}

fn observed(check: &[Check; 1]) -> Option<f64> {
    check[0].observed_value.as_f64()
}

fn level(status: Status) -> f64 {
    f64::from(status as u8)
}

#[expect(clippy::cast_precision_loss, reason = "exact for longer than any agent runs")]
fn whole(value: u64) -> f64 {
    value as f64
}

fn sample(value: f64) -> Gauge<f64, std::sync::atomic::AtomicU64> {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: Option<f64>) {
    if let Some(value) = value {
        registry.register(name, help, sample(value));
    }
}

fn seconds(registry: &mut Registry, name: &str, help: &str, value: Option<f64>) {
    if let Some(value) = value {
        registry.register_with_unit(name, help, Unit::Seconds, sample(value));
    }
}
