use forest_core::registry::Document as _;
use forest_core::secrets::rotation::Stage;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn report(node: u8, others: u8, rotation: Option<Progress>) -> Value {
    let check = json!([{"status": "pass", "time": "", "observedValue": null, "observedUnit": ""}]);
    let keys = [
        "engine:process",
        "nats:server",
        "nats:jetstream",
        "peers:reachable",
        "registry:entry",
        "share:mounted",
        "firewall:rules",
    ];
    let mut checks: Value =
        keys.into_iter().map(|key| (key.to_owned(), check.clone())).collect::<serde_json::Map<_, _>>().into();
    let peer =
        |n| json!({"node_id": format!("n{n}"), "address": null, "tcp": true, "route": true, "error": null});
    checks["peers:reachable"][0]["peers"] = (0..others).map(peer).collect();
    json!({
        "status": "pass", "version": "1", "releaseId": "", "serviceId": "", "forest_id": "grove", "node_id": format!("n{node}"),
        "address": null, "uptime_seconds": 1, "step": "ready", "checks": checks, "rotation": rotation,
        "engine": {"kind": "nats-server", "version": null, "pid": 1, "restarts": 0, "last_exit": null, "log_tail": []},
    })
}

fn told(reports: &[Value]) -> Vec<Told> {
    let read = |report: &Value| Told {
        node: report["node_id"].as_str().unwrap().parse().unwrap(),
        health: serde_json::from_value(report.clone()).map_err(|err| err.to_string()),
        is_older: report.get("rotation").is_none(),
    };
    reports.iter().map(read).collect()
}

fn grove() -> ForestId {
    "grove".parse().unwrap()
}

fn founded() -> Secrets {
    Secrets::empty().found(&"n1".parse().unwrap(), "f", Timestamp::UNIX_EPOCH).unwrap()
}

fn three(rotation: Option<Progress>) -> [Value; 3] {
    [1, 2, 3].map(|n| report(n, 2, rotation))
}

#[test]
fn only_a_forest_that_is_whole_begins() {
    let none = Progress::NONE;
    assert_eq!(unfit(&grove(), &told(&three(Some(none))), none), None);
    let reason = |change: &dyn Fn(&mut Value)| {
        let mut reports = three(Some(none));
        change(&mut reports[1]);
        let failure = unfit(&grove(), &told(&reports), none).unwrap();
        assert!(
            failure.message.contains("n2") && failure.message.contains("nothing was changed"),
            "{failure}"
        );
        failure.reason
    };
    assert_eq!(reason(&|report| report["engine"]["kind"] = "nimsforest".into()), Reason::NotSupported);
    assert_eq!(reason(&|report| report["rotation"] = Value::Null), Reason::NotHealthy);
    assert_eq!(reason(&|report| report["status"] = "fail".into()), Reason::NotHealthy);
    assert_eq!(
        reason(&|report| report["checks"]["peers:reachable"][0]["status"] = "warn".into()),
        Reason::NotHealthy
    );
    assert_eq!(
        reason(&|report| report["checks"]["peers:reachable"][0]["peers"] = json!([])),
        Reason::NotHealthy
    );
    assert_eq!(reason(&|report| report["engine"] = Value::Null), Reason::AgentUnreachable);
}

#[test]
fn an_older_agent_leaves_it_out() {
    let mut report = report(1, 0, None);
    report.as_object_mut().unwrap().remove("rotation");
    assert_eq!(unfit(&grove(), &told(&[report]), Progress::NONE).unwrap().reason, Reason::NotSupported);
}

#[test]
fn the_next_stage_waits_until_the_forest_is_whole_and_who_is_away_is_to_blame() {
    let secrets = founded().begin_rotation(Timestamp::UNIX_EPOCH).unwrap();
    let record = secrets.record().unwrap();
    let mut reports = three(Some(record.progress()));
    let names = |reports: &[Value]| match next(record, &told(reports), true) {
        Next::Wait(behind) => behind.into_iter().map(|(node, _)| node.to_string()).collect(),
        next => vec![format!("{next:?}")],
    };
    reports[0]["status"] = "warn".into();
    reports[0]["checks"]["share:mounted"][0]["status"] = "warn".into();
    assert!(names(&reports)[0].starts_with("Advance"), "that is no matter of routes");
    reports[0]["checks"]["nats:jetstream"][0]["status"] = "warn".into();
    assert_eq!(names(&reports), ["n1"]);
    reports[1]["engine"] = Value::Null;
    assert_eq!(names(&reports), ["n2"]);
}

#[test]
fn the_one_that_is_waited_for_is_named() {
    let secrets = founded().begin_rotation(Timestamp::UNIX_EPOCH).unwrap();
    let record = secrets.record().unwrap();
    let mut reports = three(Some(record.progress()));
    reports[2]["rotation"] = json!(Progress::NONE);
    let Next::Wait(behind) = next(record, &told(&reports), true) else { panic!() };
    assert_eq!(behind, [("n3".parse().unwrap(), "has not come to stage offered yet".to_owned())]);
}

proptest! {
    /// Nodes follow as late and in whatever order they like, the command is begun again at any moment: one rotation, by
    /// single stages, none of which is recorded before every node is through the one before; and it comes to its end.
    #[test]
    fn a_rotation_ends_and_is_one(follows in proptest::collection::vec((0usize..3, any::<bool>()), 60)) {
        let mut secrets = founded();
        let mut nodes = [Progress::NONE; 3];
        let (mut begun, mut begins, mut done) = (false, 0, false);
        let every = (0..3).cycle().map(|n| (n, false)).take(60);
        for (node, killed) in follows.into_iter().chain(every) {
            let record = secrets.record().unwrap().clone();
            let reports: Vec<_> = [1, 2, 3].iter().zip(nodes).map(|(n, progress)| report(*n, 2, Some(progress))).collect();
            let told = told(&reports);
            if killed {
                begun = record.is_rotating;
            }
            if done {
                break;
            }
            match next(&record, &told, begun) {
                Next::Done => done = true,
                Next::Begin if begins == 1 => {
                    // It was through: whoever asks once more gets another.
                    let over = Progress { epoch: 1, stage: Stage::Done };
                    prop_assert_eq!(nodes, [over; 3]);
                    done = true;
                }
                Next::Begin => {
                    secrets = secrets.begin_rotation(Timestamp::UNIX_EPOCH).unwrap();
                    (begun, begins) = (true, begins + 1);
                }
                Next::Advance(from) => {
                    prop_assert!(nodes.iter().all(|progress| *progress == from));
                    secrets = secrets.advance_rotation(from).unwrap();
                }
                Next::Wait(behind) => prop_assert!(!behind.is_empty()),
            }
            nodes[node] = secrets.record().unwrap().progress();
        }
        prop_assert!(done && begins == 1);
    }
}
