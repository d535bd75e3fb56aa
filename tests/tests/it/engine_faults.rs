//! Everything that can be wrong with an engine: the agent stays up, /health says which, and all heals without a
//! restart of the agent once the cause is gone.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use forest_tests::nats;
use forest_tests::node::{Node, node};
use forest_tests::wait::{until, until_value};
use forest_tests::{process, programs};
use rustix::process::Signal;

/// Puts a script in the engine's place: it is asked for its config like nats-server, and then does `body`.
fn script(path: &Path, body: &str) {
    // `-t` is the agent's question whether the config is good.
    let text = format!("#!/bin/sh\nfor arg in \"$@\"; do [ \"$arg\" = -t ] && exit 0; done\n{body}\n");
    programs::script(path, &text);
}

/// Puts the real server in the engine's place.
fn real(path: &Path) {
    programs::copy(&nats::server(), path);
}

/// A node whose engine is a file of its own below its directory; `with` prepares the file.
fn grove(with: impl FnOnce(&Path)) -> (Node, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap().keep();
    let engine = dir.join("engine");
    with(&engine);
    (node("grove-node-1", &engine).start(), engine)
}

/// The cause is gone: the same agent brings the node to health.
fn heals(mut node: Node, engine: &Path, agent: u32) {
    node.until_pass();
    assert_eq!(node.agent_pid(), agent);
    assert_eq!(node.stop(), Some(0));
    assert_eq!(node.processes(), []);
    fs::remove_dir_all(engine.parent().unwrap()).unwrap();
}

fn tail(node: &Node) -> String {
    let health = node.health();
    let lines = health["engine"]["log_tail"].as_array().into_iter().flatten();
    lines.filter_map(serde_json::Value::as_str).collect()
}

#[test]
fn missing() {
    let (node, engine) = grove(|_| {});
    let agent = node.agent_pid();
    let check = node.until_reason("engine:process", "engine_missing");
    assert!(check["output"].as_str().unwrap().contains(&engine.display().to_string()), "{check:#}");
    assert_eq!(node.get("/health").unwrap().code, 503);
    real(&engine);
    heals(node, &engine, agent);
}

#[test]
fn not_executable() {
    let (node, engine) = grove(|path| fs::write(path, "#!/bin/sh\n").unwrap());
    let agent = node.agent_pid();
    let check = node.until_reason("engine:process", "engine_not_executable");
    assert!(check["output"].as_str().unwrap().contains(&engine.display().to_string()), "{check:#}");
    real(&engine);
    heals(node, &engine, agent);
}

#[test]
fn exits_at_once() {
    let (node, engine) = grove(|path| script(path, "echo 'the moon is full' >&2; exit 3"));
    let agent = node.agent_pid();
    let check = node.until_reason("engine:process", "engine_crash_loop");
    assert_eq!(check["status"], "fail");
    assert!(check["output"].as_str().unwrap().contains("the moon is full"), "{check:#}");
    let health = node.health();
    assert_eq!(health["engine"]["last_exit"]["code"], 3);
    assert!(health["engine"]["restarts"].as_u64().unwrap() >= 4);
    assert!(tail(&node).contains("the moon is full"));
    real(&engine);
    heals(node, &engine, agent);
}

#[test]
fn ignores_term() {
    let (mut node, engine) = grove(|path| script(path, "trap '' TERM; echo deaf; while :; do sleep 1; done"));
    until("the engine runs", || tail(&node).contains("deaf").then_some(()));
    let pid = node.engine_pid();
    // Stopped, because the node is taken out on purpose: the agent stays up.
    let registry = fs::read_to_string(&node.registry).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&registry).unwrap();
    json["forests"]["grove"]["removed"]["grove-node-1"] = "2026-11-22T20:16:55Z".into();
    fs::write(&node.registry, json.to_string()).unwrap();
    node.until_reason("engine:process", "engine_ignores_term");
    until("it was killed", || (!process::runs(pid)).then_some(()));
    node.until_reason("engine:process", "removed");
    // Taken in again.
    json["forests"]["grove"].as_object_mut().unwrap().remove("removed");
    fs::write(&node.registry, json.to_string()).unwrap();
    let marker = node.path("state/removed");
    fs::remove_file(&marker).unwrap();
    until("it runs again", || {
        // An agent that had read the registry just before it changed may note the removal once more.
        let _ = fs::remove_file(&marker);
        node.health()["engine"]["pid"].as_u64()
    });
    // And at the agent's own end it is killed as well; until then the agent answers, and says so.
    node.signal(Signal::TERM);
    until_value("it says that it stops", || node.health()["step"].clone(), |step| step == "stopping");
    until_value(
        "its engine's check says so",
        || node.check("engine:process"),
        |check| check["reason"] == "engine_stopped" || check["reason"] == "engine_ignores_term",
    );
    assert!(node.get("/events").unwrap().json().to_string().contains("stopping"));
    assert_eq!(node.ended(), Some(0));
    assert_eq!(node.processes(), []);
    real(&engine);
    node.start();
    let agent = node.agent_pid();
    heals(node, &engine, agent);
}

#[test]
fn floods_its_log() {
    // 100 MB, in lines, and then a server as it should be.
    let server = nats::servers()[0].display().to_string();
    let body = format!("yes 'the same line over and over' | head -c 100000000\nexec {server} \"$@\"");
    let (node, engine) = grove(|path| script(path, &body));
    let agent = node.agent_pid();
    node.until_reason("engine:process", "engine_log_flood");
    let rotated = until_value(
        "the log is bounded",
        || {
            let files = fs::read_dir(node.path("state/log")).unwrap();
            files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>()
        },
        |bytes| *bytes < 60_000_000,
    );
    assert!(rotated > 0);
    heals(node, &engine, agent);
}

#[test]
fn port_taken() {
    let mut grove = node("grove-node-1", &nats::servers()[0]).prepare();
    let holder = TcpListener::bind((grove.ip, 4222)).unwrap();
    grove.start();
    let check = grove.until_reason("engine:process", "engine_port_taken");
    let output = check["output"].as_str().unwrap();
    assert!(output.contains("4222") && output.contains(&format!("pid {}", std::process::id())), "{output}");
    assert!(!tail(&grove).is_empty());
    drop(holder);
    grove.until_pass();
    assert_eq!(grove.stop(), Some(0));
}

#[test]
fn another_server_at_the_monitoring_port_is_not_taken_for_ours() {
    let server = nats::servers().remove(0);
    let mut grove = node("grove-node-1", &server).prepare();
    let mut command = std::process::Command::new(&server);
    command.args(["-a", &grove.ip.to_string(), "-p", "4999", "-m", "8222", "--name", "stranger"]);
    let mut stranger = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let monitor = (grove.ip, 8222).into();
    until("the stranger answers", || forest_tests::http::get(monitor, "/varz").ok());
    grove.start();
    grove.until_reason("engine:process", "engine_port_taken");
    assert_ne!(grove.check("nats:server")["status"], "pass");
    process::signal(stranger.id(), Signal::KILL);
    stranger.wait().unwrap();
    grove.until_pass();
    assert_eq!(grove.stop(), Some(0));
}
