//! A client of a forest: a steady publisher that counts what was acknowledged, and JetStream asked from a test
//! that is not asynchronous.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};
use tokio::runtime::Runtime;

/// A connection with a runtime of its own.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    jetstream: Context,
}

impl Client {
    /// Connects to the servers at `at`, and tries them again and again.
    ///
    /// # Panics
    /// If none can be reached at first.
    #[must_use]
    pub fn connect(at: &[SocketAddr]) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let jetstream = runtime.block_on(connect(at));
        Self { runtime, jetstream }
    }

    /// Does something with JetStream, to its end.
    pub fn run<T, F: Future<Output = T>>(&self, job: impl FnOnce(Context) -> F) -> T {
        self.runtime.block_on(job(self.jetstream.clone()))
    }
}

async fn connect(at: &[SocketAddr]) -> Context {
    let servers: Vec<_> = at
        .iter()
        .map(|at| format!("nats://{at}").parse::<async_nats::ServerAddr>().expect("an address"))
        .collect();
    let options = async_nats::ConnectOptions::new()
        .max_reconnects(None)
        .reconnect_delay_callback(|_| Duration::from_millis(100))
        .request_timeout(Some(Duration::from_secs(5)));
    let client = options.connect(servers).await.expect("a server");
    let mut jetstream = jetstream::new(client);
    jetstream.set_timeout(Duration::from_secs(5));
    jetstream
}

/// How long a publisher waits for an acknowledgement before it goes on to the next message.
const PATIENCE: Duration = Duration::from_millis(250);

/// What a publisher did.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Numbers of the messages that were acknowledged.
    pub acknowledged: Vec<u64>,
    /// The longest time between two acknowledgements.
    pub longest_gap: Duration,
}

/// Publishes numbered messages, one after another, each until it is acknowledged or given up.
#[derive(Debug)]
pub struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Published>,
}

impl Publisher {
    /// Begins. `subject` must belong to a stream.
    #[must_use]
    pub fn start(at: Vec<SocketAddr>, subject: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = Runtime::new().expect("a runtime");
            runtime.block_on(publish(&at, subject, &stopped))
        });
        Self { stop, thread }
    }

    /// Ends, and tells.
    ///
    /// # Panics
    /// If the publisher did.
    #[must_use]
    pub fn stop(self) -> Published {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the publisher ended well")
    }
}

async fn publish(at: &[SocketAddr], subject: &'static str, stop: &AtomicBool) -> Published {
    let jetstream = connect(at).await;
    let mut published = Published::default();
    let mut last = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let sent = tokio::time::timeout(PATIENCE, async {
            let sent = jetstream.publish(subject, number.to_string().into()).await;
            match sent {
                Ok(acknowledgement) => acknowledgement.await.is_ok(),
                Err(_) => false,
            }
        });
        let acknowledged = sent.await.unwrap_or(false);
        if acknowledged {
            published.acknowledged.push(number);
            published.longest_gap = published.longest_gap.max(last.elapsed());
            last = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    published
}
