//! `forest-agent take-over`: carries the streams of a standalone store into the forest. Killed and run again, it goes
//! on where it was.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use forest_core::reason::Reason;
use forest_core::registry::{InstanceError, InstanceLock};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::output::{explain, print, print_json};
use super::{CommandResult, Failure, block_on, status};
use crate::cli::Common;
use crate::cluster::leave::api::Api;
use crate::cluster::store;
use crate::cluster::take_over::journal::{Carried, Extent, Journal, JournalFile, Progress, Stage};
use crate::cluster::take_over::machine::{Found, Next, World, next};
use crate::cluster::take_over::streams;
use crate::engine::monitor::Unanswered;
use crate::fault::{Fault, chain};
use crate::files::private_dir;
use crate::settings::{EngineKind, Settings};

mod positions;
mod reading;
mod report;

/// Where the snapshots lie, in `engine.data_dir`: on the disk that has room for the store.
const SNAPSHOTS: &str = "take-over";
const ASK: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(500);
/// A forest is founded, or joined, within so long.
const CLUSTER: Duration = Duration::from_secs(300);
/// What was restored in part may come to be whole by itself; consumers follow their stream.
const SETTLES: Duration = Duration::from_secs(30);

pub(super) fn run(settings: &Settings, common: &Common, leave_behind: &[String]) -> CommandResult {
    if settings.engine.kind == EngineKind::Nimsforest {
        let message = "the engine is NimsForest, into whose server nothing is taken over yet";
        return Err(Fault::new(Reason::NotSupported, message).into());
    }
    private_dir(&settings.runtime_dir)?;
    private_dir(&settings.state_dir)?;
    let _lock = lock(settings)?;
    let behind: BTreeSet<String> = leave_behind.iter().cloned().collect();
    let command = TakeOver { settings, file: JournalFile::new(settings), behind, undone: Cell::default() };
    let done = block_on(async {
        tokio::select! {
            done = command.run() => done,
            err = interrupted() => Err(err),
        }
    })??;
    if common.json {
        print_json(&report::json(settings, done.as_ref()));
    } else {
        print(&report::text(settings, done.as_ref()));
    }
    Ok(ExitCode::SUCCESS)
}

/// One at a time.
fn lock(settings: &Settings) -> Result<InstanceLock, Failure> {
    InstanceLock::acquire(&settings.state_dir.join("take-over.lock")).map_err(|err| match err {
        InstanceError::Held { .. } => {
            Failure::new(Reason::Busy.code(), anyhow!("another forest-agent take-over is at work: {err}"))
        }
        InstanceError::Io { .. } => Fault::new(Reason::StateDir, chain(&err)).into(),
    })
}

/// The server that runs meanwhile is to end with this command, where that can be.
async fn interrupted() -> Failure {
    let wait = async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        std::io::Result::Ok(())
    };
    let why = match wait.await {
        Ok(()) => anyhow!("interrupted; run it again, and it goes on where it was"),
        Err(err) => anyhow!("cannot wait for signals: {err}"),
    };
    Failure::new(Reason::Interrupted.code(), why)
}

struct TakeOver<'a> {
    settings: &'a Settings,
    file: JournalFile,
    /// What a person wants to be left behind.
    behind: BTreeSet<String>,
    /// So often a stream was taken away again.
    undone: Cell<u32>,
}

impl TakeOver<'_> {
    fn snapshots(&self) -> PathBuf {
        self.settings.engine.data_dir.join(SNAPSHOTS)
    }

    /// Until it is done; `None`: there is nothing to take over.
    async fn run(&self) -> Result<Option<Journal>, Failure> {
        let mut journal = self.file.read()?;
        if let Some(journal) = &mut journal {
            journal.doubt();
        }
        self.leave_behind(journal.as_mut())?;
        let mut forest: Option<(Api, BTreeMap<String, Found>)> = None;
        loop {
            let aside = journal.as_ref().map(|journal| &journal.aside);
            let world = World {
                journal: journal.as_ref(),
                store: store::look(&self.settings.engine.data_dir)?,
                aside_stands: aside.is_some_and(|aside| !aside.as_os_str().is_empty() && aside.exists()),
                streams: forest.as_ref().map(|(_, streams)| streams),
            };
            let due = next(&world);
            match (due, &mut journal, &mut forest) {
                (Next::Nothing, ..) => return Ok(None),
                (Next::Read, journal, _) => *journal = Some(self.read().await?),
                (Next::Already, Some(journal), _) => {
                    self.clear();
                    return Ok(Some(journal.clone()));
                }
                (Next::Moved, Some(journal), _) => {
                    explain(&format!(
                        "the old store is kept at {}; the node begins anew in the forest",
                        journal.aside.display()
                    ));
                    journal.stage = Stage::Restoring;
                    self.file.write(journal)?;
                }
                (Next::Ask, Some(journal), forest) => *forest = Some(self.forest(journal).await?),
                (Next::Restore(name), Some(journal), Some((api, found))) => {
                    found.extend(self.restore(api, journal, &name).await?);
                }
                (Next::Replace(name), Some(journal), Some((api, found))) => {
                    self.settle(api, journal, found, &name).await?;
                }
                (Next::Accept(name), Some(journal), Some((_, found))) if is_ahead(journal, found, &name) => {
                    // Whoever writes to it may have done with its consumers what they like.
                    self.progress(journal, &name, Progress::Restored)?;
                }
                (Next::Accept(name), Some(journal), Some((api, _))) => {
                    self.verify(api, journal, &name).await?;
                }
                (Next::Undo(name), Some(journal), forest) => {
                    if let Some((api, _)) = forest.take() {
                        self.undo(&api, journal, &name).await?;
                    }
                }
                (Next::Finish, Some(journal), _) => {
                    // Servers write their files out when they like.
                    self.sync()?;
                    journal.ended = Some(Timestamp::now());
                    journal.stage = Stage::Done;
                    self.file.write(journal)?;
                }
                (due, journal, _) => return Err(self.stands_in_the_way(&due, journal.as_ref())),
            }
        }
    }

    /// Takes streams out of what is carried over, where a person wants that of a take-over under way.
    fn leave_behind(&self, journal: Option<&mut Journal>) -> Result<(), Failure> {
        let Some(journal) = journal.filter(|journal| journal.stage == Stage::Restoring) else {
            return Ok(());
        };
        let goes = |stream: &Carried| self.behind.contains(&stream.name);
        let names: Vec<_> =
            journal.streams.iter().filter(|stream| goes(stream)).map(|stream| stream.name.clone()).collect();
        if names.is_empty() {
            return Ok(());
        }
        journal.streams.retain(|stream| !names.contains(&stream.name));
        journal.left_behind.extend(names);
        Ok(self.file.write(journal)?)
    }

    /// What lies in the way of going on, for a person to decide.
    fn stands_in_the_way(&self, due: &Next, journal: Option<&Journal>) -> Failure {
        let store = self.settings.engine.data_dir.join("jetstream");
        let store = store.display();
        let fault = match due {
            Next::Conflict(streams) => {
                let text: Vec<_> = streams
                    .iter()
                    .map(|(name, last)| format!("{name} (its last message has the number {last})"))
                    .collect();
                let message = format!("the forest has other streams of the same names: {}", text.join(", "));
                Fault::new(Reason::TakeOverConflict, message)
            }
            Next::Another => Fault::new(
                Reason::TakeOverFailed,
                format!("a standalone server has begun another store at {store} since"),
            )
            .advise("stop that server, move its store aside, then run forest-agent take-over again"),
            _ => {
                let message = format!("the store is gone from {store} since its streams were being read");
                let advice = format!(
                    "put it back; or, if it is not to be taken over any more, delete {}",
                    self.file.path().display()
                );
                Fault::new(Reason::TakeOverFailed, message).advise(advice)
            }
        };
        let aside = journal.map(|journal| &journal.aside).filter(|aside| aside.exists());
        match aside {
            Some(aside) => {
                let kept = format!("{}; the old store is kept at {}", fault.message, aside.display());
                Fault { message: kept, ..fault }.into()
            }
            None => fault.into(),
        }
    }

    fn sync(&self) -> Result<(), Failure> {
        let dir = &self.settings.engine.data_dir;
        let synced = fs::File::open(dir).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
        synced.map_err(|err| {
            Fault::new(Reason::DataDir, format!("cannot sync the file system of {}: {err}", dir.display()))
                .into()
        })
    }

    /// The snapshots are of no use any more.
    fn clear(&self) {
        let dir = self.snapshots();
        if let Err(err) = fs::remove_dir_all(&dir)
            && err.kind() != std::io::ErrorKind::NotFound
        {
            explain(&format!("cannot delete the snapshots in {}: {err}", dir.display()));
        }
    }

    /// Waits until the node is part of its forest, and asks it for its streams.
    async fn forest(&self, journal: &Journal) -> Result<(Api, BTreeMap<String, Found>), Failure> {
        let names = journal.streams.iter().map(|stream| stream.name.clone()).collect();
        let (until, mut said) = (Instant::now() + CLUSTER, String::new());
        loop {
            let why = match self.ask(&names).await {
                Ok(found) => return Ok(found),
                Err(why) => why,
            };
            if why != said {
                explain(&format!("waiting for the node to be part of its forest: {why}"));
                said = why;
            }
            if Instant::now() >= until {
                let message =
                    format!("the node is not part of its forest after {} s: {said}", CLUSTER.as_secs());
                return Err(Fault::new(Reason::TakeOverFailed, message).into());
            }
            sleep(PAUSE).await;
        }
    }

    async fn ask(&self, names: &BTreeSet<String>) -> Result<(Api, BTreeMap<String, Found>), String> {
        let health = status::ask(self.settings).await.map_err(|failure| format!("{:#}", failure.error))?;
        let jetstream = &health.checks.nats_jetstream[0];
        let mine = [Some(Reason::TakingOver.code()), None].contains(&jetstream.reason.as_deref());
        if health.engine.pid.is_none() || !mine {
            // A remedy follows, which is for one who does not wait.
            return Err(jetstream.output.split(';').next().unwrap_or_default().to_owned());
        }
        let api = Api::connect(self.settings.listen.client, ASK).await.map_err(|err| err.to_string())?;
        let server = api.client().server_info().server_name;
        if server != self.settings.node.as_str() {
            return Err(format!("another server, {server}, answers at {}", self.settings.listen.client));
        }
        let found = streams::found(&api, names).await.map_err(|err| err.to_string())?;
        Ok((api, found))
    }

    /// As it is then.
    async fn restore(
        &self,
        api: &Api,
        journal: &mut Journal,
        name: &str,
    ) -> Result<Option<(String, Found)>, Failure> {
        self.progress(journal, name, Progress::Begun)?;
        let Some(stream) = journal.streams.iter().find(|stream| stream.name == name) else { return Ok(None) };
        explain(&format!("restoring {name}: {} messages", stream.extent.messages));
        let restored = streams::restore(api, stream, &self.snapshots()).await?;
        compare(stream, &restored).map_err(Failure::from)?;
        self.verify(api, journal, name).await?;
        Ok(Some((name.to_owned(), Found::There { extent: restored, consumers: BTreeSet::new() })))
    }

    fn progress(&self, journal: &mut Journal, name: &str, progress: Progress) -> Result<(), Failure> {
        for stream in journal.streams.iter_mut().filter(|stream| stream.name == name) {
            stream.progress = progress;
        }
        Ok(self.file.write(journal)?)
    }

    /// A restore of before was cut short: it may come to be whole yet; else it goes, to be begun again.
    async fn settle(
        &self,
        api: &Api,
        journal: &Journal,
        found: &mut BTreeMap<String, Found>,
        name: &str,
    ) -> Result<(), Failure> {
        explain(&format!("the restore of {name} was cut short"));
        let until = Instant::now() + SETTLES;
        let names = BTreeSet::from([name.to_owned()]);
        while Instant::now() < until {
            let now = streams::found(api, &names).await.map_err(|err| unanswered(&err))?;
            found.remove(name);
            found.extend(now);
            let store = store::look(&self.settings.engine.data_dir)?;
            let world = World { journal: Some(journal), store, aside_stands: true, streams: Some(found) };
            if next(&world) != Next::Replace(name.to_owned()) {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        streams::delete(api, name).await.map_err(|err| unanswered(&err))?;
        found.remove(name);
        Ok(())
    }
}

fn unanswered(err: &Unanswered) -> Failure {
    Fault::new(Reason::TakeOverFailed, chain(err)).into()
}

/// Was something written to a restored stream since?
fn is_ahead(journal: &Journal, found: &BTreeMap<String, Found>, name: &str) -> bool {
    let noted = journal.streams.iter().find(|stream| stream.name == name);
    match (noted, found.get(name)) {
        (Some(noted), Some(Found::There { extent, .. })) => extent.last_seq > noted.extent.last_seq,
        _ => false,
    }
}

/// Is what was restored what was noted? What is too old for the stream's limit may have gone meanwhile.
fn compare(stream: &Carried, restored: &Extent) -> Result<(), Fault> {
    let noted = &stream.extent;
    let ages = stream.config.get("max_age").and_then(serde_json::Value::as_u64).is_some_and(|age| age > 0);
    let all = restored.messages == noted.messages || (ages && restored.messages < noted.messages);
    if restored.last_seq == noted.last_seq && all {
        return Ok(());
    }
    let message = format!(
        "stream {} was restored with {} messages up to number {}, and had {} up to {}",
        stream.name, restored.messages, restored.last_seq, noted.messages, noted.last_seq
    );
    Err(Fault::new(Reason::TakeOverFailed, message))
}
