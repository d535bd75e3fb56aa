//! From code that blocks into code that waits: the door's calls block, as a file system's do, and may come from
//! any thread, one of a runtime among them. So the HTTP client runs on a thread of its own, with a small runtime;
//! the caller hands over a future and sleeps until its outcome is there.

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Bridge {
    handle: Handle,
    _ends: oneshot::Sender<()>,
}

impl Bridge {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("webdav".to_owned()).spawn(move || {
            // The other half is never used, only dropped.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { handle, _ends: ends })
    }

    /// Runs `future` to its end; `None`: it panicked, or the thread is gone.
    pub(super) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, outcome) = mpsc::sync_channel(1);
        self.handle.spawn(async move { done.send(future.await) });
        outcome.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_of_a_runtime_may_call() {
        let bridge = Bridge::start().unwrap();
        assert_eq!(bridge.run(async { tokio::task::yield_now().await }), Some(()));
        assert_eq!(bridge.run(async { 7 }), Some(7));
    }

    #[test]
    fn the_thread_ends_with_its_bridge() {
        let bridge = Bridge::start().unwrap();
        let (alive, gone) = mpsc::channel::<()>();
        bridge.handle.spawn(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        drop(bridge);
        assert!(gone.recv().is_err(), "the runtime dropped what it ran");
    }
}
