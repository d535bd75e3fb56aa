//! The first act: a forest of three on this machine, planted, used, hurt, healed and taken down with morpheus.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use async_nats::{HeaderMap, jetstream};
use forest_tests::node::built;
use forest_tests::process;
use forest_tests::wait::{PATIENCE, until};
use rustix::process::Signal;

use crate::{print_indented, say};

const MESSAGES: u64 = 100;

/// morpheus with a state directory of its own.
struct Laptop {
    state: tempfile::TempDir,
    engine: PathBuf,
}

pub(crate) fn play(engine: &Path) -> anyhow::Result<()> {
    let laptop = Laptop { state: tempfile::tempdir()?, engine: engine.to_owned() };
    say("a forest of three nodes: a real NATS cluster, on this machine; no Docker, no account:");
    laptop.run(&["plant", "local", "medium", "--name", "grove", "--yes"])?;
    let result = laptop.show();
    if result.is_err() {
        // Nothing is left behind, whatever went wrong.
        let _ = laptop.run(&["teardown", "grove", "--yes"]);
    }
    result
}

impl Laptop {
    fn show(&self) -> anyhow::Result<()> {
        say("how is it? (each node's agent is asked)");
        self.run(&["status", "grove"])?;
        say("and how loaded? (grow looks; with --nodes N it adds nodes, with --auto it decides by the load)");
        self.run(&["grow", "grove"])?;

        let url = self.client_url()?;
        say(&format!(
            "an application makes a stream with three replicas at {url} and publishes {MESSAGES} messages:"
        ));
        let runtime = tokio::runtime::Runtime::new()?;
        let stored = runtime.block_on(publish(&url, 0))?;
        println!("    acknowledged by a quorum: {stored}");

        say("the power of grove-node-2 fails: its agent and its NATS server are killed with -9");
        for (pid, _) in
            process::of_directory(&self.state.path().join("morpheus/local/forests/grove/grove-node-2"))
        {
            process::signal(pid, Signal::KILL);
        }
        say("what does the tool say: which node, why, and what to do next?");
        self.asked(&["status", "grove"])?;
        say(&format!("meanwhile the application publishes {MESSAGES} more, with two nodes of three:"));
        let stored = runtime.block_on(publish(&url, MESSAGES))?;
        println!("    stored by now: {stored}");

        say("do what it says: start what is dead");
        self.run(&["grow", "grove", "--repair"])?;
        say("the node fetches what it has missed, and all three are well again:");
        until("all three are well", || self.asked_quietly(&["status", "grove"]).then_some(()));
        self.run(&["status", "grove"])?;
        let kept = runtime.block_on(count(&url))?;
        ensure!(kept == 2 * MESSAGES, "{kept} of {} messages are there", 2 * MESSAGES);
        println!("    messages in the stream: {kept}, none lost");

        say("and away with it:");
        self.run(&["teardown", "grove", "--yes"])?;
        let left = process::of_directory(self.state.path());
        ensure!(left.is_empty(), "{left:?} is left");
        println!("    processes left: none");
        Ok(())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(built("morpheus"));
        command.args(args).env("XDG_STATE_HOME", self.state.path()).stdin(Stdio::null());
        if args[0] == "plant" {
            command.arg("--engine-binary").arg(&self.engine);
        }
        command
    }

    /// Runs a command to its end and shows what a person would see; its failure is the demo's.
    fn run(&self, args: &[&str]) -> anyhow::Result<()> {
        let code = self.asked(args)?;
        if code != Some(0) {
            bail!("`morpheus {}` ended with {code:?}", args.join(" "));
        }
        Ok(())
    }

    /// The same, where the exit code is part of the answer.
    fn asked(&self, args: &[&str]) -> anyhow::Result<Option<i32>> {
        println!("    $ morpheus {}", args.join(" "));
        let output = self.command(args).output().context("morpheus can be run")?;
        let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        // Progress comes before its result, an error behind it, as on a terminal.
        let (first, then) = if output.status.success() { (err, out) } else { (out, err) };
        print_indented(&first);
        print_indented(&then);
        Ok(output.status.code())
    }

    fn asked_quietly(&self, args: &[&str]) -> bool {
        self.command(args).output().is_ok_and(|output| output.status.success())
    }

    fn client_url(&self) -> anyhow::Result<String> {
        let output = self.command(&["status", "grove", "--json"]).output()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(status["client_urls"][0].as_str().context("a client URL")?.to_owned())
    }
}

/// Publishes the messages numbered `from` and on, [`MESSAGES`] of them, into a stream of three replicas, each
/// acknowledged, and says how many it holds.
async fn publish(url: &str, from: u64) -> anyhow::Result<u64> {
    let jetstream = jetstream::new(async_nats::connect(url).await?);
    let config = || jetstream::stream::Config {
        name: "DEMO".to_owned(),
        subjects: vec!["demo.>".to_owned()],
        num_replicas: 3,
        ..Default::default()
    };
    persist("the stream is there", async || Ok(jetstream.get_or_create_stream(config()).await?)).await?;
    for n in from..from + MESSAGES {
        persist("a message is acknowledged", async || acknowledged(&jetstream, n).await).await?;
    }
    count(url).await
}

/// The number goes along as the message's id, so that one whose acknowledgement was lost is not stored twice.
async fn acknowledged(jetstream: &jetstream::Context, n: u64) -> anyhow::Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", n.to_string());
    jetstream.publish_with_headers(format!("demo.{n}"), headers, "hello".into()).await?.await?;
    Ok(())
}

async fn count(url: &str) -> anyhow::Result<u64> {
    let jetstream = jetstream::new(async_nats::connect(url).await?);
    persist("the stream tells its size", async || {
        Ok(jetstream.get_stream("DEMO").await?.info().await?.state.messages)
    })
    .await
}

/// Tries again what fails: a leader that died with its node is replaced within seconds.
async fn persist<T>(what: &str, attempt: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(err) if begun.elapsed() > PATIENCE => return Err(err.context(format!("waited until {what}"))),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
