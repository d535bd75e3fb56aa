//! A forest that gets smaller again: nodes leave it for good under load, and nothing is lost.

mod chaos;
mod dead;
mod refused;

use std::collections::HashSet;
use std::path::Path;

use async_nats::jetstream::{consumer, stream};
use forest_tests::client::{Client, Publisher, Reader};
use forest_tests::nats;
use forest_tests::node::Node;
use forest_tests::schema::check as check_schema;
use forest_tests::wait::{until, until_value};
use serde_json::Value;

use super::Forest;
use super::growth::{config, numbers};

impl Forest {
    /// Lets node `index` leave, and takes it out of the list.
    #[track_caller]
    pub(super) fn leave(&mut self, index: usize) -> Value {
        let output = self.nodes[index].run(&["leave", "--json"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        check_schema("leave", &told);
        assert_eq!(told["status"], "left", "{told:#}");
        self.gone(index);
        told
    }

    /// Node `index` is out: no entry, a tombstone, no engine, and it says so. Ends its agent.
    #[track_caller]
    pub(super) fn gone(&mut self, index: usize) -> Node {
        let mut node = self.nodes.remove(index);
        node.until_reason("engine:process", "removed");
        let registry: Value = serde_json::from_slice(&std::fs::read(self.registry()).unwrap()).unwrap();
        let entries = registry["nodes"]["grove"].as_array().unwrap();
        assert!(entries.iter().all(|entry| entry["id"] != node.id.as_str()), "{registry:#}");
        assert!(registry["forests"]["grove"]["removed"][&node.id].is_string(), "{registry:#}");
        assert_eq!(node.stop(), Some(0));
        assert_eq!(node.processes(), []);
        node
    }
}

/// What an application has: streams, a bucket, a queue of which some was taken.
fn furnish(client: &Client, replicas: usize) {
    client.run(|js| async move {
        js.create_stream(config("orders", replicas)).await.unwrap();
        let bucket = stream::Config {
            subjects: vec!["$KV.settings.>".to_owned()],
            max_messages_per_subject: 5,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            discard: stream::DiscardPolicy::New,
            ..config("KV_settings", replicas)
        };
        js.create_stream(bucket).await.unwrap();
        js.get_key_value("settings").await.unwrap().put("colour", "green".into()).await.unwrap();
        let retention = stream::RetentionPolicy::WorkQueue;
        let queue = js.create_stream(stream::Config { retention, ..config("jobs", replicas) }).await.unwrap();
        let durable =
            consumer::pull::Config { durable_name: Some("worker".to_owned()), ..Default::default() };
        let worker = queue.create_consumer(durable).await.unwrap();
        for number in 1..=20 {
            js.publish("jobs.x", number.to_string().into()).await.unwrap().await.unwrap();
        }
        super::growth::take(&worker, 1..=8).await;
    });
}

/// All of [`furnish`] is there as it was left.
fn check(client: &Client) {
    client.run(|js| async move {
        let worker = js.get_stream("jobs").await.unwrap().get_consumer("worker").await.unwrap();
        super::growth::take(&worker, 9..=20).await;
        let settings = js.get_key_value("settings").await.unwrap();
        assert_eq!(settings.get("colour").await.unwrap().unwrap(), "green");
    });
}

fn raise(client: &Client, replicas: usize) {
    client.run(|js| async move {
        for name in ["orders", "KV_settings", "jobs"] {
            let stream = js.get_stream(name).await.unwrap();
            let raised = stream::Config { num_replicas: replicas, ..stream.cached_info().config.clone() };
            // An old server may answer 503 to an update that took effect; what it is then says.
            let _ = js.update_stream(raised).await;
        }
    });
    for name in ["orders", "KV_settings", "jobs"] {
        until(&format!("{name} has {replicas} current replicas"), || {
            let info =
                client.run(|js| async move { js.get_stream(name).await.ok()?.info().await.ok().cloned() });
            let others = info?.cluster?.replicas;
            (others.len() + 1 == replicas && others.iter().all(|replica| replica.current)).then_some(())
        });
    }
}

/// As it is asked for; otherwise the way through five is left out.
#[test]
#[ignore = "takes minutes: make leave"]
fn from_one_to_many_and_back_to_one_under_load() {
    let long = std::env::var("FOREST_CHAOS").is_ok_and(|asked| asked == "long");
    each(|server| there_and_back(server, if long { 5 } else { 3 }));
}

/// With every version of the server, side by side: most of it is waiting.
fn each(test: impl Fn(&Path) + Sync) {
    let (servers, test) = (nats::servers(), &test);
    std::thread::scope(|scope| {
        for server in &servers {
            scope.spawn(move || test(server));
        }
    });
}

fn there_and_back(server: &Path, most: usize) {
    let mut forest = Forest::grown(server, 1);
    let client = Client::connect(&forest.clients());
    furnish(&client, 1);
    for _ in 0..2 {
        forest.plant();
        forest.until_well();
    }
    raise(&client, 3);
    while forest.nodes.len() < most {
        forest.plant();
    }
    forest.until_well();
    drop(client);
    let clients = forest.clients();
    let client = Client::connect(&clients);
    let publisher = Publisher::start(clients.clone(), "orders.new");
    let reader = Reader::start(clients, "orders");
    // The founder first; from three on, one that keeps no witness and then the one that may.
    while forest.nodes.len() > 1 {
        let told = forest.leave(0);
        assert_eq!(told["lost"], serde_json::json!([]), "{told:#}");
        forest.until_well();
    }
    assert_eq!(forest.nodes.len(), 1);
    let published = publisher.stop();
    let kept: HashSet<u64> = client.run(|js| async move { numbers(&js, "orders").await });
    let lost: Vec<_> = published.acknowledged.iter().filter(|number| !kept.contains(number)).collect();
    assert_eq!(lost, [&0; 0], "acknowledged and gone");
    until_value(
        "the reader has taken all",
        || {
            let reader = client.run(|js| async move {
                let mut reader = js
                    .get_stream("orders")
                    .await
                    .ok()?
                    .get_consumer::<consumer::pull::Config>("reader")
                    .await
                    .ok()?;
                reader.info().await.ok().cloned()
            });
            (reader.is_some(), reader)
        },
        |_| reader.missing(&published.acknowledged) == 0,
    );
    reader.stop();
    check(&client);
    let record = forest.record();
    assert_eq!(record["founder"], forest.nodes[0].id.as_str(), "{:#}", record["founder"]);
    println!(
        "{}: {} acknowledged, longest gap {:?}",
        server.display(),
        published.acknowledged.len(),
        published.longest_gap
    );
    forest.stop();
}
