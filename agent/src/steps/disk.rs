//! Work on this machine's own disk, off the async threads: a disk that stalls must hold up neither the driver nor
//! its answers. How long a look may take at most is the driver's to say.

use forest_core::reason::Reason;
use tokio::task::spawn_blocking;

use crate::fault::Fault;

/// Runs `work` in a thread for blocking calls.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let ended = spawn_blocking(work).await;
    ended.unwrap_or_else(|err| Err(Fault::new(Reason::StateDir, format!("a step ended badly: {err}"))))
}
