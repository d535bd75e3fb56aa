//! A nats-server's lame duck: it hands on what it leads, tells its clients to go elsewhere, and ends by itself.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// It takes three seconds and one for each client, thirty at most; then it may be ended.
const PATIENCE: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(50);

/// Signals the server `pid` and waits for its end; `false`: it lives on, or could not be signalled.
pub async fn retire(pid: u32) -> bool {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    if let Err(err) = kill_process(target, Signal::USR2) {
        tracing::warn!(pid, %err, "cannot tell the engine to let its clients go");
        return false;
    }
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if !lives(pid) {
            return true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    tracing::warn!(pid, "the engine still serves clients after {} s; it is ended", PATIENCE.as_secs());
    false
}

/// Asks the process `pid` to end at once.
pub fn end(pid: u32) {
    if let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        && let Err(err) = kill_process(target, Signal::TERM)
    {
        tracing::warn!(pid, %err, "cannot be asked to end");
    }
}

/// A zombie has ended: only its parent has not looked yet.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
