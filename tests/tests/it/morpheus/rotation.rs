//! Credentials are replaced while a forest serves: no publish fails, and whoever has only the old ones stays out.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::stream;
use forest_core::registry::Document as _;
use forest_core::secrets::rotation::Stage;
use forest_core::secrets::{Credentials, Record, Secrets};
use forest_tests::client::{Client, Published, Publisher};
use forest_tests::process::signal;
use forest_tests::schema::check;
use forest_tests::traces::files_with;
use forest_tests::wait::{moment, until};
use forest_tests::{http, nats};
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Laptop;

/// As long as NATS clients usually wait for an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(5);

impl Laptop {
    fn of(server: &Path) -> Self {
        let mut laptop = Self::new();
        laptop.engine = server.to_owned();
        laptop
    }

    fn at(&self, port: u16) -> Vec<SocketAddr> {
        let (_, status) = self.run(&["status", "grove"]);
        let address = |node: &Value| format!("{}:{port}", node["ip"].as_str().unwrap()).parse().unwrap();
        status["nodes"].as_array().unwrap().iter().map(address).collect()
    }

    fn record(&self) -> Record {
        let file = self.state.path().join("morpheus/local/secrets/grove.json");
        Secrets::parse(&fs::read(file).unwrap()).unwrap().record().unwrap().clone()
    }

    fn engines(&self) -> Vec<Value> {
        // A witness that has just been restarted catches up meanwhile.
        let (_, status) = self.run(&["status", "grove"]);
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node["health"]["engine"]["pid"].clone()).collect()
    }

    /// The processes of one node.
    fn of_node(&self, node: &str) -> Vec<u32> {
        let dir = format!("/{node}/");
        self.processes().into_iter().filter(|(_, line)| line.contains(&dir)).map(|(pid, _)| pid).collect()
    }

    /// All files of laptop and nodes in which one of these passwords stands.
    fn files_with(&self, credentials: [&Credentials; 2]) -> Vec<String> {
        files_with(self.state.path(), &credentials.map(|credentials| credentials.password.expose()))
    }
}

/// The routes that stand, by the servers' own numbers.
fn routes(monitors: &[SocketAddr]) -> BTreeMap<SocketAddr, Vec<u64>> {
    let of = |at: &SocketAddr| {
        let routez = http::get(*at, "/routez").unwrap().json();
        let mut rids: Vec<u64> =
            routez["routes"].as_array().unwrap().iter().map(|route| route["rid"].as_u64().unwrap()).collect();
        rids.sort_unstable();
        (*at, rids)
    };
    monitors.iter().map(of).collect()
}

/// Does the server at this cluster port take a route by these credentials? As a server's own first words.
fn takes_route(at: SocketAddr, credentials: &Credentials) -> bool {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let Credentials { user, password } = credentials;
    let connect = json!({"verbose": false, "pedantic": false, "name": "nobody", "cluster": "grove", "user": user, "pass": password.expose()});
    (&stream).write_all(format!("CONNECT {connect}\r\nPING\r\n").as_bytes()).unwrap();
    for line in BufReader::new(&stream).lines() {
        match line.unwrap_or_default() {
            line if line.starts_with("PONG") => return true,
            line if line.to_lowercase().contains("authorization violation") => return false,
            line if line.starts_with("INFO") || line.starts_with("PING") => {}
            line => panic!("{at} says {line}"),
        }
    }
    panic!("{at} hangs up without a word")
}

/// Does it take a client by these?
fn takes_client(at: SocketAddr, credentials: &Credentials) -> bool {
    let Credentials { user, password } = credentials.clone();
    let options = async_nats::ConnectOptions::with_user_and_password(user, password.expose().to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(options.connect(format!("nats://{at}"))) {
        Ok(_) => true,
        Err(err) if err.to_string().contains("authorization violation") => false,
        Err(err) => panic!("{at}: {err:?}"),
    }
}

/// One stream with a copy on every node, and one on each node alone.
fn streams(client: &Client) {
    let stream = |name: &'static str, replicas, tag: Option<String>| stream::Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        num_replicas: replicas,
        placement: tag.map(|tag| stream::Placement { tags: vec![tag], ..stream::Placement::default() }),
        ..stream::Config::default()
    };
    client.run(|js| async move {
        js.create_stream(stream("all", 3, None)).await.unwrap();
        for (n, name) in (1..).zip(["one", "two", "three"]) {
            js.create_stream(stream(name, 1, Some(format!("node:grove-node-{n}")))).await.unwrap();
        }
    });
}

/// A client at each server, and at each the streams of all.
fn publishers(clients: &[SocketAddr]) -> Vec<Publisher> {
    let subjects = ["all.new", "one.new", "two.new", "three.new"];
    let all = clients.iter().flat_map(|at| subjects.map(|subject| (*at, subject)));
    all.map(|(at, subject)| Publisher::patient(vec![at], subject, PATIENCE)).collect()
}

/// Was every message acknowledged, and at the first try? nats-server 2.9 loses acknowledgements now and then when it
/// reads its configuration, even where nothing has changed in it; a client that sends again gets its own then.
#[track_caller]
fn none_failed(publishers: Vec<Publisher>, server: &Path, what: &str) {
    let published: Vec<_> = publishers.into_iter().map(Publisher::stop).collect();
    let sum = |of: fn(&Published) -> usize| published.iter().map(of).sum::<usize>();
    let (sent, repeated) = (sum(|it| it.sent), sum(|it| it.repeated));
    let acknowledged = sum(|it| it.acknowledged.len());
    let gap = published.iter().map(|published| published.longest_gap).max().unwrap();
    println!(
        "{}, {what}: {sent} published, {acknowledged} acknowledged, {repeated} sent again, longest gap {gap:.1?}",
        server.display()
    );
    assert_eq!(sent, acknowledged, "{what}: publishes failed");
    assert!(acknowledged > 100, "{what}: nothing was published");
    let loses = *server != nats::servers()[0];
    assert!(
        repeated == 0 || (loses && repeated <= published.len()),
        "{what}: {repeated} were lost on their way"
    );
}

/// Old credentials are refused by every server and are kept in no file; new ones are taken.
#[track_caller]
fn only_new_ones_hold(laptop: &Laptop, clients: &[SocketAddr], clusters: &[SocketAddr], old: &Record) {
    let new = laptop.record();
    for at in clients {
        assert!(!takes_client(*at, &old.sys), "{at} takes the old user of the system account");
        assert!(takes_client(*at, &new.sys), "{at} does not take the new one");
    }
    for at in clusters {
        assert!(!takes_route(*at, &old.route), "{at} takes a route by the old password");
        assert!(takes_route(*at, &new.route), "{at} takes none by the new one");
    }
    // For the milliseconds that a server reads its configuration again, its routes' old URLs may stand in that.
    until("no file has the old ones", || laptop.files_with([&old.route, &old.sys]).is_empty().then_some(()));
    for file in laptop.files_with([&new.route, &new.sys]) {
        // One that was only passing is gone by now.
        let Ok(found) = fs::metadata(&file) else { continue };
        assert_eq!(found.permissions().mode() & 0o077, 0, "{file}");
    }
}

fn rotated_under_load(server: &Path) {
    let laptop = Laptop::of(server);
    laptop.done(&["plant", "local", "medium", "--name", "grove"]);
    laptop.members("grove");
    let (clients, clusters, monitors) = (laptop.at(4222), laptop.at(6222), laptop.at(8222));
    streams(&Client::connect(&clients));
    let (pids, stood) = (laptop.engines(), routes(&monitors));
    // Twice: what the first has left in the servers must not harm the second.
    for n in 1..=2 {
        let old = laptop.record();
        let publishers = publishers(&clients);
        let told = laptop.done(&["rotate-secrets", "grove"]);
        none_failed(publishers, server, &format!("rotation {n}"));
        check("action", &told);
        assert_eq!(told["nodes"].as_array().unwrap().len(), 3, "{told:#}");
        assert_eq!(laptop.record().progress().epoch, n);
        only_new_ones_hold(&laptop, &clients, &clusters, &old);
    }
    assert_eq!(laptop.engines(), pids, "the servers went on");
    // Those to the witness, which may have left meanwhile, are gone.
    for (at, rids) in routes(&monitors) {
        assert!(
            rids.len() >= 2 && rids.iter().all(|rid| stood[&at].contains(rid)),
            "{at}: {rids:?}, {stood:?}"
        );
    }
    // A node more comes in by the new ones, and a server that starts anew does.
    laptop.done(&["grow", "grove", "--nodes", "1"]);
    laptop.well("grove", 4);
    let restarts = laptop.engines()[1].as_u64().unwrap();
    signal(u32::try_from(restarts).unwrap(), Signal::KILL);
    laptop.well("grove", 4);
    laptop.done(&["teardown", "grove"]);
    assert_eq!(laptop.processes(), []);
}

#[test]
fn no_publish_fails_while_the_credentials_are_replaced() {
    rotated_under_load(&nats::servers()[0]);
}

#[test]
fn no_publish_fails_while_the_credentials_are_replaced_on_the_old_version() {
    let servers = nats::servers();
    rotated_under_load(servers.get(1).expect("two versions are needed: run make tools"));
}

#[test]
fn one_node_and_its_witness_are_rotated() {
    for server in nats::servers() {
        let laptop = Laptop::of(&server);
        laptop.done(&["plant", "local", "small", "--name", "grove"]);
        laptop.well("grove", 1);
        let (clients, mut clusters) = (laptop.at(4222), laptop.at(6222));
        clusters.extend(laptop.at(6223));
        let old = laptop.record();
        Client::connect(&clients).run(|js| async move {
            let config = stream::Config {
                name: "all".to_owned(),
                subjects: vec!["all.>".to_owned()],
                ..stream::Config::default()
            };
            js.create_stream(config).await.unwrap();
        });
        let pids = laptop.engines();
        let publisher = Publisher::patient(clients.clone(), "all.new", PATIENCE);
        laptop.done(&["rotate-secrets", "grove"]);
        none_failed(vec![publisher], &server, "one node");
        assert_eq!(laptop.engines(), pids);
        laptop.well("grove", 1);
        only_new_ones_hold(&laptop, &clients, &clusters, &old);
        laptop.done(&["teardown", "grove"]);
    }
}

#[test]
fn killed_at_any_moment_it_goes_on_with_the_same_rotation() {
    let laptop = Laptop::new();
    laptop.done(&["plant", "local", "medium", "--name", "grove"]);
    laptop.members("grove");
    let (clients, clusters) = (laptop.at(4222), laptop.at(6222));
    let mut moments = rand::rngs::StdRng::seed_from_u64(7);
    for round in 1..=3 {
        let old = laptop.record();
        let mut command = laptop.start(&["rotate-secrets", "grove"]);
        moment(Duration::from_millis(moments.random_range(20..1000)));
        let _ = command.kill();
        let left = laptop.record();
        println!("round {round}: killed at {:?}, under way: {}", left.progress(), left.is_rotating);
        // One that was through by then is not begun again.
        if left.is_rotating || left.progress().epoch < round {
            laptop.done(&["rotate-secrets", "grove"]);
        }
        let record = laptop.record();
        assert_eq!((record.progress().epoch, record.is_rotating), (round, false));
        only_new_ones_hold(&laptop, &clients, &clusters, &old);
    }
    laptop.well("grove", 3);
    laptop.done(&["teardown", "grove"]);
}

#[test]
fn a_node_that_is_away_is_named_and_comes_back_in() {
    let laptop = Laptop::new();
    laptop.done(&["plant", "local", "medium", "--name", "grove"]);
    laptop.members("grove");
    let (clients, clusters) = (laptop.at(4222), laptop.at(6222));
    let old = laptop.record();
    let node = "grove-node-3";
    // It is away from the beginning: nothing is changed.
    laptop.of_node(node).iter().for_each(|pid| signal(*pid, Signal::KILL));
    let (code, told) = laptop.run(&["rotate-secrets", "grove"]);
    let error = &told["error"];
    assert_eq!((code, &error["reason"]), (Some(1), &"agent_unreachable".into()), "{told:#}");
    assert!(error["message"].as_str().unwrap().contains(node), "{told:#}");
    assert_eq!(laptop.record().route, old.route);
    assert!(!laptop.record().is_rotating);
    laptop.done(&["grow", "grove", "--repair"]);
    laptop.members("grove");
    // It goes in the middle.
    let mut command = laptop.start(&["rotate-secrets", "grove", "--timeout", "8"]);
    until("a rotation has begun", || laptop.record().is_rotating.then_some(()));
    laptop.of_node(node).iter().for_each(|pid| signal(*pid, Signal::KILL));
    assert_eq!(command.has_ended(), None);
    let output = command.ended();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &told["error"]["reason"]),
        (Some(4), &"rotation_unfinished".into()),
        "{told:#}"
    );
    check("action", &told);
    let message = told["error"]["message"].as_str().unwrap();
    assert!(
        message.contains(node) && message.contains("run morpheus rotate-secrets grove again"),
        "{message}"
    );
    let waits = laptop.record().progress();
    assert!(waits.stage < Stage::Done, "{waits:?}");
    laptop.done(&["grow", "grove", "--repair"]);
    laptop.members("grove");
    assert_eq!(laptop.record().progress(), waits);
    laptop.done(&["rotate-secrets", "grove"]);
    assert_eq!(laptop.record().progress().epoch, 1);
    only_new_ones_hold(&laptop, &clients, &clusters, &old);
    laptop.done(&["teardown", "grove"]);
}
