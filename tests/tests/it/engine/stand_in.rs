//! The stand-in NimsForest behaves as the real one was measured to.

use rustix::process::Signal;

use super::nimsforest::{stand_in, start};
use super::*;

fn registry(place: &Place, ips: &[String]) {
    let nodes: Vec<_> = ips.iter().map(|ip| serde_json::json!({ "ip": ip })).collect();
    let text = serde_json::json!({ "nodes": { "grove": nodes } }).to_string();
    write(&place.path("registry.json"), &text);
}

async fn says(running: &mut Running, part: &str) {
    let begun = Instant::now();
    loop {
        // Asked first: what it says last, it says before it ends.
        let runs = running.runs();
        if running.lines().iter().any(|line| line.contains(part)) {
            return;
        }
        assert!(runs, "ended without `{part}`: {:?}", running.lines());
        assert!(begun.elapsed() < HANG, "no `{part}`: {:?}", running.lines());
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn two_nodes_that_list_each_other_form_a_cluster() {
    let places = [Place::new(), Place::new()];
    let ips = [places[0].ip.to_string(), places[1].ip.to_string()];
    let mut nodes = Vec::new();
    for (n, place) in places.iter().enumerate() {
        registry(place, &ips);
        let mut command = stand_in(place, &[("STAND_IN_TIMEOUT", "60000")]);
        let info = format!(r#"{{"forest_id":"grove","node_id":"grove-node-{}"}}"#, n + 1);
        write(&place.path("node-info.json"), &info);
        command.args.clear();
        nodes.push(Running::start(&command, &place.path("log")).unwrap());
    }
    for node in &mut nodes {
        says(node, "fully operational").await;
    }
    let seen =
        until(&mut probe(), &places[0].target(None), |seen| seen.jsz.is_ok() && seen.routez.is_ok()).await;
    assert_eq!(seen.jsz.unwrap().meta_cluster.unwrap().cluster_size, 2);
    assert!(!seen.routez.unwrap().routes.is_empty());
}

#[tokio::test]
async fn a_registry_that_is_none_makes_a_lone_node_and_a_bad_ip_kills_it() {
    for (registry, outcome) in [
        (None, "peers: none"),
        (Some("{\"nodes\""), "peers: none"),
        (Some(r#"{"nodes":{"grove":[{"ip":"tree"}]}}"#), "❌ Failed to create"),
        (Some(r#"{"nodes":{"grove":[{"ip":"fd00::9/64"}]}}"#), "❌ Failed to create"),
        (Some(r#"{"nodes":{"grove":[{"ip":""}]}}"#), "failed to start within timeout"),
        (Some(r#"{"nodes":{"grove":[{"ip":"::1"}]}}"#), "failed to start within timeout"),
    ] {
        let place = Place::new();
        if let Some(text) = registry {
            write(&place.path("registry.json"), text);
        }
        let mut running = start(&place, &[("STAND_IN_TIMEOUT", "700")]);
        if outcome == "peers: none" {
            says(&mut running, outcome).await;
            continue;
        }
        assert_eq!(running.ended().await.code, Some(1), "{registry:?}");
        assert!(running.lines().iter().any(|line| line.contains(outcome)), "{:?}", running.lines());
    }
}

#[tokio::test]
async fn hup_is_ignored_and_a_lame_duck_stays() {
    let place = Place::new();
    let mut running = start(&place, &[]);
    says(&mut running, "fully operational").await;
    running.signal(Signal::HUP);
    running.signal(Signal::USR2);
    says(&mut running, "lame duck").await;
    assert!(running.runs());
    running.signal(Signal::INT);
    assert_eq!(running.ended().await.code, Some(0));
}

#[tokio::test]
async fn killed_it_takes_its_server_along() {
    let place = Place::new();
    let mut running = start(&place, &[]);
    says(&mut running, "fully operational").await;
    running.signal(Signal::KILL);
    assert_eq!(running.ended().await.signal, Some(9));
    until(&mut probe(), &place.target(None), |seen| seen.varz.is_err()).await;
}

#[tokio::test]
async fn on_demand_it_ignores_term_and_floods_its_log() {
    let place = Place::new();
    let mut running = start(&place, &[("STAND_IN_FAULT", "ignore_term")]);
    says(&mut running, "fully operational").await;
    running.signal(Signal::TERM);
    until(&mut probe(), &place.target(None), |seen| seen.round_trip.is_ok()).await;
    assert!(running.runs());

    let place = Place::new();
    let running = start(&place, &[("STAND_IN_FAULT", "flood")]);
    let begun = Instant::now();
    let log = place.path("log");
    while std::fs::metadata(&log).map_or(0, |log| log.len()) < 100_000_000 {
        assert!(begun.elapsed() < HANG, "the flood stopped early");
        sleep(Duration::from_millis(20)).await;
    }
    drop(running);
}

#[tokio::test]
async fn a_first_start_does_not_meet_the_work_queue() {
    let place = Place::new();
    let fault = [("STAND_IN_FAULT", "work_queue")];
    let mut first = start(&place, &fault);
    says(&mut first, "fully operational").await;
    first.signal(Signal::TERM);
    assert_eq!(first.ended().await.code, Some(0));
    let mut second = start(&place, &fault);
    assert_eq!(second.ended().await.code, Some(1));
    let said = second.lines();
    assert!(said.iter().any(|line| line.contains("not unique on workqueue stream")), "{said:?}");
}
