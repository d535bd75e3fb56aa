//! The health of the whole forest, gathered by one question: every agent answers a subject of the system account,
//! through its own server. NimsForest's servers have no user of that account: there each agent is asked over HTTP.
//! Whoever does not answer in time is named as silent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
use forest_core::address::Address;
use forest_core::health::HealthReport;
use forest_core::registry::Entry;
use forest_core::secrets::Credentials;
use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use tokio::sync::{Mutex, watch};
use tokio::time::{timeout, timeout_at};

use crate::cluster::situation::members;
use crate::cluster::sys::SysLink;
use crate::cluster::view::SysAt;
use crate::driver::Seen;
use crate::engine::monitor::Unanswered;
use crate::health::{Audience, Forest, Snapshot, client, report};
use crate::settings::{EngineKind, Settings};

/// How long the slowest answer is waited for.
const GATHER: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(1);

/// One agent's part in it: it asks and answers.
#[derive(Debug, Clone)]
pub struct Gatherer {
    settings: Arc<Settings>,
    seen: watch::Receiver<Seen>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    link: Arc<Mutex<SysLink>>,
}

impl Gatherer {
    /// For this node.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        seen: watch::Receiver<Seen>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Self {
        Self { settings, seen, snapshots, link: Arc::default() }
    }

    fn subject(&self) -> String {
        format!("forest-agent.{}.health", self.settings.forest)
    }

    /// Answers, for ever: also when the server was away in between.
    pub async fn answer(self) {
        loop {
            let user = self.user();
            if let Ok(client) = self.client().await
                && let Ok(mut questions) = client.subscribe(self.subject()).await
            {
                let mut seen = self.seen.clone();
                // By credentials that are replaced it would be refused for ever.
                let mut others = pin!(seen.wait_for(|seen| user_of(&self.settings, seen) != user));
                while let Some(question) = tokio::select! {
                    question = questions.next() => question,
                    _ = &mut others => None,
                } {
                    let Some(reply) = question.reply else { continue };
                    let body = serde_json::to_vec(&self.own()).unwrap_or_default();
                    // The asker may be gone by now.
                    let _ = client.publish(reply, body.into()).await;
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn user(&self) -> Option<Credentials> {
        user_of(&self.settings, &self.seen.borrow())
    }

    fn own(&self) -> HealthReport {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        report(&snapshot, Audience::Trusted, Instant::now(), Timestamp::now())
    }

    async fn client(&self) -> Result<Client, Unanswered> {
        let sys = SysAt::of(&self.settings, &self.seen.borrow());
        let SysAt { at, sys, .. } = sys.ok_or_else(|| Unanswered {
            what: "the system account".to_owned(),
            why: "no server here takes questions yet".to_owned(),
        })?;
        self.link.lock().await.client(at, &sys, CONNECT).await
    }

    async fn ask(&self, answers: &mut BTreeMap<String, Option<HealthReport>>) -> Option<()> {
        let client = self.client().await.ok()?;
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.ok()?;
        client.publish_with_reply(self.subject(), inbox, "".into()).await.ok()?;
        let until = tokio::time::Instant::now() + GATHER;
        while answers.values().any(Option::is_none) {
            let reply = timeout_at(until, replies.next()).await.ok()??;
            if let Ok(report) = serde_json::from_slice::<HealthReport>(&reply.payload) {
                answers.insert(report.node_id.clone(), Some(report));
            }
        }
        Some(())
    }

    async fn gather_all(self) -> BTreeMap<String, Option<HealthReport>> {
        let registry = self.seen.borrow().registry.clone();
        let entries = registry.map_or(Vec::new(), |read| members(&read.registry, &self.settings));
        let own = self.own();
        let entries = entries.into_iter().filter(|entry| entry.id != own.node_id);
        let mut answers: BTreeMap<_, _> = match self.settings.engine.kind {
            EngineKind::NatsServer => entries.map(|entry| (entry.id, None)).collect(),
            EngineKind::Nimsforest => join_all(entries.map(ask_over_http)).await.into_iter().collect(),
        };
        answers.insert(own.node_id.clone(), Some(own));
        if self.settings.engine.kind == EngineKind::NatsServer {
            // What was not asked has not answered, which is what is told.
            let _ = self.ask(&mut answers).await;
        }
        answers
    }
}

fn user_of(settings: &Settings, seen: &Seen) -> Option<Credentials> {
    SysAt::of(settings, seen).map(|at| at.sys)
}

/// Another node, at its agent's own port; what answers as somebody else is not it.
async fn ask_over_http(entry: Entry) -> (String, Option<HealthReport>) {
    let report = async {
        let ip = entry.ip.parse::<Address>().ok()?.ip();
        let asked = client::health(SocketAddr::new(ip, entry.health_port()));
        timeout(GATHER, asked).await.ok()?.ok().filter(|report| report.node_id == entry.id)
    };
    let report = report.await;
    (entry.id, report)
}

impl Forest for Gatherer {
    fn gather(&self) -> BoxFuture<'static, BTreeMap<String, Option<HealthReport>>> {
        Box::pin(self.clone().gather_all())
    }
}
