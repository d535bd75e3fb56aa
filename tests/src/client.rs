//! A client of a forest: a steady publisher that counts what was acknowledged, and JetStream asked from a test
//! that is not asynchronous.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_nats::jetstream::message::PublishMessage as Publish;
use async_nats::jetstream::{self, Context, consumer};
use futures::StreamExt;
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
    ///
    /// # Panics
    /// If it hangs.
    #[track_caller]
    pub fn run<T, F: Future<Output = T>>(&self, job: impl FnOnce(Context) -> F) -> T {
        let job = job(self.jetstream.clone());
        let ended = self.runtime.block_on(async { tokio::time::timeout(HANG, job).await });
        ended.unwrap_or_else(|_| panic!("hangs: no end after {} s", HANG.as_secs()))
    }
}

async fn connect(at: &[SocketAddr]) -> Context {
    let servers: Vec<_> = at
        .iter()
        .map(|at| format!("nats://{at}").parse::<async_nats::ServerAddr>().expect("an address"))
        .collect();
    let begun = Instant::now();
    let client = loop {
        let options = async_nats::ConnectOptions::new()
            .max_reconnects(None)
            .reconnect_delay_callback(|_| Duration::from_millis(100))
            .request_timeout(Some(Duration::from_secs(5)));
        match options.connect(servers.clone()).await {
            Ok(client) => break client,
            // A server may be killed in the very moment of the first connection too.
            Err(err) => assert!(begun.elapsed() < crate::wait::PATIENCE, "no server among {at:?}: {err}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let mut jetstream = jetstream::new(client);
    jetstream.set_timeout(Duration::from_secs(5));
    jetstream
}

/// A bound on a job, far beyond what any takes.
const HANG: Duration = Duration::from_secs(300);

/// A bound on taking some messages; what was not noted comes again.
const TAKING: Duration = Duration::from_secs(30);

/// How long a publisher waits for an acknowledgement before it goes on to the next message.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long one that is more patient waits until it sends a message again.
const ONE_TRY: Duration = Duration::from_secs(1);

/// What a publisher did.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// How many messages were to be published.
    pub sent: usize,
    /// How many of them were sent more than once, under the same id, until they were acknowledged or given up.
    pub repeated: usize,
    /// Numbers of the messages that were acknowledged.
    pub acknowledged: Vec<u64>,
    /// The longest time between two acknowledgements.
    pub longest_gap: Duration,
}

/// Publishes numbered messages, one after another, each until it is acknowledged or given up.
#[derive(Debug)]
pub struct Publisher {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: JoinHandle<Published>,
}

impl Publisher {
    /// Begins. `subject` must belong to a stream.
    #[must_use]
    pub fn start(at: Vec<SocketAddr>, subject: &'static str) -> Self {
        Self::patient(at, subject, PATIENCE)
    }

    /// Begins one that gives a message up only after `patience`, and sends it again until then.
    #[must_use]
    pub fn patient(at: Vec<SocketAddr>, subject: &'static str, patience: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            let runtime = Runtime::new().expect("a runtime");
            runtime.block_on(publish(&at, subject, patience, (&stopped, &counted)))
        });
        Self { stop, count, thread }
    }

    /// How many were acknowledged so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
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

/// Takes numbered messages from a stream by a durable consumer, and has the server note each.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    taken: Arc<Mutex<HashSet<u64>>>,
    thread: JoinHandle<()>,
}

impl Reader {
    /// Begins with the stream's first message.
    #[must_use]
    pub fn start(at: Vec<SocketAddr>, stream: &'static str) -> Self {
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let (stopped, into) = (Arc::clone(&stop), Arc::clone(&taken));
        let thread = std::thread::spawn(move || {
            let runtime = Runtime::new().expect("a runtime");
            runtime.block_on(read(&at, stream, &stopped, &into));
        });
        Self { stop, taken, thread }
    }

    /// How many of these were never given to it?
    #[must_use]
    pub fn missing(&self, numbers: &[u64]) -> usize {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.iter().filter(|number| !taken.contains(number)).count()
    }

    /// Ends.
    ///
    /// # Panics
    /// If the reader did.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader ended well");
    }
}

async fn read(at: &[SocketAddr], stream: &str, stop: &AtomicBool, taken: &Mutex<HashSet<u64>>) {
    let jetstream = connect(at).await;
    while !stop.load(Ordering::Relaxed) {
        // Whatever fails while a leader is replaced is tried again; what was not noted comes again.
        let _ = tokio::time::timeout(TAKING, take_some(&jetstream, stream, taken)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn take_some(
    jetstream: &Context,
    stream: &str,
    taken: &Mutex<HashSet<u64>>,
) -> Result<(), async_nats::Error> {
    let durable = consumer::pull::Config { durable_name: Some("reader".to_owned()), ..Default::default() };
    let consumer = jetstream.get_stream(stream).await?.get_or_create_consumer("reader", durable).await?;
    let batch = consumer.fetch().max_messages(200).expires(Duration::from_millis(500));
    let mut messages = batch.messages().await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        let number = std::str::from_utf8(&message.payload)?.parse()?;
        // Before it is noted: where the answer to that is lost, the server gives it to nobody again.
        taken.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        message.double_ack().await?;
    }
    Ok(())
}

async fn publish(
    at: &[SocketAddr],
    subject: &'static str,
    patience: Duration,
    (stop, count): (&AtomicBool, &AtomicUsize),
) -> Published {
    let jetstream = connect(at).await;
    let mut published = Published::default();
    let mut last = Instant::now();
    let mut number = 0;
    let name = format!("{:016x}", rand::random::<u64>());
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        published.sent += 1;
        let given_up = Instant::now() + patience;
        let mut acknowledged = false;
        let mut tries = 0;
        while !acknowledged && (tries == 0 || Instant::now() < given_up) {
            tries += 1;
            let sent = tokio::time::timeout(patience.min(ONE_TRY), async {
                let message = Publish::build().payload(number.to_string().into());
                let sent =
                    jetstream.send_publish(subject, message.message_id(format!("{name}-{number}"))).await;
                match sent {
                    Ok(acknowledgement) => acknowledgement.await.is_ok(),
                    Err(_) => false,
                }
            });
            acknowledged = sent.await.unwrap_or(false);
            if !acknowledged {
                // At once nobody may be there.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        published.repeated += usize::from(tries > 1);
        if acknowledged {
            published.acknowledged.push(number);
            count.store(published.acknowledged.len(), Ordering::Relaxed);
            published.longest_gap = published.longest_gap.max(last.elapsed());
            last = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    published
}
