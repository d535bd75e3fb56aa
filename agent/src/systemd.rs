//! What systemd is told: ready, alive, reloading, stopping, and the current step in words.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::health::Findings;

/// Talks to systemd through `NOTIFY_SOCKET`; says nothing where there is none.
#[derive(Debug, Clone, Copy)]
pub struct Notifier {
    watchdog: bool,
}

impl Notifier {
    /// Reads from the environment whether a watchdog waits for us.
    #[must_use]
    pub fn of_process() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled().is_some() }
    }

    /// A notifier for tests and for commands that are no daemon: never pets a watchdog.
    #[must_use]
    pub fn without_watchdog() -> Self {
        Self { watchdog: false }
    }

    /// The driver and /health run.
    pub fn ready(self) {
        send(&[NotifyState::Ready, NotifyState::Status("converging")]);
    }

    /// The driver makes progress.
    pub fn alive(self) {
        if self.watchdog {
            send(&[NotifyState::Watchdog]);
        }
    }

    /// The line that `systemctl status` shows, as [`status_text`] makes it.
    pub fn status(self, text: &str) {
        send(&[NotifyState::Status(text)]);
    }

    /// A newer agent takes this process over.
    pub fn reloading(self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => send(&[NotifyState::Reloading, now]),
            Err(_) => send(&[NotifyState::Reloading]),
        }
    }

    /// The children are being stopped.
    pub fn stopping(self) {
        send(&[NotifyState::Stopping]);
    }

    /// Stopping takes longer than systemd may expect.
    pub fn need(self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        send(&[NotifyState::ExtendTimeoutUsec(micros)]);
    }
}

/// The step the node is at, with the first thing that is not well.
#[must_use]
pub fn status_text(step: &str, findings: &Findings) -> String {
    let ill = findings.iter().into_iter().find(|(_, finding)| finding.reason.is_some());
    match ill {
        None => step.to_owned(),
        Some((key, finding)) => format!("{step}; {key}: {}", finding.output),
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(states) {
        tracing::debug!("failed to tell systemd: {err}");
    }
}
