//! Telling a running nats-server to read its configuration again, and hearing from its log what came of it: the
//! server says nowhere else that it refused.

use std::io::{self, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use forest_core::reason::Reason;
use rustix::process::{Pid, Signal, kill_process};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::fault::Fault;

const TAKEN: &str = "Reloaded server configuration";
const REFUSED: &str = "Failed to reload server configuration";

/// How long a server may take to say what came of it; it takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// No more of a log than this is read for the answer.
const MAX_READ: u64 = 1 << 20;

/// The process that has certainly read a configuration, and that configuration.
#[derive(Default)]
pub struct Loaded(Option<(u32, String)>);

impl Loaded {
    /// What the server `pid` has certainly read; `None`: that is not known.
    #[must_use]
    pub fn text(&self, pid: u32) -> Option<&str> {
        self.0.as_ref().filter(|(process, _)| *process == pid).map(|(_, text)| text.as_str())
    }

    /// It has.
    pub fn note(&mut self, pid: u32, text: String) {
        self.0 = Some((pid, text));
    }
}

/// Signals the server `pid`, which must have answered before (earlier it would die of the signal), and waits for
/// its answer in the log at `log`.
///
/// # Errors
/// `engine_reload_refused` in the server's own words; `engine_reload_silent` where it says nothing in time.
pub async fn reload(pid: u32, log: &Path) -> Result<(), Fault> {
    let from = length(log).await;
    let silent = |message: String| Fault::new(Reason::EngineReloadSilent, message);
    let target =
        i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| silent(format!("no pid: {pid}")))?;
    kill_process(target, Signal::HUP).map_err(|err| silent(format!("cannot signal pid {pid}: {err}")))?;
    let until = Instant::now() + DEADLINE;
    loop {
        match answer(&read_from(log, from).await) {
            Some(Ok(())) => return Ok(()),
            Some(Err(said)) => {
                let message = format!("nats-server (pid {pid}) goes on with its old configuration: {said}");
                let public = Reason::EngineReloadRefused.meaning().trim();
                return Err(Fault::new(Reason::EngineReloadRefused, message).withhold(public));
            }
            None if Instant::now() >= until => {
                let seconds = DEADLINE.as_secs();
                let message =
                    format!("nats-server (pid {pid}) did not say within {seconds} s that it reloaded");
                return Err(silent(message));
            }
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn length(log: &Path) -> u64 {
    tokio::fs::metadata(log).await.map_or(0, |metadata| metadata.len())
}

/// The log's text from `from` on; all of it where it is shorter by now, because it was set aside; nothing where it
/// cannot be read.
async fn read_from(log: &Path, from: u64) -> String {
    let read = async {
        let mut file = File::open(log).await?;
        let from = if file.metadata().await?.len() < from { 0 } else { from };
        file.seek(SeekFrom::Start(from)).await?;
        let mut bytes = Vec::new();
        file.take(MAX_READ).read_to_end(&mut bytes).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read.await.unwrap_or_default()
}

/// The last word on it in `text`, in whole lines.
fn answer(text: &str) -> Option<Result<(), String>> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().rev().find_map(|line| {
        if line.contains(TAKEN) {
            return Some(Ok(()));
        }
        let (_, said) = line.split_once(REFUSED)?;
        Some(Err(said.trim_start_matches(':').trim().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hears_the_last_whole_line() {
        let taken = "[1] 2026/11/22 20:00:00.000000 [INF] Reloaded server configuration\n";
        let refused = "[1] [ERR] Failed to reload server configuration: config reload not supported\n";
        assert_eq!(answer("nothing\n"), None);
        assert_eq!(answer(taken), Some(Ok(())));
        assert_eq!(answer(taken.trim_end()), None, "half a line");
        let said = "config reload not supported".to_owned();
        assert_eq!(answer(&format!("{taken}{refused}")), Some(Err(said)));
    }

    #[tokio::test]
    async fn a_log_that_was_set_aside_is_read_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "0123456789").unwrap();
        assert_eq!(read_from(&log, 4).await, "456789");
        assert_eq!(read_from(&log, 40).await, "0123456789");
    }
}
