//! Follows the registry and the forest's secrets, so that what another node or the laptop wrote is acted on within
//! a second, not only when the next pass is due.
//!
//! By notify's PollWatcher, which reads: no notification of the kernel tells of a change that another client of a
//! CIFS share made. It compares contents, for a change within the second of the last one keeps the time of the
//! file. What it hears is a hint and nothing more: a pass looks for itself, through a directory that was verified,
//! and without any hint the next pass finds the same. So it may watch by path, also where nothing is mounted.
//!
//! It watches these two files alone and never their directory: reading the queue's lock file on a CIFS share would
//! drop the lock of this host.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self as thread_mpsc, RecvTimeoutError};
use std::time::Duration;

use forest_core::secrets;
use notify::{Config, Event, PollWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::settings::Settings;

/// So many times between two passes the files are read, but neither more nor less often than this.
const TIMES: u32 = 5;
const OFTEN: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(1);

/// Who follows. Dropped, it ends, or, where it hangs in a read, as soon as that comes back.
#[derive(Debug)]
pub struct Follower {
    _until_dropped: thread_mpsc::Sender<()>,
}

impl Follower {
    /// Begins, in a thread of its own, which may hang on the share for as long as that likes. Whoever listens is
    /// told that something changed, never what.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(settings: &Settings) -> io::Result<(Self, mpsc::Receiver<()>)> {
        let dir = settings.registry.parent().unwrap_or(Path::new("/"));
        let files = [settings.registry.clone(), dir.join(secrets::files(&settings.forest).file)];
        let (teller, changes) = mpsc::channel(1);
        let (until_dropped, ended) = thread_mpsc::channel();
        let interval = interval(settings.poll_interval);
        let work = move || follow(files, interval, &teller, &ended);
        std::thread::Builder::new().name("registry-follow".to_owned()).spawn(work)?;
        Ok((Self { _until_dropped: until_dropped }, changes))
    }
}

fn interval(poll_interval: Duration) -> Duration {
    (poll_interval / TIMES).clamp(OFTEN, SELDOM)
}

fn follow(
    files: [PathBuf; 2],
    interval: Duration,
    teller: &mpsc::Sender<()>,
    ended: &thread_mpsc::Receiver<()>,
) {
    let config = Config::default().with_poll_interval(interval).with_compare_contents(true);
    let mut watched = Vec::new();
    for file in files {
        let (found, heard, told) = (Arc::new(AtomicBool::new(false)), teller.clone(), teller.clone());
        let seen = Arc::clone(&found);
        // A channel that is full tells already. A file that cannot be read is the pass's to complain of.
        let changed = move |_: notify::Result<Event>| {
            let _ = heard.try_send(());
        };
        let first = move |_: notify::Result<PathBuf>| {
            seen.store(true, Ordering::Relaxed);
            let _ = told.try_send(());
        };
        match PollWatcher::with_initial_scan(changed, config, first) {
            Ok(watcher) => watched.push((file, found, watcher)),
            Err(err) => {
                tracing::warn!("{} is looked at in every pass, and not followed: {err}", file.display());
            }
        }
    }
    loop {
        // One that is not there cannot be watched yet.
        for (file, found, watcher) in &mut watched {
            if !found.load(Ordering::Relaxed) && file.exists() {
                // It has no way to fail: a file that cannot be read is not found.
                let _ = watcher.watch(file, RecursiveMode::NonRecursive);
            }
        }
        if ended.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Changes something, again where it fell into the moment in which the watching began, until that is heard of.
    async fn heard(changes: &mut mpsc::Receiver<()>, change: impl Fn(&str)) {
        for number in 10..70 {
            // Of the same length, and mostly within the same second.
            change(&number.to_string());
            if tokio::time::timeout(Duration::from_secs(1), changes.recv()).await.is_ok() {
                return;
            }
        }
        panic!("nothing is heard");
    }

    #[tokio::test]
    async fn what_comes_changes_and_is_replaced_is_heard_of() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["registry.json", "secrets.json"].map(|name| dir.path().join(name));
        let (teller, mut changes) = mpsc::channel(1);
        let (stop, ended) = thread_mpsc::channel::<()>();
        let of_thread = files.clone();
        let thread = std::thread::spawn(move || follow(of_thread, OFTEN, &teller, &ended));
        for file in &files {
            heard(&mut changes, |text| fs::write(file, text).unwrap()).await;
            heard(&mut changes, |text| fs::write(file, text).unwrap()).await;
            let new = dir.path().join("new");
            heard(&mut changes, |text| {
                fs::write(&new, text).unwrap();
                fs::rename(&new, file).unwrap();
            })
            .await;
        }
        drop(stop);
        thread.join().unwrap();
    }

    #[test]
    fn it_reads_some_times_a_pass_and_at_least_every_second() {
        assert_eq!(interval(Duration::from_secs(5)), Duration::from_secs(1));
        assert_eq!(interval(Duration::from_secs(300)), SELDOM);
        assert_eq!(interval(Duration::from_millis(200)), OFTEN);
    }
}
