//! The first half: snapshots of all streams, then the store is moved aside. Until that, nothing was changed, and a
//! failure leaves nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use forest_core::reason::Reason;

use super::{ASK, TakeOver};
use crate::cluster::leave::api::Api;
use crate::cluster::store;
use crate::cluster::take_over::journal::{Carried, Journal, Stage};
use crate::cluster::take_over::obstacles::{Obstacle, Survey, carried};
use crate::cluster::take_over::server::{self, StoreServer};
use crate::cluster::take_over::streams;
use crate::commands::output::explain;
use crate::commands::{Failure, status};
use crate::engine::limits::{Limits, free_space};
use crate::engine::monitor::dialable;
use crate::fault::Fault;
use crate::files::private_dir;

impl TakeOver<'_> {
    pub(super) async fn read(&self) -> Result<Journal, Failure> {
        // Who is to run the engine afterwards?
        status::ask(self.settings).await?;
        self.nobody_serves_it().await?;
        let mut journal = self.file.begin(self.behind.iter().cloned().collect());
        self.file.write(&journal)?;
        match self.snapshots_of_all().await {
            Ok(streams) => journal.streams = streams,
            Err(failure) => {
                self.clear();
                let _ = fs::remove_file(self.file.path());
                return Err(failure);
            }
        }
        let dir = &self.settings.engine.data_dir;
        journal.aside = store::free_name(dir, "standalone");
        journal.stage = Stage::Moving;
        self.file.write(&journal)?;
        store::move_to(dir, &journal.aside)?;
        Ok(journal)
    }

    /// A server that still runs on the store would go on writing into it.
    async fn nobody_serves_it(&self) -> Result<(), Failure> {
        let others = server::others(self.settings).await?;
        let at = self.settings.listen.client;
        let api = Api::connect(at, ASK).await.ok();
        let who = match (others.first(), &api) {
            (Some(other), _) => format!("process {} ({}) runs on the store", other.pid, other.command),
            (None, Some(_)) => format!("a server answers at {}", dialable(at)),
            (None, None) => return Ok(()),
        };
        let mut message = format!("{who}, and what it writes from now on would be lost");
        let listed = match &api {
            Some(api) => streams::list(api).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let in_memory = listed.iter().map(streams::told).filter(|told| told.in_memory);
        let in_memory: Vec<String> = in_memory.map(|told| told.name).collect();
        if !in_memory.is_empty() {
            message.push_str(&format!("; what lies in memory ends with it: {}", in_memory.join(", ")));
        }
        let advice = "stop it for good (systemctl disable --now nats-server, or what it was started by), then run \
                      forest-agent take-over again";
        Err(Fault::new(Reason::TakeOverRefused, message).advise(advice).into())
    }

    async fn snapshots_of_all(&self) -> Result<Vec<Carried>, Failure> {
        let binary = &self.settings.engine.binary;
        explain(&format!("a server of its own reads {}", self.settings.engine.data_dir.display()));
        let (server, client) = StoreServer::start(self.settings, binary).await?;
        let at = self.settings.listen.client;
        let api = Api::of(client, at);
        let listed =
            streams::list(&api).await.map_err(|err| Fault::new(Reason::EngineStore, err.to_string()))?;
        let data_dir = &self.settings.engine.data_dir;
        let survey = Survey {
            on_disk: store::streams(data_dir)?,
            told: listed.iter().map(streams::told).collect(),
            free: free_space(data_dir)?,
            limit: Limits::kept_or_derived(&self.settings.state_dir, data_dir)?.max_file,
        };
        let names = self.chosen(&survey)?;
        let dir = self.snapshots();
        // Of a command that was killed.
        self.clear();
        private_dir(&dir)?;
        let mut all = Vec::new();
        for (index, stream) in listed.iter().enumerate() {
            let told = streams::told(stream);
            if names.contains(&told.name) {
                explain(&format!("reading {}: {} MiB", told.name, told.bytes.div_ceil(1 << 20)));
                all.push(streams::snapshot(&api, stream, &dir, &format!("{index}.snapshot")).await?);
            }
        }
        let unsynced =
            |err: io::Error| Fault::new(Reason::DataDir, format!("cannot sync {}: {err}", dir.display()));
        fs::File::open(&dir).and_then(|dir| dir.sync_all()).map_err(unsynced)?;
        server.stop().await?;
        Ok(all)
    }

    /// The names of the streams that are carried over.
    fn chosen(&self, survey: &Survey) -> Result<BTreeSet<String>, Failure> {
        let on_disk = survey.on_disk.values().flatten();
        let of_accounts = survey
            .on_disk
            .iter()
            .flat_map(|(account, streams)| streams.iter().map(move |stream| format!("{account}/{stream}")));
        let known: BTreeSet<String> = survey
            .told
            .iter()
            .map(|told| told.name.clone())
            .chain(on_disk.cloned())
            .chain(of_accounts)
            .collect();
        if let Some(unknown) = self.behind.iter().find(|name| !known.contains(*name)) {
            let names: Vec<_> = survey.told.iter().map(|told| told.name.as_str()).collect();
            let message = format!("the store has no stream {unknown}; it has {}", names.join(", "));
            return Err(Fault::new(Reason::TakeOverRefused, message)
                .advise("name one of those after --leave-behind")
                .into());
        }
        carried(survey, &self.behind).map(|names| names.into_iter().collect()).map_err(|obstacles| {
            let texts: Vec<_> = obstacles.iter().map(Obstacle::text).collect();
            let message = format!("the store cannot be taken over whole: {}", texts.join("; "));
            let flags =
                obstacles.iter().filter_map(|obstacle| Some(format!("--leave-behind {}", obstacle.name()?)));
            let flags: Vec<_> = flags.collect();
            let fault = Fault::new(Reason::TakeOverRefused, message);
            let advice = match &flags[..] {
                [] => "make room, or leave streams behind (--leave-behind STREAM); nothing was changed"
                    .to_owned(),
                flags => format!(
                    "to go on without them: forest-agent take-over {}; nothing was changed",
                    flags.join(" ")
                ),
            };
            fault.advise(advice).into()
        })
    }
}
