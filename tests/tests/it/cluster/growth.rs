//! Growing: nothing is restarted, and nothing is lost.

use std::time::Duration;

use async_nats::jetstream::{consumer, stream};
use forest_tests::client::{Client, Publisher, Reader};
use forest_tests::nats;
use forest_tests::wait::until;
use futures::StreamExt;

use super::Forest;

pub(super) fn config(name: &str, replicas: usize) -> stream::Config {
    stream::Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        num_replicas: replicas,
        ..stream::Config::default()
    }
}

#[test]
fn one_to_three_to_five_under_a_steady_publisher() {
    for server in nats::servers() {
        let mut forest = Forest::grown(&server, 1);
        let client = Client::connect(&forest.clients());
        client.run(|js| async move {
            js.create_stream(config("orders", 1)).await.unwrap();
            // The bucket by hand: the client asks for more than an old server tells before it makes one.
            let bucket = stream::Config {
                subjects: vec!["$KV.settings.>".to_owned()],
                max_messages_per_subject: 5,
                allow_rollup: true,
                deny_delete: true,
                allow_direct: true,
                discard: stream::DiscardPolicy::New,
                ..config("KV_settings", 1)
            };
            js.create_stream(bucket).await.unwrap();
            let settings = js.get_key_value("settings").await.unwrap();
            settings.put("colour", "green".into()).await.unwrap();
            let retention = stream::RetentionPolicy::WorkQueue;
            let queue = js.create_stream(stream::Config { retention, ..config("jobs", 1) }).await.unwrap();
            let durable =
                consumer::pull::Config { durable_name: Some("worker".to_owned()), ..Default::default() };
            let worker = queue.create_consumer(durable).await.unwrap();
            for number in 1..=20 {
                js.publish("jobs.x", number.to_string().into()).await.unwrap().await.unwrap();
            }
            take(&worker, 1..=8).await;
        });
        let publisher = Publisher::start(forest.clients(), "orders.new");
        let reader = Reader::start(forest.clients(), "orders");
        let founder = forest.nodes[0].engine_pid();

        forest.plant();
        forest.until_well();
        forest.plant();
        forest.until_well();
        client.run(|js| async move {
            for name in ["orders", "KV_settings", "jobs"] {
                let stream = js.get_stream(name).await.unwrap();
                let raised = stream::Config { num_replicas: 3, ..stream.cached_info().config.clone() };
                // An old server may answer 503 to an update that took effect; what it is then says.
                let _ = js.update_stream(raised).await;
            }
        });
        for name in ["orders", "KV_settings", "jobs"] {
            until(&format!("{name} has three current replicas"), || {
                let info = client
                    .run(|js| async move { js.get_stream(name).await.ok()?.info().await.ok().cloned() });
                let replicas = info?.cluster?.replicas;
                (replicas.len() == 2 && replicas.iter().all(|replica| replica.current)).then_some(())
            });
        }
        forest.plant();
        forest.plant();
        forest.until_well();

        let published = publisher.stop();
        until("the reader has taken all", || (reader.missing(&published.acknowledged) == 0).then_some(()));
        reader.stop();
        assert_eq!(forest.nodes[0].engine_pid(), founder, "nothing was restarted");
        assert!(forest.nodes.iter().all(|node| node.health()["engine"]["restarts"] == 0));
        let kept = client.run(|js| async move {
            let worker = js.get_stream("jobs").await.unwrap().get_consumer("worker").await.unwrap();
            take(&worker, 9..=20).await;
            let settings = js.get_key_value("settings").await.unwrap();
            assert_eq!(settings.get("colour").await.unwrap().unwrap(), "green");
            numbers(&js, "orders").await
        });
        let lost: Vec<_> = published.acknowledged.iter().filter(|number| !kept.contains(number)).collect();
        assert_eq!(lost, [&0; 0], "acknowledged and gone");
        assert!(published.acknowledged.len() > 100);
        println!(
            "{}: {} acknowledged, longest gap {:?}",
            server.display(),
            published.acknowledged.len(),
            published.longest_gap
        );
        forest.stop();
    }
}

/// Takes exactly these numbers from the work queue, in their order.
pub(super) async fn take(worker: &consumer::PullConsumer, numbers: std::ops::RangeInclusive<u64>) {
    let count = numbers.clone().count();
    let batch = worker.fetch().max_messages(count).expires(Duration::from_secs(10));
    let mut messages = batch.messages().await.unwrap();
    for number in numbers {
        let message = messages.next().await.expect("one more").unwrap();
        assert_eq!(message.payload, number.to_string().as_bytes());
        message.double_ack().await.unwrap();
    }
}

/// Every number that the stream holds.
pub(crate) async fn numbers(
    js: &async_nats::jetstream::Context,
    name: &str,
) -> std::collections::HashSet<u64> {
    let stream = js.get_stream(name).await.unwrap();
    let ordered = consumer::pull::OrderedConfig::default();
    let count = usize::try_from(stream.cached_info().state.messages).unwrap();
    let consumer = stream.create_consumer(ordered).await.unwrap();
    let messages = consumer.messages().await.unwrap().take(count);
    messages
        .map(|message| String::from_utf8_lossy(&message.unwrap().payload).parse::<u64>().unwrap())
        .collect()
        .await
}

#[test]
fn no_stream_ever_lands_on_the_witness() {
    for server in nats::servers() {
        let mut forest = Forest::grown(&server, 1);
        for nodes in 1..=3 {
            if nodes > 1 {
                forest.plant();
                forest.until_well();
            }
            let client = Client::connect(&forest.clients()[..1]);
            for replicas in 1..=3 {
                let name = format!("s{nodes}x{replicas}");
                let made = client.run(|js| async move { js.create_stream(config(&name, replicas)).await });
                assert_eq!(made.is_ok(), replicas <= nodes, "R{replicas} on {nodes} nodes: {made:?}");
                let Some(cluster) = made.ok().and_then(|stream| stream.cached_info().cluster.clone()) else {
                    continue;
                };
                let names = cluster.replicas.iter().map(|replica| replica.name.clone()).chain(cluster.leader);
                assert!(names.into_iter().all(|name| name.starts_with("grove-node-")));
            }
        }
        forest.stop();
    }
}
