//! Growing: nothing is restarted, and nothing is lost.

use std::time::Duration;

use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::{consumer, stream};
use forest_tests::client::{Client, Publisher, Reader};
use forest_tests::nats;
use forest_tests::wait::{PATIENCE, until};
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
        raise(&client, &["orders", "KV_settings", "jobs"], 3);
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

/// Gives streams more replicas, and waits until all of them are current.
pub(super) fn raise(client: &Client, names: &[&'static str], replicas: usize) {
    for name in names {
        until(&format!("{name} has {replicas} current replicas"), || {
            client.run(|js| async move {
                let mut stream = js.get_stream(name).await.ok()?;
                let config = stream.cached_info().config.clone();
                if config.num_replicas != replicas {
                    // An old server may answer 503 to an update that took effect; what it is then says.
                    let _ = js.update_stream(stream::Config { num_replicas: replicas, ..config }).await;
                }
                let others = stream.info().await.ok()?.cluster.clone()?.replicas;
                (others.len() + 1 == replicas && others.iter().all(|replica| replica.current)).then_some(())
            })
        });
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

/// Every number that the stream holds. A leader may just be replaced: what cannot be read is read again.
pub(crate) async fn numbers(
    js: &async_nats::jetstream::Context,
    name: &str,
) -> std::collections::HashSet<u64> {
    let begun = std::time::Instant::now();
    loop {
        match tokio::time::timeout(Duration::from_secs(20), read_all(js, name)).await {
            Ok(Ok(numbers)) => return numbers,
            failed if begun.elapsed() < PATIENCE => drop(failed),
            failed => panic!("{name} cannot be read: {failed:?}\n{:#?}", state_of(js, name).await),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What the stream's leader says of it and of its consumers.
async fn state_of(
    js: &async_nats::jetstream::Context,
    name: &str,
) -> Result<(stream::Info, Vec<consumer::Info>), async_nats::Error> {
    let stream = js.get_stream(name).await?;
    let consumers = stream.consumers().filter_map(|info| async { info.ok() }).collect().await;
    Ok((stream.cached_info().clone(), consumers))
}

async fn read_all(
    js: &async_nats::jetstream::Context,
    name: &str,
) -> Result<std::collections::HashSet<u64>, async_nats::Error> {
    let stream = js.get_stream(name).await?;
    let count = usize::try_from(stream.cached_info().state.messages)?;
    let consumer = stream.create_consumer(consumer::pull::OrderedConfig::default()).await?;
    let mut messages = consumer.messages().await?.take(count);
    let mut numbers = std::collections::HashSet::new();
    while let Some(message) = messages.next().await {
        numbers.insert(std::str::from_utf8(&message?.payload)?.parse()?);
    }
    Ok(numbers)
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
                let made = client.run(|js| async move {
                    loop {
                        match js.create_stream(config(&name, replicas)).await {
                            // A client's patience that has ended tells nothing; what was made by then is there.
                            Err(err) if err.kind() == CreateStreamErrorKind::TimedOut => {}
                            made => return made,
                        }
                    }
                });
                if replicas > nodes {
                    // A refusal in the server's words.
                    let refused = format!("{:?}", made.unwrap_err());
                    assert!(refused.contains("no suitable peers"), "R{replicas} on {nodes} nodes: {refused}");
                    continue;
                }
                let cluster = made.unwrap().cached_info().cluster.clone().unwrap();
                let names = cluster.replicas.iter().map(|replica| replica.name.clone()).chain(cluster.leader);
                assert!(names.into_iter().all(|name| name.starts_with("grove-node-")));
            }
        }
        forest.stop();
    }
}
