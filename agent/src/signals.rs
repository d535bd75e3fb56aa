//! TERM, INT and HUP, without a moment in which one could be lost or could kill.
//!
//! They are blocked in every thread from the agent's first moment, and taken from the kernel's queue one by one.
//! What is blocked, and what waits in the queue, survives an exec: a TERM that comes while a newer agent takes
//! this process over is found by that one. (A newer agent is executed by [`execute`], which leaves them blocked.)
//! Children must start with nothing blocked, and the standard library hands the mask on: they are started within
//! [`unblocked`]. What comes in that moment finds a handler, which asks for the same as the queue does.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::driver::Request;

/// The signals, blocked.
#[derive(Debug)]
pub struct Signals {
    mask: SigSet,
    stop: Arc<AtomicBool>,
}

impl Signals {
    /// Blocks them in this thread and in all that it will start: call it before there are others.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn block() -> io::Result<Self> {
        let mask = ours();
        mask.thread_block()?;
        Ok(Self { mask, stop: Arc::default() })
    }

    /// Hands them on as requests, from a task of its own; TERM and INT ask for the end, HUP for a newer agent.
    ///
    /// # Errors
    /// No descriptor is left.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, which this workspace forbids; a SignalFd keeps what that one asks for"
    )]
    pub fn listen(&self, requests: mpsc::UnboundedSender<Request>) -> io::Result<Listener> {
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let queue = AsyncFd::new(SignalFd::with_flags(&self.mask, flags)?)?;
        let mut handlers = Handlers::install()?;
        let stop = Arc::clone(&self.stop);
        Ok(Listener(tokio::spawn(async move {
            let Err(err) = hand_on(&queue, &mut handlers, &stop, &requests).await;
            tracing::error!("signals are not heard any more: {err}");
        })))
    }

    /// Was the end asked for, at any time?
    #[must_use]
    pub fn stop_was_asked(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// The task that listens.
#[derive(Debug)]
pub struct Listener(JoinHandle<()>);

impl Listener {
    /// Stops listening; when this returns, what comes from now on waits in the kernel's queue.
    pub async fn close(self) {
        self.0.abort();
        // Its end is what is waited for; that it was aborted is no news.
        let _ = self.0.await;
    }
}

fn ours() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Carries out `start` with the signals unblocked in this thread alone, for the child that it starts.
///
/// # Errors
/// What the kernel says.
pub fn unblocked<T>(start: impl FnOnce() -> T) -> io::Result<T> {
    let before = ours().thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?;
    let started = start();
    before.thread_set_mask()?;
    Ok(started)
}

/// For what comes while a child is being started.
struct Handlers {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
}

impl Handlers {
    fn install() -> io::Result<Self> {
        let [term, int, hup] = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        Ok(Self { term: signal(term)?, int: signal(int)?, hup: signal(hup)? })
    }

    /// Cancel safe, as each of the three is.
    async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.term.recv() => Request::Stop,
            _ = self.int.recv() => Request::Stop,
            _ = self.hup.recv() => Request::Reload,
        }
    }
}

async fn next(queue: &AsyncFd<SignalFd>) -> io::Result<Request> {
    loop {
        let mut ready = queue.readable().await?;
        let Some(info) = queue.get_ref().read_signal()? else {
            ready.clear_ready();
            continue;
        };
        return Ok(match i32::try_from(info.ssi_signo).map(Signal::try_from) {
            Ok(Ok(Signal::SIGHUP)) => Request::Reload,
            _ => Request::Stop,
        });
    }
}

async fn hand_on(
    queue: &AsyncFd<SignalFd>,
    handlers: &mut Handlers,
    stop: &AtomicBool,
    requests: &mpsc::UnboundedSender<Request>,
) -> io::Result<Infallible> {
    loop {
        let request = tokio::select! {
            request = next(queue) => request?,
            request = handlers.next() => request,
        };
        if request == Request::Stop {
            stop.store(true, Ordering::Release);
        }
        // A driver that has ended takes no more requests; a stop is remembered above.
        let _ = requests.send(request);
    }
}

/// Replaces this process by `program`, signals still blocked, with `stdin` as its standard input; comes back only
/// if that failed.
#[must_use]
pub fn execute(program: &Path, args: impl IntoIterator<Item = OsString>, stdin: OwnedFd) -> io::Error {
    let run = || -> io::Result<Infallible> {
        let program = CString::new(program.as_os_str().as_bytes())?;
        let args = args.into_iter().map(|arg| CString::new(arg.as_bytes()));
        let args: Vec<_> = std::iter::once(Ok(program.clone())).chain(args).collect::<Result<_, _>>()?;
        rustix::stdio::dup2_stdin(stdin)?;
        Ok(nix::unistd::execv(&program, &args)?)
    };
    match run() {
        Ok(never) => match never {},
        Err(err) => err,
    }
}
