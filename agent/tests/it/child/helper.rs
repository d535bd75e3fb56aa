//! An agent as a process of its own, so that it can be killed: this test binary, run for one ignored test.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use forest_agent::child::Want;

use super::kit::{Place, running, supervise, wait_for};

const DIR: &str = "FOREST_TEST_AGENT_DIR";
const HANDS_OVER: &str = "FOREST_TEST_AGENT_HANDS_OVER";

/// A running agent. Dropped, it is killed with -9, as agents die.
pub(super) struct Agent {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Agent {
    /// One that supervises the script of `place`, and with `hands_over` executes itself anew once it runs.
    pub(super) fn start(place: &Place, hands_over: bool) -> Self {
        let mut process = again(place.dir.path(), hands_over).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The next thing it says.
    pub(super) fn says(&mut self) -> String {
        let lines = self.lines.by_ref().map(Result::unwrap);
        let mut said = lines.filter_map(|line| line.split_once('@').map(|(_, said)| said.to_owned()));
        said.next().expect("the agent ended without a word")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn again(dir: &Path, hands_over: bool) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["child::helper::agent", "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(HANDS_OVER, if hands_over { "yes" } else { "no" });
    command
}

#[tokio::test]
#[ignore = "run by other tests, as a process that they kill"]
async fn agent() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let dir = Path::new(&dir);
    let handle = supervise(dir);
    let command = forest_agent::child::Command::new(dir.join("script")).cwd(dir);
    handle.want(Want::Run(command));
    let pid = running(&handle).await;
    println!("@{pid}");
    if std::env::var_os(HANDS_OVER).is_some_and(|value| value == "yes") {
        handle.detach().await;
        panic!("no exec: {}", again(dir, false).exec());
    }
    let status = wait_for(&handle, "its end", |status| status.last_exit.is_some()).await;
    println!("@{:?}", status.last_exit.unwrap().code);
    handle.detach().await;
}
