//! Asking and steering the servers of a cluster through its system account. Answers are read tolerantly; every
//! question has a deadline.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions};
use forest_core::secrets::Credentials;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::engine::monitor::{Jsz, Unanswered, dialable};
use crate::fault::chain;

/// What the leader says of a server that is not in its group.
const NOT_A_MEMBER: &str = "not a member of the cluster";

const RECONNECT_DELAY: Duration = Duration::from_millis(250);
/// A connection that nobody has any more goes on trying by itself, also where it is refused each time: never again.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// The meta group, as its leader tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Name of the leader.
    pub leader: String,
    /// Every voter, the leader among them.
    pub members: Vec<Member>,
}

/// A voter of the meta group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its server_name.
    pub name: String,
    /// Has it all that the leader has, and answers?
    pub current: bool,
}

impl Group {
    /// From the leader's own /jsz; `None` where it is of no leader.
    #[must_use]
    pub fn of(jsz: &Jsz) -> Option<Self> {
        let meta = jsz.meta_cluster.as_ref().filter(|meta| !meta.leader.is_empty())?;
        let others = meta.replicas.iter();
        let others = others.map(|replica| Member {
            name: replica.name.clone(),
            current: replica.current && !replica.offline,
        });
        let leader = Member { name: meta.leader.clone(), current: true };
        Some(Self { leader: meta.leader.clone(), members: std::iter::once(leader).chain(others).collect() })
    }

    /// The same, with the names of voters that the leader itself has not heard of since its start, and so knows by
    /// their ids alone, taken from `known`.
    #[must_use]
    pub fn named(mut self, known: &BTreeSet<String>) -> Self {
        for member in self.members.iter_mut().filter(|member| !known.contains(&member.name)) {
            if let Some(name) = known.iter().find(|name| member.name.contains(&peer_id(name))) {
                member.name.clone_from(name);
            }
        }
        self
    }

    /// Is `name` a voter?
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.name == name)
    }

    /// Is `name` a voter that is current?
    #[must_use]
    pub fn has_current(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.name == name && member.current)
    }
}

/// What a server of this name is called in the meta group: 8 characters of its digest, the same in both versions.
#[must_use]
pub fn peer_id(name: &str) -> String {
    const CHARACTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digest = Sha256::digest(name);
    digest.iter().take(8).map(|byte| char::from(CHARACTERS[usize::from(*byte) % CHARACTERS.len()])).collect()
}

/// One long-lived connection as the system account's user. It reconnects by itself.
#[derive(Debug, Default)]
pub struct SysLink {
    connected: Option<Connected>,
}

#[derive(Debug)]
struct Connected {
    at: SocketAddr,
    sys: Credentials,
    client: Client,
    abandoned: Arc<AtomicBool>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

impl SysLink {
    /// Lets go of a connection by other credentials than these: it would try them for ever.
    pub fn forget_others(&mut self, sys: &Credentials) {
        self.connected.take_if(|connected| connected.sys != *sys);
    }

    /// The connection to the server at `at`, made anew where address or credentials are others.
    ///
    /// # Errors
    /// It cannot be had within `deadline`.
    pub async fn client(
        &mut self,
        at: SocketAddr,
        sys: &Credentials,
        deadline: Duration,
    ) -> Result<Client, Unanswered> {
        let at = dialable(at);
        let failed = |why: String| Unanswered { what: format!("system account at nats://{at}"), why };
        if let Some(Connected { client, .. }) =
            self.connected.as_ref().filter(|known| (known.at, &known.sys) == (at, sys))
        {
            return match client.connection_state() {
                State::Connected => Ok(client.clone()),
                State::Pending | State::Disconnected => Err(failed("not connected; reconnecting".to_owned())),
            };
        }
        self.connected = None;
        let abandoned = Arc::new(AtomicBool::new(false));
        let is_abandoned = Arc::clone(&abandoned);
        let delay = move |_| if is_abandoned.load(Ordering::Relaxed) { FOREVER } else { RECONNECT_DELAY };
        let options =
            ConnectOptions::with_user_and_password(sys.user.clone(), sys.password.expose().to_owned())
                .name("forest-agent")
                .connection_timeout(deadline)
                .ignore_discovered_servers()
                .max_reconnects(None)
                .reconnect_delay_callback(delay);
        let client = match timeout(deadline, options.connect(format!("nats://{at}"))).await {
            Ok(Ok(client)) => client,
            Ok(Err(err)) => return Err(failed(chain(&err))),
            Err(_) => return Err(failed(silent(deadline))),
        };
        self.connected = Some(Connected { at, sys: sys.clone(), client: client.clone(), abandoned });
        Ok(client)
    }
}

/// The meta group, asked of its leader wherever that runs; `None`: nobody leads.
///
/// # Errors
/// The answer is none of a server.
pub async fn group(client: &Client, deadline: Duration) -> Result<Option<Group>, Unanswered> {
    #[derive(Deserialize)]
    struct Reply {
        #[serde(default)]
        data: Jsz,
    }
    let subject = "$SYS.REQ.SERVER.PING.JSZ";
    // Only the leader answers this; without one nobody does.
    let question = json!({"leader_only": true}).to_string();
    let Ok(asked) = timeout(deadline, client.request(subject, question.into())).await else {
        return Ok(None);
    };
    let failed = |why: String| Unanswered { what: subject.to_owned(), why };
    let message = asked.map_err(|err| failed(chain(&err)))?;
    let reply: Reply = serde_json::from_slice(&message.payload).map_err(|err| failed(err.to_string()))?;
    Ok(Group::of(&reply.data))
}

/// The tags by which streams are placed on the server `name`, as it tells the others. (The old version's /varz keeps
/// telling those that it was started with.)
///
/// # Errors
/// It does not answer in time.
pub async fn tags(client: &Client, name: &str, deadline: Duration) -> Result<Vec<String>, Unanswered> {
    #[derive(Deserialize)]
    struct Reply {
        server: Server,
    }
    #[derive(Deserialize)]
    struct Server {
        #[serde(default)]
        tags: Vec<String>,
    }
    let subject = "$SYS.REQ.SERVER.PING";
    let failed = |why: String| Unanswered { what: format!("{subject} of {name}"), why };
    let question = json!({"server_name": name}).to_string();
    let asked = timeout(deadline, client.request(subject, question.into())).await;
    let message = asked.map_err(|_| failed(silent(deadline)))?.map_err(|err| failed(chain(&err)))?;
    let reply: Reply = serde_json::from_slice(&message.payload).map_err(|err| failed(err.to_string()))?;
    Ok(reply.server.tags)
}

/// Asks the meta leader to let another lead.
///
/// # Errors
/// No answer, or a refusal in the server's words.
pub async fn step_down(client: &Client, deadline: Duration) -> Result<(), Unanswered> {
    order(client, "$JS.API.META.LEADER.STEPDOWN", String::new(), deadline).await
}

/// Takes the server `name` out of the meta group. A live one's JetStream is disabled by it. One that is not in it
/// any more is as it should be.
///
/// # Errors
/// No answer, or a refusal in the server's words.
pub async fn remove(client: &Client, name: &str, deadline: Duration) -> Result<(), Unanswered> {
    let body = json!({"peer": "", "peer_id": peer_id(name)}).to_string();
    match order(client, "$JS.API.SERVER.REMOVE", body, deadline).await {
        Err(err) if err.why.contains(NOT_A_MEMBER) => Ok(()),
        done => done,
    }
}

async fn order(
    client: &Client,
    subject: &'static str,
    body: String,
    deadline: Duration,
) -> Result<(), Unanswered> {
    #[derive(Deserialize)]
    struct Reply {
        error: Option<Refusal>,
    }
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(default)]
        description: String,
    }
    let failed = |why: String| Unanswered { what: subject.to_owned(), why };
    let asked = timeout(deadline, client.request(subject, body.into())).await;
    let message = asked.map_err(|_| failed(silent(deadline)))?.map_err(|err| failed(chain(&err)))?;
    let reply: Reply = serde_json::from_slice(&message.payload).map_err(|err| failed(err.to_string()))?;
    match reply.error {
        Some(refusal) => Err(failed(refusal.description)),
        None => Ok(()),
    }
}

fn silent(deadline: Duration) -> String {
    format!("no answer within {} ms", deadline.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voter_known_by_its_id_alone_gets_its_name() {
        // As real servers of both versions say.
        for (name, id) in [
            ("n1", "fjFyEjc1"),
            ("w-n1-1", "XuBCh9zr"),
            ("grove-node-1", "FElozitq"),
            ("grove-node-2", "MPz7l1p1"),
        ] {
            assert_eq!(peer_id(name), id);
        }
        let unknown = "Server name unknown at this time (peerID: XuBCh9zr)";
        let member = |name: &str| Member { name: name.to_owned(), current: false };
        let group = Group { leader: "n1".to_owned(), members: ["n1", unknown, "other"].map(member).to_vec() };
        let known = ["n1", "n2", "w-n1-1"].map(str::to_owned).into();
        let named = group.named(&known);
        assert_eq!(named.members, ["n1", "w-n1-1", "other"].map(member));
    }

    #[test]
    fn the_group_is_the_leader_and_its_replicas() {
        let jsz = r#"{"meta_cluster":{"leader":"n1","cluster_size":3,"replicas":[
            {"name":"n2","current":true},{"name":"w","current":true,"offline":true}]}}"#;
        let group = Group::of(&serde_json::from_str(jsz).unwrap()).unwrap();
        assert!(group.has_current("n1") && group.has_current("n2"));
        assert!(group.has("w") && !group.has_current("w") && !group.has("n3"));
        assert_eq!(Group::of(&serde_json::from_str(r#"{"meta_cluster":{"leader":""}}"#).unwrap()), None);
        assert_eq!(Group::of(&Jsz::default()), None);
    }
}
