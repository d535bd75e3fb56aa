//! A node whose engine is NimsForest, played by the stand-in: supervised like nats-server, its faults named.

mod forest;

use std::fs;
use std::path::Path;

use forest_agent::engine::nimsforest::own_ipv6;
use forest_tests::node::{Node, node};
use forest_tests::ports::{self, Port};
use forest_tests::wait::until;
use forest_tests::{nats, process, programs, stand_in};
use rustix::process::Signal;

/// A program that starts the stand-in with variables of its own: the agent hands none of its environment on. It
/// waits longer for a meta leader than the real one does, whom a loaded machine would make start twice.
fn program(path: &Path, [monitor, cluster]: &[Port; 2], fault: &str) {
    let (monitor, cluster) = (monitor.number, cluster.number);
    let (server, stand_in) = (nats::server(), stand_in::binary());
    let text = format!(
        "#!/bin/sh\nexport STAND_IN_MONITOR={monitor} STAND_IN_CLUSTER={cluster} STAND_IN_TIMEOUT=100000 {fault}\n\
         export STAND_IN_NATS_SERVER={}\nexec {} \"$@\"\n",
        server.display(),
        stand_in.display()
    );
    programs::script(path, &text);
}

/// A node with the stand-in as its engine; `None` on a machine without IPv6, where NimsForest cannot run and the
/// agent must say so.
fn grove(fault: &str) -> Option<(Node, [Port; 2])> {
    let mut grove = node("grove-node-1", Path::new("/replaced/below")).kind("nimsforest").prepare();
    let engine = grove.path("forest");
    // NimsForest monitors on every address of the machine, so the ports must be ones that nobody has.
    let ports = [ports::claim(), ports::claim()];
    program(&engine, &ports, fault);
    let [monitor, cluster] = [ports[0].number, ports[1].number];
    let config = fs::read_to_string(grove.path("agent.yaml")).unwrap();
    let config = config.replace("/replaced/below", &engine.display().to_string());
    let config = config.replace(&format!("{}:8222", grove.ip), &format!("[::]:{monitor}"));
    let config = config.replace(&format!("{}:6222", grove.ip), &format!("[::]:{cluster}"));
    let listen = format!("{{ client: \"{ip}:4223\", cluster: \"{ip}:6223\" }}", ip = grove.ip);
    let witness = nats::server().display().to_string();
    let config = format!("{config}witness: {{ binary: {witness}, listen: {listen} }}\n");
    fs::write(grove.path("agent.yaml"), config).unwrap();
    grove.start();
    if own_ipv6().is_err() {
        grove.until_reason("engine:process", "nimsforest_no_address");
        assert_eq!(grove.stop(), Some(0));
        return None;
    }
    Some((grove, ports))
}

#[test]
fn it_runs_is_probed_at_its_random_port_and_comes_back() {
    let Some((mut grove, _ports)) = grove("") else { return };
    let health = grove.until_pass();
    assert_eq!(health["engine"]["kind"], "nimsforest");
    // Clustered from its start: itself and the witness.
    assert_eq!(health["checks"]["nats:jetstream"][0]["observedValue"], 2);
    let view = fs::read_to_string(grove.path("run/registry.json")).unwrap();
    assert!(view.contains("grove-node-1"), "{view}");
    let engine = grove.engine_pid();
    process::signal(engine, Signal::KILL);
    until("another runs", || {
        grove.health()["engine"]["pid"].as_u64().filter(|pid| *pid != u64::from(engine))
    });
    grove.until_pass();
    assert_eq!(grove.stop(), Some(0));
    assert_eq!(grove.processes(), []);
    assert!(!grove.log().contains("action=Kill"), "its TERM was heard: {}", grove.log());
}

#[test]
fn its_crash_loop_has_a_reason_of_its_own_and_its_data_is_left_alone() {
    let Some((mut grove, ports)) = grove("STAND_IN_FAULT=work_queue") else { return };
    grove.until_pass();
    // The fault is one of the second start on the same directory.
    process::signal(grove.engine_pid(), Signal::KILL);
    let check = grove.until_reason("engine:process", "nimsforest_work_queue");
    assert!(check["output"].as_str().unwrap().contains("not unique on workqueue stream"), "{check:#}");
    let tail = grove.health()["engine"]["log_tail"].to_string();
    assert!(tail.contains("filtered consumer not unique on workqueue stream"), "its last lines: {tail}");
    let kept = grove.path("jetstream/precious");
    fs::write(&kept, "data").unwrap();
    until("it has ended more than once", || {
        grove.health()["engine"]["restarts"].as_u64().filter(|restarts| *restarts >= 1)
    });
    assert_eq!(grove.health()["engine"]["last_exit"]["code"], 1);
    program(&grove.path("forest"), &ports, "");
    grove.until_pass();
    assert_eq!(fs::read_to_string(&kept).unwrap(), "data");
    assert_eq!(grove.stop(), Some(0));
}
