//! The second act: one node, from nothing to healthy, killed and healed, with forest-agent alone.

use std::path::Path;

use anyhow::{bail, ensure};
use forest_tests::node::{Node, node};
use forest_tests::process;
use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::{print_indented, say};

pub(crate) fn play(engine: &Path) -> anyhow::Result<()> {
    let mut grove = node("grove-node-1", engine).prepare();
    say(
        "behind every node is forest-agent, and it needs one file, agent.yaml. This one lives on a loopback address \
         and in a temp directory:",
    );
    let config = std::fs::read_to_string(grove.path("agent.yaml"))?;
    for line in config.lines().filter(|line| !line.starts_with("poll_interval")) {
        println!("    {line}");
    }

    say("what would the agent write into the forest's shared registry? (nothing is touched)");
    show(&grove, &["register", "--dry-run"])?;

    say("the agent runs; it makes the machine a node, step by step, and says so at /health:");
    grove.start();
    grove.until_pass();
    println!("    $ curl -s http://{}/health | jq {FILTER}", grove.health_address());
    print_indented(&format!("{:#}", filtered(&grove.health())));

    say("the whole of it, for a person:");
    show(&grove, &["status"])?;

    let engine = grove.engine_pid();
    say(&format!("something kills the NATS server: kill -9 {engine}"));
    process::signal(engine, Signal::KILL);
    let fail = grove.until_reason("engine:process", "engine_exited");
    println!("    /health says at once: {}", fail["output"].as_str().unwrap_or_default());
    let health = grove.until_pass();
    ensure!(health["engine"]["pid"] != engine, "the engine has another pid");
    println!("    and a moment later it is back:");
    show(&grove, &["status"])?;

    say("systemctl stop, and nothing is left running:");
    let code = grove.stop();
    let left = grove.processes();
    if code != Some(0) || !left.is_empty() {
        bail!("the agent ended with {code:?}, and left {left:?}");
    }
    println!("    the agent ended with code 0; processes left: none");
    Ok(())
}

/// What is shown of /health, as jq would.
const FILTER: &str = "'{status, step, engine: .engine.pid, checks: (.checks | map_values(.[0].status))}'";

fn filtered(health: &Value) -> Value {
    let checks = health["checks"].as_object().into_iter().flatten();
    let checks: Map<_, _> = checks.map(|(key, check)| (key.clone(), check[0]["status"].clone())).collect();
    json!({"status": health["status"], "step": health["step"], "engine": health["engine"]["pid"], "checks": checks})
}

fn show(node: &Node, args: &[&str]) -> anyhow::Result<()> {
    println!("    $ forest-agent {} --config agent.yaml", args.join(" "));
    let output = node.run(args);
    print_indented(&String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        bail!("`forest-agent {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
