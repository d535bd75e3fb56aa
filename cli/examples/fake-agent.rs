//! Stands in for forest-agent in morpheus's tests: the same command line, lock, entry, /health, a child that
//! outlives it, and /varz; no NATS. What it is to do wrong is told by variables, each naming a node:
//! `FAKE_WARN` (a check never passes), `FAKE_EXIT` (it ends at once); `FAKE_CPU` is every engine's load.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use forest_core::registry::{
    Claim, FsDoor, InstanceLock, Limits, Owner, Ports, Probes, Registry, SystemClock, UpdateOptions, claim,
    update,
};
use forest_core::yaml::raw::{self, Kind};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Settings(raw::Node);

impl Settings {
    fn text(&self, key: &str) -> String {
        let node = key.split('.').fold(&self.0, |node, part| match &node.kind {
            Kind::Map(entries) => &entries.iter().find(|(key, _)| key.name == part).expect(part).1,
            _ => panic!("{part} is in no mapping"),
        });
        match &node.kind {
            Kind::Text(text) => text.clone(),
            _ => panic!("{key} is no text"),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(err) => say(&err.to_string(), 1),
    }
}

fn say(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{} ERROR {text}", jiff::Timestamp::now());
    ExitCode::from(code)
}

async fn run() -> Outcome<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    assert_eq!((arguments[1].as_str(), arguments[2].as_str()), ("run", "--config"));
    let text = std::fs::read_to_string(&arguments[3])?;
    let settings = Settings(raw::read(&text).map_err(|problem| problem.to_string())?);
    let node = settings.text("node_id");
    if is("FAKE_EXIT", &node) {
        return Ok(say("told to end", 78));
    }
    let mut term = signal(SignalKind::terminate())?;
    let (state, runtime) =
        (PathBuf::from(settings.text("state_dir")), PathBuf::from(settings.text("runtime_dir")));
    std::fs::create_dir_all(state.join("log"))?;
    std::fs::create_dir_all(&runtime)?;
    let _lock = InstanceLock::acquire(&state.join("agent.lock"))?;
    let engine = engine(&state, &runtime)?;
    register(&settings)?;
    serve(&settings.text("listen.monitor"), varz(&settings))?;
    serve(&settings.text("listen.health"), health(&settings, engine))?;
    say("up", 0);
    term.recv().await;
    kill_process(pid(engine), Signal::TERM)?;
    Ok(ExitCode::SUCCESS)
}

fn is(variable: &str, node: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == node)
}

fn pid(engine: i32) -> Pid {
    Pid::from_raw(engine).expect("a pid")
}

/// The child that is there already, or a new one.
fn engine(state: &Path, runtime: &Path) -> Outcome<i32> {
    let file = runtime.join("engine.pid");
    let known = std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok());
    if let Some(known) = known.filter(|known| test_kill_process(pid(*known)).is_ok()) {
        return Ok(known);
    }
    std::fs::write(state.join("log/engine.log"), "[1] 2026/11/22 20:16:55.123456 [INF] fake engine\n")?;
    let child = Command::new("sleep")
        .arg("300")
        .env("FOREST_AGENT_CHILD", "fake.1")
        .env("JETSTREAM_DIR", runtime.join("data"))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    std::fs::write(&file, child.id().to_string())?;
    Ok(child.id().cast_signed())
}

fn register(settings: &Settings) -> Outcome<()> {
    let path = PathBuf::from(settings.text("registry"));
    let door = FsDoor::open(path.parent().expect("a directory"), None)?;
    let owner = Owner::current("fake-agent");
    let mine = Claim {
        forest: settings.text("forest_id").parse()?,
        node: settings.text("node_id").parse()?,
        address: settings.text("address").parse()?,
        instance: settings.text("state_dir"),
        ports: Ports::default(),
        now: jiff::Timestamp::now(),
        probes: Probes::default(),
    };
    let change = |registry: &Registry| claim(registry, &mine).map(|change| change.registry);
    update(&door, &SystemClock, &owner, &Limits::default(), &UpdateOptions::default(), change)?;
    Ok(())
}

fn varz(_settings: &Settings) -> Value {
    let cpu: f64 = std::env::var("FAKE_CPU").ok().and_then(|cpu| cpu.parse().ok()).unwrap_or_default();
    json!({"port": 4222, "cpu": cpu, "mem": 10_485_760, "connections": 2})
}

fn health(settings: &Settings, engine: i32) -> Value {
    let node = settings.text("node_id");
    let ill = is("FAKE_WARN", &node);
    let well = |unit: &str| json!([{"status": "pass", "time": "2026-11-22T20:16:55Z", "observedValue": 1, "observedUnit": unit}]);
    let bad = json!([{"status": "warn", "time": "2026-11-22T20:16:55Z", "observedValue": null, "observedUnit": "nodes",
                      "reason": "jetstream_no_leader", "output": "no leader here"}]);
    json!({
        "status": if ill { "warn" } else { "pass" }, "version": "1", "releaseId": "0", "serviceId": node,
        "forest_id": settings.text("forest_id"), "node_id": node, "address": settings.text("address"),
        "uptime_seconds": 1, "step": "ready",
        "engine": {"kind": "nats-server", "version": null, "pid": engine, "restarts": 0, "last_exit": null, "log_tail": []},
        "checks": {
            "engine:process": well("pid"), "nats:server": well("ms"),
            "nats:jetstream": if ill { bad } else { well("nodes") }, "peers:reachable": well("peers"),
            "registry:entry": well("s"), "share:mounted": well("ms"), "firewall:rules": well("rules"),
        },
    })
}

/// Answers every request at `address` with `body`, from a thread.
fn serve(address: &str, body: Value) -> Outcome<()> {
    let listener = TcpListener::bind(address)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that went away needs no answer.
            let _ = answer(stream, &body.to_string());
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
    for line in BufReader::new(stream.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
