//! What an observation of the engine means: the checks `nats:server` and `nats:jetstream`. Pure.

use forest_core::health::Status;
use forest_core::reason::Reason;
use serde_json::Value;

use crate::engine::monitor::{Healthz, Jsz};
use crate::engine::probe::EngineObservation;
use crate::engine::version::is_before_2_10;

/// What is said of a server before 2.10 that is well.
const OLD: &str = "; of a stream whose replicas were raised it may lose messages when a server is killed: create \
                   streams with their replicas, or upgrade to 2.10 or newer";

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// How it went.
    pub status: Status,
    /// Why, where it is not `pass`.
    pub reason: Option<Reason>,
    /// What was measured; `null` where there is nothing to measure.
    pub value: Value,
    /// A sentence for a person.
    pub text: String,
}

impl Verdict {
    fn pass(value: Value, text: String) -> Self {
        Self { status: Status::Pass, reason: None, value, text }
    }

    fn fail(reason: Reason, text: String) -> Self {
        Self { status: Status::Fail, reason: Some(reason), value: Value::Null, text }
    }
}

/// `nats:server`: does our server answer, to its monitor and to a client? Value: the round trip in ms.
#[must_use]
pub fn nats_check(seen: &EngineObservation) -> Verdict {
    let (health, varz) = match (&seen.healthz, &seen.varz) {
        (Ok(health), _) if health.is_starting() => return unhealthy(health),
        (Err(err), _) | (_, Err(err)) => return Verdict::fail(Reason::NatsUnreachable, err.to_string()),
        (Ok(health), Ok(varz)) => (health, varz),
    };
    let wrong = |port: &str, name: &str| {
        let text = format!("the server at the {port} port is `{name}`, not `{}`", seen.node);
        Verdict::fail(Reason::NatsWrongServer, text)
    };
    if varz.server_name != seen.node.as_str() {
        return wrong("monitoring", &varz.server_name);
    }
    if health.status != "ok" {
        return unhealthy(health);
    }
    match &seen.round_trip {
        Err(err) => Verdict::fail(Reason::NatsNoRoundTrip, err.to_string()),
        Ok(trip) if trip.server_name != seen.node.as_str() => wrong("client", &trip.server_name),
        Ok(trip) => {
            let micros = u32::try_from(trip.rtt.as_micros()).unwrap_or(u32::MAX);
            let mut text = format!("nats-server {} answers on port {}", varz.version, varz.port);
            if is_before_2_10(&varz.version) {
                text.push_str(OLD);
            }
            Verdict::pass((f64::from(micros) / 1000.0).into(), text)
        }
    }
}

fn unhealthy(health: &Healthz) -> Verdict {
    let text = format!("/healthz says {}: {}", health.status, health.error);
    Verdict::fail(Reason::NatsUnhealthy, text)
}

/// `nats:jetstream`: can streams be used? Value: the size of the meta group, `null` on a standalone server.
#[must_use]
pub fn jetstream_check(seen: &EngineObservation) -> Verdict {
    let jsz = match &seen.jsz {
        Ok(jsz) => jsz,
        Err(err) => return Verdict::fail(Reason::JetstreamNoAnswer, err.to_string()),
    };
    if jsz.disabled {
        return Verdict::fail(Reason::JetstreamDisabled, "JetStream is not enabled".to_owned());
    }
    if let Some(meta) = &jsz.meta_cluster
        && meta.leader.is_empty()
    {
        let text = format!("the meta group of {} has no leader", meta.cluster_size);
        return Verdict::fail(Reason::JetstreamNoLeader, text);
    }
    if let Err(err) = &seen.api {
        return Verdict::fail(Reason::JetstreamNoAnswer, err.to_string());
    }
    match &jsz.meta_cluster {
        None => Verdict::pass(Value::Null, format!("standalone, no meta group; {}", usage(jsz))),
        Some(meta) => {
            let text = format!("meta leader {} of {}; {}", meta.leader, meta.cluster_size, usage(jsz));
            Verdict::pass(meta.cluster_size.into(), text)
        }
    }
}

fn usage(jsz: &Jsz) -> String {
    let mib = |bytes: u64| bytes >> 20;
    format!(
        "{} streams, {} of {} MiB on disk, {} of {} MiB in memory",
        jsz.streams,
        mib(jsz.storage),
        mib(jsz.config.max_storage),
        mib(jsz.memory),
        mib(jsz.config.max_memory)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::client::{ApiAnswer, RoundTrip};
    use crate::engine::monitor::{MetaCluster, Routez, Unanswered};

    fn well() -> EngineObservation {
        EngineObservation {
            node: "grove-node-1".parse().unwrap(),
            varz: Ok(serde_json::from_str(
                r#"{"server_id":"NA","server_name":"grove-node-1","version":"2.15.1","port":4222}"#,
            )
            .unwrap()),
            healthz: Ok(Healthz { status: "ok".to_owned(), error: String::new() }),
            jsz: Ok(Jsz::default()),
            routez: Ok(Routez::default()),
            round_trip: Ok(RoundTrip {
                rtt: Duration::from_micros(1500),
                server_name: "grove-node-1".to_owned(),
            }),
            api: Ok(ApiAnswer { streams: 0 }),
        }
    }

    fn unanswered() -> Unanswered {
        Unanswered { what: "http://127.0.0.1:8222/x".to_owned(), why: "connection refused".to_owned() }
    }

    fn ill(change: impl FnOnce(&mut EngineObservation)) -> EngineObservation {
        let mut seen = well();
        change(&mut seen);
        seen
    }

    #[test]
    fn a_well_standalone_server_passes_both() {
        let server = nats_check(&well());
        assert_eq!((server.status, server.value), (Status::Pass, Value::from(1.5)));
        let jetstream = jetstream_check(&well());
        assert_eq!((jetstream.status, jetstream.value), (Status::Pass, Value::Null));
        assert!(jetstream.text.starts_with("standalone"));
    }

    #[test]
    fn the_meta_group_is_the_value() {
        let seen = ill(|seen| {
            seen.jsz.as_mut().unwrap().meta_cluster =
                Some(MetaCluster { leader: "n2".to_owned(), cluster_size: 3, replicas: Vec::new() });
        });
        assert_eq!(jetstream_check(&seen).value, Value::from(3));
    }

    #[test]
    fn each_failure_of_the_server_has_its_reason() {
        let cases: [(Reason, EngineObservation); 6] = [
            (Reason::NatsUnreachable, ill(|seen| seen.varz = Err(unanswered()))),
            (Reason::NatsUnreachable, ill(|seen| seen.healthz = Err(unanswered()))),
            (
                Reason::NatsWrongServer,
                ill(|seen| seen.varz.as_mut().unwrap().server_name = "other".to_owned()),
            ),
            (
                Reason::NatsUnhealthy,
                ill(|seen| seen.healthz.as_mut().unwrap().status = "unavailable".to_owned()),
            ),
            (Reason::NatsNoRoundTrip, ill(|seen| seen.round_trip = Err(unanswered()))),
            (
                Reason::NatsWrongServer,
                ill(|seen| seen.round_trip.as_mut().unwrap().server_name = "other".to_owned()),
            ),
        ];
        for (reason, seen) in cases {
            let verdict = nats_check(&seen);
            assert_eq!((verdict.status, verdict.reason), (Status::Fail, Some(reason)), "{}", verdict.text);
        }
    }

    #[test]
    fn a_server_that_does_not_listen_yet_is_unhealthy_rather_than_gone() {
        let seen = ill(|seen| {
            seen.varz = Err(unanswered());
            seen.healthz = Ok(Healthz {
                status: "error".to_owned(),
                error: "failed to be ready for connections after 1ms: server, route".to_owned(),
            });
        });
        assert_eq!(nats_check(&seen).reason, Some(Reason::NatsUnhealthy));
    }

    #[test]
    fn each_failure_of_jetstream_has_its_reason() {
        let leaderless = Some(MetaCluster::default());
        let cases: [(Reason, EngineObservation); 4] = [
            (Reason::JetstreamNoAnswer, ill(|seen| seen.jsz = Err(unanswered()))),
            (Reason::JetstreamNoAnswer, ill(|seen| seen.api = Err(unanswered()))),
            (Reason::JetstreamDisabled, ill(|seen| seen.jsz.as_mut().unwrap().disabled = true)),
            (Reason::JetstreamNoLeader, ill(|seen| seen.jsz.as_mut().unwrap().meta_cluster = leaderless)),
        ];
        for (reason, seen) in cases {
            let verdict = jetstream_check(&seen);
            assert_eq!((verdict.status, verdict.reason), (Status::Fail, Some(reason)), "{}", verdict.text);
        }
    }
}
