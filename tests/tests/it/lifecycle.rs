//! The life of an agent: killed, executed anew, refused beside another, stopped.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use forest_tests::bounded;
use forest_tests::node::{agent_binary, node};
use forest_tests::schema::check;
use forest_tests::wait::{moment, until, until_value};
use forest_tests::{http, nats, process, programs};
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

#[test]
fn a_node_converges_with_every_server_there_is() {
    for server in nats::servers() {
        let mut grove = node("grove-node-1", &server).start();
        let ready = |health: &Value| health["status"] == "pass" && health["step"] == "ready";
        let health = until_value("it is ready", || grove.health(), ready);
        assert_eq!(health["engine"]["kind"], "nats-server");
        assert!(server.display().to_string().contains("debian") || health["engine"]["version"] == "2.15.1");
        let registry = fs::read_to_string(&grove.registry).unwrap();
        assert!(registry.contains("\"grove-node-1\"") && registry.contains(&grove.ip.to_string()));
        let varz = http::get((grove.ip, 8222).into(), "/varz").unwrap().json();
        assert_eq!(varz["server_name"], "grove-node-1");
        grove.until_code("/readyz", 200);
        grove.until_code("/livez", 200);
        assert!(!grove.get("/events").unwrap().json()["events"].as_array().unwrap().is_empty());
        assert!(grove.get("/health").unwrap().head.contains("application/health+json"));
        assert_eq!(grove.get("/nonsense").unwrap().code, 404);
        grove.until_succeeds(&["status"]);
        grove.until_succeeds(&["check"]);
        assert_eq!(grove.stop(), Some(0));
        assert_eq!(grove.processes(), []);
    }
}

#[test]
fn an_agent_killed_with_9_leaves_its_engine_to_the_next() {
    let server = nats::servers().remove(0);
    let mut grove = node("grove-node-1", &server).start();
    grove.until_pass();
    let engine = grove.engine_pid();
    grove.signal(Signal::KILL);
    assert_eq!(grove.ended(), None);
    assert!(process::runs(engine), "the engine has not noticed");
    let log = grove.path("state/log/engine.log");
    let written = fs::read_to_string(&log).unwrap();
    grove.start();
    grove.until_pass();
    assert_eq!(grove.engine_pid(), engine);
    assert!(fs::read_to_string(&log).unwrap().starts_with(&written), "its log goes on");
    assert_eq!(grove.health()["engine"]["restarts"], 0);
    // An adopted engine that ends is noticed, and started again.
    process::signal(engine, Signal::KILL);
    let next = until("another engine runs", || {
        grove.health()["engine"]["pid"].as_u64().filter(|pid| *pid != u64::from(engine))
    });
    grove.until_pass();
    assert_eq!(grove.stop(), Some(0));
    assert!(!process::runs(u32::try_from(next).unwrap()));
    assert_eq!(grove.processes(), []);
}

#[test]
fn hup_puts_a_newer_agent_in_place_and_the_engine_does_not_notice() {
    let server = nats::servers().remove(0);
    let mut grove = node("grove-node-1", &server).prepare();
    // The agent runs from a file of its own, so that a newer one can be put in its place.
    let binary = grove.path("forest-agent");
    programs::copy(&agent_binary(), &binary);
    grove.start_with(&binary);
    grove.until_pass();
    let (agent, engine) = (grove.agent_pid(), grove.engine_pid());
    programs::copy(&agent_binary(), &binary);
    let exe = || fs::read_link(format!("/proc/{agent}/exe")).unwrap().display().to_string();
    assert!(exe().ends_with("(deleted)"), "it runs from the file that is gone");
    grove.signal(Signal::HUP);
    until_value("the newer file runs", exe, |path| !path.ends_with("(deleted)"));
    grove.until_pass();
    assert_eq!((grove.agent_pid(), grove.engine_pid()), (agent, engine));
    // The child is still this process's own: its end is seen with its signal.
    process::signal(engine, Signal::KILL);
    let exit = until_value(
        "the end is seen",
        || grove.health()["engine"]["last_exit"].clone(),
        |exit| !exit.is_null(),
    );
    assert_eq!(exit["signal"], 9);
    grove.until_pass();
    assert_eq!(grove.stop(), Some(0));
    assert_eq!(grove.processes(), []);
}

#[test]
fn newer_programs_are_fetched_and_gone_over_to() {
    let servers = nats::servers();
    let [new, old] = &servers[..] else { panic!("two versions are needed: run make tools") };
    let sha256 = |path: &Path| {
        let digest = Sha256::digest(fs::read(path).unwrap());
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let url = |path: &Path| format!("file://{}", path.display());
    let mut grove = node("grove-node-1", Path::new("ENGINE")).prepare();
    let (engine, agent, newer) = (grove.path("nats-server"), grove.path("forest-agent"), grove.path("newer"));
    let config = fs::read_to_string(grove.path("agent.yaml")).unwrap();
    let download = format!(
        "{}\n  # fetched\n  download: {{ url: \"{}\", sha256: {} }}",
        engine.display(),
        url(old),
        sha256(old)
    );
    fs::write(grove.path("agent.yaml"), config.replace("ENGINE", &download)).unwrap();
    programs::copy(&agent_binary(), &agent);
    programs::copy(&agent_binary(), &newer);
    fs::OpenOptions::new().append(true).open(&newer).unwrap().write_all(b"newer").unwrap();
    grove.start_with(&agent);
    let before = grove.until_pass();
    let upgrade = |args: &[&str]| {
        let output = bounded::output(
            grove.command_of(&agent, &[&["upgrade", "--json"], args].concat()).env("PATH", ""),
        );
        let told =
            serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|err| panic!("{err}: {output:?}"));
        (output.status.code(), told)
    };
    let (new_engine, new_engine_sha256) = (url(new), sha256(new));
    let engine_args = ["--engine", &new_engine, "--engine-sha256", &new_engine_sha256];
    let (newer_agent, newer_sha256) = (url(&newer), sha256(&newer));
    let agent_args = ["--agent", &newer_agent, "--agent-sha256", &newer_sha256];
    // What is another file than was said, or no agent, changes nothing.
    let wrong = ["--agent", &newer_agent, "--agent-sha256", &new_engine_sha256];
    assert_eq!(upgrade(&wrong).1["error"]["reason"], "download_sha256");
    let wrong = ["--agent", &new_engine, "--agent-sha256", &new_engine_sha256];
    assert_eq!(upgrade(&wrong).1["error"]["reason"], "agent_start");
    assert_eq!(sha256(&agent), sha256(&agent_binary()));
    let (code, told) = upgrade(&agent_args);
    assert_eq!(code, Some(0), "{told:#}");
    check("upgrade", &told);
    assert_eq!(told["pid"], before["engine"]["pid"], "the engine did not notice");
    assert_eq!(fs::read_link(format!("/proc/{}/exe", grove.agent_pid())).unwrap(), agent);
    assert_eq!(sha256(&agent), newer_sha256);
    let (code, told) = upgrade(&[&agent_args[..], &engine_args[..]].concat());
    assert_eq!(code, Some(0), "{told:#}");
    check("upgrade", &told);
    assert!(
        told["pid"] != before["engine"]["pid"] && told["version"] != before["engine"]["version"],
        "{told:#}"
    );
    let config = fs::read_to_string(grove.path("agent.yaml")).unwrap();
    assert!(
        config.contains("# fetched") && config.contains(&new_engine) && !config.contains(&sha256(old)),
        "{config}"
    );
    assert_eq!(upgrade(&engine_args).1, told, "nothing is left to be done");
    assert_eq!(grove.stop(), Some(0));
}

/// The signals that a process's main thread has blocked, as bits.
fn blocked(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn a_term_close_to_a_hup_always_ends_the_agent_and_its_engine() {
    let mut grove = node("grove-node-1", &nats::server()).prepare();
    for millis in (0..=60).step_by(5) {
        grove.start();
        let engine = grove.engine_pid();
        // Go blocks all of them for moments of its own.
        until("the engine hears HUP, INT and TERM", || (blocked(engine) & 0x4003 == 0).then_some(()));
        grove.signal(Signal::HUP);
        moment(Duration::from_millis(millis));
        grove.signal(Signal::TERM);
        // Once more, while it stops.
        grove.signal(Signal::TERM);
        assert_eq!(grove.ended(), Some(0), "TERM {millis} ms after HUP");
        assert_eq!(grove.processes(), [], "TERM {millis} ms after HUP");
    }
}

#[test]
fn hup_with_a_bad_config_or_a_broken_binary_changes_nothing() {
    let server = nats::servers().remove(0);
    let mut grove = node("grove-node-1", &server).prepare();
    let binary = grove.path("forest-agent");
    programs::copy(&agent_binary(), &binary);
    grove.start_with(&binary);
    grove.until_pass();
    let good = fs::read_to_string(grove.path("agent.yaml")).unwrap();
    fs::write(grove.path("agent.yaml"), format!("{good}nonsense: 1\n")).unwrap();
    grove.signal(Signal::HUP);
    until("the refusal is logged", || grove.log().contains("not reloading").then_some(()));
    fs::write(grove.path("agent.yaml"), &good).unwrap();
    fs::write(grove.path("broken"), "no executable").unwrap();
    fs::rename(grove.path("broken"), &binary).unwrap();
    grove.signal(Signal::HUP);
    until("the second refusal is logged", || {
        (grove.log().matches("not reloading").count() == 2).then_some(())
    });
    grove.until_pass();
    assert_eq!(grove.stop(), Some(0));
}

#[test]
fn a_second_agent_on_the_same_state_dir_is_refused_and_names_the_first() {
    let server = nats::servers().remove(0);
    let mut grove = node("grove-node-1", &server).start();
    grove.until_pass();
    let second = grove.run(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert!(stderr.contains(&format!("pid {}", grove.agent_pid())), "{stderr}");
    // Also after the first has executed itself anew.
    grove.signal(Signal::HUP);
    until("it has reloaded", || grove.log().contains("took over").then_some(()));
    assert_eq!(grove.run(&["run"]).status.code(), Some(1));
    grove.until_pass();
    assert_eq!(grove.stop(), Some(0));
    assert_eq!(grove.processes(), []);
}

#[test]
fn a_config_that_the_running_engine_does_not_fit_is_said_after_a_reload() {
    let mut grove = node("grove-node-1", &nats::server()).start();
    grove.until_pass();
    let engine = grove.engine_pid();
    let config = fs::read_to_string(grove.path("agent.yaml")).unwrap();
    fs::write(grove.path("agent.yaml"), config.replace(":8222", ":9222")).unwrap();
    grove.signal(Signal::HUP);
    let check = grove.until_reason("engine:process", "engine_restart_needed");
    assert_eq!((&check["status"], &check["observedValue"]), (&"warn".into(), &engine.into()));
    grove.until_reason("nats:server", "nats_unreachable");
    let engine_step = || {
        let check = grove.run(&["check", "--json"]);
        let answer: Value = serde_json::from_slice(&check.stdout).unwrap();
        answer["steps"].as_array().unwrap().iter().find(|step| step["name"] == "engine").unwrap().clone()
    };
    until_value("the worst of the fatal checks is told", engine_step, |step| {
        step["reason"] == "nats_unreachable"
    });
    // A restart puts it right.
    process::signal(engine, Signal::KILL);
    grove.until_pass();
    // While it stops, it says so.
    let events = grove.get("/events").unwrap().json().to_string();
    assert!(events.contains("\"step\":\"engine:process\""), "{events}");
    assert_eq!(grove.stop(), Some(0));
    assert_eq!(grove.processes(), []);
}

#[test]
fn a_removed_node_stops_its_engine_whatever_else_does_not_stand() {
    let mut grove = node("grove-node-1", &nats::server()).start();
    grove.until_pass();
    let engine = grove.engine_pid();
    // The engine's step is held from now on.
    fs::remove_file(grove.path("node-info.json")).unwrap();
    fs::create_dir(grove.path("node-info.json")).unwrap();
    let check = grove.until_reason("engine:process", "node_info_write");
    assert_eq!(check["status"], "warn", "the engine goes on");
    let mut json: Value = serde_json::from_str(&fs::read_to_string(&grove.registry).unwrap()).unwrap();
    json["forests"]["grove"]["removed"]["grove-node-1"] = "2026-11-22T20:16:55Z".into();
    fs::write(&grove.registry, json.to_string()).unwrap();
    let check = grove.until_reason("engine:process", "removed");
    let output = check["output"].as_str().unwrap();
    assert!(output.contains(&grove.registry.display().to_string()), "{output}");
    assert!(output.contains(&grove.path("state/removed").display().to_string()), "{output}");
    until("the engine is gone", || (!process::runs(engine)).then_some(()));
    assert_eq!(grove.stop(), Some(0));
}
