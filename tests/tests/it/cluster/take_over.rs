//! The store of a standalone server becomes part of a forest: whole, whatever is killed, or not at all.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_nats::jetstream::{Context, consumer, object_store, stream};
use forest_agent::child::Command;
use forest_tests::client::Client;
use forest_tests::nats;
use forest_tests::node::{Node, node};
use forest_tests::running::Running;
use forest_tests::schema::check as check_schema;
use forest_tests::wait::{moment, until, until_value};
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::Forest;
use super::chaos::rounds;

/// A server as somebody ran it before there was a forest, on the node's store and at its address.
struct Standalone {
    running: Running,
}

impl Standalone {
    fn start(node: &Node, server: &Path, more: &str) -> Self {
        let (store, config) = (node.path("jetstream"), node.path("old.conf"));
        fs::create_dir_all(&store).unwrap();
        let text = format!(
            "server_name: old\nlisten: \"{}\"\njetstream {{ store_dir: \"{}\", max_mem: 64M, max_file: 10G }}\n{more}",
            node.client_address(),
            store.display(),
        );
        fs::write(&config, text).unwrap();
        let command = Command {
            program: server.to_owned(),
            args: vec!["-c".into(), config.into()],
            env: Vec::new(),
            cwd: store,
        };
        Self { running: Running::start(&command, &node.path("old.log")).unwrap() }
    }

    fn stop(mut self) {
        self.running.signal(Signal::TERM);
        until("the old server ends", || (!self.running.runs()).then_some(()));
    }
}

/// How much is in an old store.
#[derive(Clone, Copy)]
struct Size {
    orders: usize,
    order: usize,
    object: usize,
}

/// A hundred megabytes.
const WHOLE: Size = Size { orders: 600, order: 100_000, object: 40_000_000 };
const SMALL: Size = Size { orders: 400, order: 10_000, object: 1_000_000 };

fn config(name: &str) -> stream::Config {
    stream::Config { name: name.to_owned(), subjects: vec![format!("{name}.>")], ..stream::Config::default() }
}

fn durable(name: &str) -> consumer::pull::Config {
    consumer::pull::Config {
        durable_name: Some(name.to_owned()),
        ack_policy: consumer::AckPolicy::Explicit,
        ack_wait: Duration::from_secs(600),
        ..consumer::pull::Config::default()
    }
}

async fn fill(js: Context, size: Size) {
    let orders = js.create_stream(config("orders")).await.unwrap();
    let queue = stream::Config { retention: stream::RetentionPolicy::WorkQueue, ..config("jobs") };
    let jobs = js.create_stream(queue).await.unwrap();
    js.create_stream(config("empty")).await.unwrap();
    for n in 0..size.orders {
        let body = vec![u8::try_from(n % 251).unwrap(); size.order];
        js.publish(format!("orders.{}", n % 7), body.into()).await.unwrap().await.unwrap();
        js.publish("jobs.x", n.to_string().into()).await.unwrap().await.unwrap();
    }
    for (stream, name, taken, acknowledged) in [(&orders, "mail", 50, 30), (&jobs, "worker", 100, 100)] {
        let consumer = stream.create_consumer(durable(name)).await.unwrap();
        let mut messages = consumer.fetch().max_messages(taken).messages().await.unwrap();
        for _ in 0..acknowledged {
            messages.next().await.unwrap().unwrap().double_ack().await.unwrap();
        }
    }
    // As a client makes a bucket; async-nats asks an old server first for what that does not say.
    let bucket = stream::Config {
        subjects: vec!["$KV.conf.>".to_owned()],
        max_messages_per_subject: 3,
        discard: stream::DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..config("KV_conf")
    };
    js.create_stream(bucket).await.unwrap();
    let bucket = js.get_key_value("conf").await.unwrap();
    for n in 0..100_u32 {
        bucket.put(format!("key-{}", n % 40), n.to_string().into()).await.unwrap();
    }
    let objects = object_store::Config { bucket: "files".to_owned(), ..object_store::Config::default() };
    let objects = js.create_object_store(objects).await.unwrap();
    objects.put("image", &mut &object(size)[..]).await.unwrap();
}

fn object(size: Size) -> Vec<u8> {
    let mut bytes = vec![0; size.object];
    StdRng::seed_from_u64(7).fill(&mut bytes[..]);
    bytes
}

/// All that is in the streams, and where their consumers stand.
async fn contents(js: Context) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    let mut names = js.stream_names();
    while let Some(name) = names.next().await {
        let name = name.unwrap();
        let stream = js.get_stream(&name).await.unwrap();
        let state = &stream.cached_info().state;
        // Of an empty stream servers call the first 0 or 1.
        let first = if state.messages > 0 { state.first_sequence } else { 0 };
        let mut told = vec![format!(
            "{} messages, {} bytes, {first}..{}, of {} subjects",
            state.messages, state.bytes, state.last_sequence, state.subjects_count
        )];
        let mut consumers = stream.consumers();
        while let Some(consumer) = consumers.next().await {
            let consumer = consumer.unwrap();
            told.push(format!(
                "{}: {:?} {:?} {} pending, {} unacknowledged",
                consumer.name,
                consumer.ack_floor.stream_sequence,
                consumer.delivered.stream_sequence,
                consumer.num_pending,
                consumer.num_ack_pending
            ));
        }
        all.insert(name, told);
    }
    all
}

async fn usable(js: Context, size: Size) {
    let bucket = js.get_key_value("conf").await.unwrap();
    assert_eq!(bucket.get("key-19").await.unwrap().unwrap(), "99");
    let mut history = bucket.history("key-19").await.unwrap();
    assert_eq!(history.next().await.unwrap().unwrap().value, "19");
    let objects = js.get_object_store("files").await.unwrap();
    let mut found = Vec::new();
    objects.get("image").await.unwrap().read_to_end(&mut found).await.unwrap();
    assert!(found == object(size), "{} bytes", found.len());
    // The consumers go on where they were.
    let jobs = js.get_stream("jobs").await.unwrap();
    let worker: consumer::PullConsumer = jobs.get_consumer("worker").await.unwrap();
    let mut next = worker.fetch().max_messages(1).messages().await.unwrap();
    assert_eq!(next.next().await.unwrap().unwrap().payload, "100");
}

/// A node that is about to begin on the store of a standalone server, the first of its forest.
fn old_node(forest: &Forest, size: Size) -> (Node, BTreeMap<String, Vec<String>>) {
    let server = &forest.server;
    let node = node("grove-node-1", server).registry(forest.registry()).prepare();
    let old = Standalone::start(&node, server, "");
    let client = Client::connect(&[node.client_address()]);
    client.run(|js| fill(js, size));
    let before = client.run(contents);
    drop(client);
    old.stop();
    (node, before)
}

fn take_over(node: &Node, args: &[&str]) -> (Option<i32>, Value) {
    let output = node.run(&[&["take-over", "--json"], args].concat());
    let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {output:?}"));
    (output.status.code(), told)
}

fn kept(node: &Node) -> PathBuf {
    node.path("jetstream/jetstream.standalone-0")
}

#[track_caller]
fn done(node: &Node, args: &[&str]) -> Value {
    let (code, told) = take_over(node, args);
    assert_eq!(code, Some(0), "{told:#}");
    check_schema("take-over", &told);
    told
}

#[track_caller]
fn refused(node: &Node, args: &[&str], reason: &str) -> String {
    let (code, told) = take_over(node, args);
    check_schema("error", &told);
    assert_eq!((code, told["error"]["reason"].as_str()), (Some(1), Some(reason)), "{told:#}");
    told["error"]["message"].as_str().unwrap().to_owned()
}

#[track_caller]
fn whole(node: &Node, before: &BTreeMap<String, Vec<String>>, size: Size) {
    let client = Client::connect(&[node.client_address()]);
    let now = client.run(contents);
    assert!(now == *before, "{now:#?}\nand was {before:#?}");
    client.run(|js| usable(js, size));
}

#[test]
fn a_store_of_a_hundred_megabytes_is_carried_into_a_forest_that_others_join() {
    for server in nats::servers() {
        let mut forest = Forest::new(&server);
        let (mut old, before) = old_node(&forest, WHOLE);
        let files = names(&old.path("jetstream/jetstream/$G/streams"));
        old.start();
        old.until_reason("engine:process", "standalone_store");
        let told = done(&old, &[]);
        assert_eq!(
            (&told["status"], told["left_behind"].as_array().unwrap().len()),
            (&"taken_over".into(), 0)
        );
        assert!(told["outage_seconds"].as_f64().unwrap() > 0.0, "{told:#}");
        let sizes: HashMap<&str, u64> = told["streams"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stream| (stream["name"].as_str().unwrap(), stream["bytes"].as_u64().unwrap()))
            .collect();
        assert!(sizes.values().sum::<u64>() > 100_000_000, "{sizes:?}");
        whole(&old, &before, WHOLE);
        old.until_pass();
        assert_eq!(told["kept_at"], kept(&old).to_str().unwrap());
        assert_eq!(names(&kept(&old).join("$G/streams")), files, "the old store is there");
        assert!(!old.path("jetstream/take-over").exists(), "the snapshots are gone");
        assert_eq!(done(&old, &[]), told, "asked again, it tells the same");
        forest.nodes.push(old);
        forest.plant();
        forest.until_well();
        assert_eq!(done(&forest.nodes[1], &[])["status"], "nothing_to_do");
        forest.stop();
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_take_over_that_is_killed_at_any_moment_goes_on_when_asked_again() {
    rounds("a take-over", (3, 30), |seed, server| {
        let mut random = StdRng::seed_from_u64(seed);
        let forest = Forest::new(server);
        let (mut old, before) = old_node(&forest, SMALL);
        old.start();
        old.until_reason("engine:process", "standalone_store");
        let mut told = Vec::new();
        for _ in 0..random.random_range(1..5) {
            // Reading takes tenths of a second, founding seconds.
            let within = if random.random() { 700 } else { 12_000 };
            let wait = Duration::from_millis(random.random_range(0..within));
            let mut command = old.command(&["take-over"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            moment(wait);
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_ne!(output.status.code(), Some(1), "only a kill ends it: {said}");
            let ended = output.status;
            let journal = fs::read(old.path("state/take-over.json")).unwrap_or_default();
            let journal: Value = serde_json::from_slice(&journal).unwrap_or_default();
            told.push(format!("killed after {} ms, {} ({ended})", wait.as_millis(), journal["stage"]));
        }
        done(&old, &[]);
        whole(&old, &before, SMALL);
        assert!(kept(&old).join("$G/streams/orders").is_dir());
        old.until_pass();
        assert_eq!(old.stop(), Some(0));
        told.join(", ")
    });
}

#[test]
fn what_cannot_be_carried_over_is_named_and_nothing_is_changed() {
    let server = nats::server();
    let mut old = node("grove-node-1", &server).prepare();
    let accounts = "accounts { APP: { jetstream: enabled, users: [{ user: app, password: app }] }, DEF: { jetstream: \
                    enabled, users: [{ user: def, password: def }] } }\nno_auth_user: app\n";
    let running = Standalone::start(&old, &server, accounts);
    let client = Client::connect(&[old.client_address()]);
    client.run(|js| async move { js.create_stream(config("ledger")).await.map(drop).unwrap() });
    drop(client);
    running.stop();
    let running = Standalone::start(&old, &server, "");
    let client = Client::connect(&[old.client_address()]);
    client.run(|js| async move {
        for name in ["orders", "damaged"] {
            js.create_stream(config(name)).await.unwrap();
        }
        let memory = stream::Config { storage: stream::StorageType::Memory, ..config("cache") };
        js.create_stream(memory).await.unwrap();
        let large = stream::Config { max_bytes: 9 << 30, ..config("large") };
        js.create_stream(large).await.unwrap();
        js.publish("orders.x", "1".into()).await.unwrap().await.unwrap();
    });
    drop(client);
    assert_eq!(take_over(&old, &[]).1["error"]["reason"], "no_agent", "nobody would run the engine");
    old.start();
    old.until_reason("engine:process", "standalone_store");
    let message = refused(&old, &[], "take_over_refused");
    let parts = [format!("process {}", running.running.pid()), "in memory ends with it: cache".to_owned()];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    running.stop();
    fs::write(old.path("jetstream/jetstream/$G/streams/damaged/meta.inf"), "{").unwrap();
    fs::write(old.path("state/limits.json"), r#"{"max_memory": 33554432, "max_file": 1073741824}"#).unwrap();
    let before = names(&old.path("jetstream/jetstream/$G/streams"));
    let message = refused(&old, &[], "take_over_refused");
    for part in [
        "APP/ledger is of another account",
        "damaged cannot be read",
        "hold or reserve 9217 MiB, and the engine may store 1024 MiB",
        "--leave-behind damaged",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = refused(&old, &["--leave-behind", "order"], "take_over_refused");
    assert!(message.contains("no stream order; it has large, orders"), "{message}");
    assert_eq!(names(&old.path("jetstream")), ["jetstream"], "nothing was changed");
    assert_eq!(names(&old.path("jetstream/jetstream/$G/streams")), before);
    assert!(!old.path("state/take-over.json").exists());
    old.until_reason("engine:process", "standalone_store");
    let behind = ["APP/ledger", "damaged", "large"];
    let args: Vec<&str> = behind.iter().flat_map(|name| ["--leave-behind", name]).collect();
    let told = done(&old, &args);
    assert_eq!(told["left_behind"], Value::from(behind.to_vec()));
    let client = Client::connect(&[old.client_address()]);
    let now = client.run(contents);
    assert_eq!(now.keys().collect::<Vec<_>>(), ["orders"]);
    assert_eq!(names(&kept(&old)), ["$G", "APP"]);
    assert_eq!(old.stop(), Some(0));
}

#[test]
fn a_stream_that_the_forest_has_already_is_nobodys_to_replace() {
    let server = nats::server();
    let mut forest = Forest::grown(&server, 1);
    let theirs = Client::connect(&forest.clients());
    theirs.run(|js| async move {
        js.create_stream(config("orders")).await.unwrap();
        js.publish("orders.theirs", "theirs".into()).await.unwrap().await.unwrap();
    });
    let mut old = node("grove-node-2", &server).registry(forest.registry()).prepare();
    let running = Standalone::start(&old, &server, "");
    let client = Client::connect(&[old.client_address()]);
    client.run(|js| fill(js, SMALL));
    drop(client);
    running.stop();
    old.start();
    old.until_reason("engine:process", "standalone_store");
    let message = refused(&old, &[], "take_over_conflict");
    assert!(message.contains("orders (its last message has the number 1)"), "{message}");
    let says = |check: &Value| {
        check["reason"] == "taking_over"
            && check["output"].as_str().is_some_and(|output| output.contains("4 of 5 streams are restored"))
    };
    until_value("health tells of it", || old.check("nats:jetstream"), says);
    let told = done(&old, &["--leave-behind", "orders"]);
    assert_eq!(told["left_behind"], Value::from(vec!["orders"]));
    theirs.run(|js| async move {
        let mut orders = js.get_stream("orders").await.unwrap();
        assert_eq!(orders.info().await.unwrap().state.messages, 1);
        assert_eq!(orders.get_raw_message(1).await.unwrap().payload, "theirs");
        usable(js, SMALL).await;
    });
    forest.nodes.push(old);
    forest.until_well();
    forest.stop();
}

#[test]
fn a_consumer_that_is_not_where_it_was_is_restored_with_its_stream_unless_that_was_written_to() {
    // The old version, if it is there: it was seen to have a restored consumer at the beginning.
    let server = nats::servers().pop().unwrap();
    let mut forest = Forest::grown(&server, 1);
    let theirs = Client::connect(&forest.clients());
    // In the way of one stream, so that the command ends before all is done.
    theirs.run(|js| async move {
        js.create_stream(config("empty")).await.unwrap();
        js.publish("empty.theirs", "theirs".into()).await.unwrap().await.unwrap();
    });
    let mut old = node("grove-node-2", &server).registry(forest.registry()).prepare();
    let running = Standalone::start(&old, &server, "");
    let client = Client::connect(&[old.client_address()]);
    client.run(|js| fill(js, SMALL));
    let before = client.run(contents);
    drop(client);
    running.stop();
    old.start();
    old.until_reason("engine:process", "standalone_store");
    refused(&old, &[], "take_over_conflict");
    let begin_again = || {
        theirs.run(|js| async move {
            let orders = js.get_stream("orders").await.unwrap();
            orders.delete_consumer("mail").await.unwrap();
            orders.create_consumer(durable("mail")).await.unwrap();
        });
    };
    begin_again();
    refused(&old, &[], "take_over_conflict");
    assert_eq!(theirs.run(contents)["orders"], before["orders"], "it was restored once more");
    // What somebody has written to is theirs by now, and so is what they did to its consumers.
    begin_again();
    theirs.run(|js| async move { js.publish("orders.0", "new".into()).await.unwrap().await.unwrap() });
    let told = done(&old, &["--leave-behind", "empty"]);
    assert_eq!(told["left_behind"], Value::from(vec!["empty"]));
    let now = theirs.run(contents);
    assert!(now["orders"][0].starts_with("401 messages"), "{now:#?}");
    assert!(now["orders"][1].starts_with("mail: 0 0 401 pending"), "{now:#?}");
    forest.nodes.push(old);
    forest.until_well();
    forest.stop();
}
