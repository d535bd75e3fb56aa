//! What answers in place of an agent and its engine: reports made up by the test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::Lab;

/// What the agent of a node says, from its name and address.
pub type Report = Arc<dyn Fn(&str, Ipv6Addr) -> Value + Send + Sync>;

/// Answers of a node.
#[derive(Clone)]
pub struct Canned {
    /// Its /health.
    pub health: Report,
    /// The load of its engine, in percent.
    pub cpu: f64,
}

impl Canned {
    /// A node on which all is well.
    #[must_use]
    pub fn well() -> Self {
        Self { health: Arc::new(|node, ip| health(node, ip, "ready", &[])), cpu: 1.0 }
    }

    /// A node that stands at `step`, with these checks not well: key, status, reason, output.
    #[must_use]
    pub fn at(step: &'static str, ill: &'static [[&'static str; 4]]) -> Self {
        Self { health: Arc::new(move |node, ip| health(node, ip, step, ill)), cpu: 1.0 }
    }

    /// Under this load.
    #[must_use]
    pub fn with_cpu(self, cpu: f64) -> Self {
        Self { cpu, ..self }
    }
}

/// A report of the node `node`, whose forest its name tells; `ill` are the checks that do not pass.
#[must_use]
pub fn health(node: &str, ip: Ipv6Addr, step: &str, ill: &[[&str; 4]]) -> Value {
    let time = "2026-11-22T20:16:55Z";
    let mut report = json!({
        "status": "pass", "version": "1", "releaseId": "0.1.0", "serviceId": node,
        "forest_id": node.rsplit_once("-node-").map_or("", |(forest, _)| forest), "node_id": node,
        "address": ip.to_string(), "uptime_seconds": 12, "step": step,
        "engine": {"kind": "nats-server", "version": "2.15.1", "pid": 4711, "restarts": 0, "last_exit": null, "log_tail": []},
        "rotation": null,
        "checks": {},
    });
    let keys = [
        ("engine:process", "pid"),
        ("nats:server", "ms"),
        ("nats:jetstream", "nodes"),
        ("peers:reachable", "peers"),
        ("registry:entry", "s"),
        ("share:mounted", "ms"),
        ("firewall:rules", "rules"),
    ];
    for (key, unit) in keys {
        let mut check = json!({"status": "pass", "time": time, "observedValue": 1, "observedUnit": unit, "output": "well"});
        if let Some([_, status, reason, output]) = ill.iter().find(|check| check[0] == key) {
            (check["status"], check["reason"], check["output"]) =
                ((*status).into(), (*reason).into(), (*output).into());
            if report["status"] != "fail" {
                report["status"] = (*status).into();
            }
        }
        report["checks"][key] = json!([check]);
    }
    report
}

/// Two listeners of a host, answering until this is dropped.
pub(super) struct Answering {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Answering {
    pub(super) fn start(lab: &Lab, host: usize, ip: Ipv6Addr, node: &str, canned: &Canned) -> Self {
        let report = (canned.health)(node, ip).to_string();
        let varz = json!({"host": "127.0.0.1", "port": 4222, "cpu": canned.cpu, "mem": 12_000_000, "connections": 3});
        let ends = Arc::new(AtomicBool::new(false));
        let threads = [(8223, report), (8222, varz.to_string())]
            .into_iter()
            .map(|(port, body)| {
                let (listener, ends) = (lab.listen(host, (ip, port)), Arc::clone(&ends));
                std::thread::spawn(move || answer(&listener, &body, &ends))
            })
            .collect();
        Self { ends, threads }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answer(listener: &TcpListener, body: &str, ends: &AtomicBool) {
    listener.set_nonblocking(true).expect("a listener");
    while !ends.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => {
                // Whoever went away wants no answer.
                let _ = reply(stream, body);
            }
            Err(_) => crate::wait::pause(),
        }
    }
}

fn reply(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 2 {
        line.clear();
    }
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
