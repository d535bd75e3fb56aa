//! A fake of Hetzner Cloud: the API's documented shapes over HTTP on loopback, with actions that take time, pages, a
//! rate budget, stock that runs out, and every fault on demand. Its state is a value that tests look into.
//!
//! Time is counted in requests: an action ends so many requests after it was begun, so no test waits for a clock.

pub mod catalogue;
pub mod faults;
mod http;
mod keys;
mod servers;
pub mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub use faults::{Fault, Rule};
pub use world::{Seen, World};

/// The one token that opens it.
pub const TOKEN: &str = "canary-token-of-the-fake-hetzner-cloud-0123456789";

/// See [`Hooks::created`].
pub type Created = Arc<dyn Fn(u64, Value) + Send + Sync>;

/// What happens behind POST and DELETE of a server. Both are called on a thread of their own.
#[derive(Clone)]
pub struct Hooks {
    /// The network of the server with this number, as `2001:db8::/64`.
    pub network: Arc<dyn Fn(u64) -> String + Send + Sync>,
    /// A server was made: its number and the request; no action on it ends before this has. `None`: its machine is
    /// there at once.
    pub created: Option<Created>,
    /// A server was deleted.
    pub deleted: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            network: Arc::new(|id| format!("2001:db8:{:x}:{:x}::/64", id >> 16 & 0xffff, id & 0xffff)),
            created: None,
            deleted: Arc::new(|_| {}),
        }
    }
}

/// What the handlers share.
pub(crate) struct Shared {
    world: Mutex<World>,
    hooks: Hooks,
}

impl Shared {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fake, answering until it is dropped.
pub struct FakeHetzner {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl FakeHetzner {
    /// An empty project on a free port.
    ///
    /// # Panics
    /// Where the system gives no port or thread.
    #[must_use]
    pub fn start() -> Self {
        Self::with_hooks(Hooks::default())
    }

    /// The same, with something behind the servers.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn with_hooks(hooks: Hooks) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Self::at(listener, hooks)
    }

    /// The same behind a listener, which may be another host's.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn at(listener: std::net::TcpListener, hooks: Hooks) -> Self {
        let shared = Arc::new(Shared { world: Mutex::new(World::new()), hooks });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        listener.set_nonblocking(true).expect("a listener without blocking");
        let address = listener.local_addr().expect("its address");
        let router = http::router(Arc::clone(&shared));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            axum::serve(listener, router).await
        });
        Self { shared, address, runtime: Some(runtime) }
    }

    /// What HCLOUD_ENDPOINT is set to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What HCLOUD_TOKEN is set to.
    #[must_use]
    pub fn token(&self) -> SecretString {
        TOKEN.into()
    }

    /// The state, to be looked into and changed.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    /// Someone deletes a server in the console, and no hook hears of it; its number.
    #[must_use]
    pub fn delete_by_hand(&self, name: &str) -> Option<u64> {
        let mut world = self.world();
        let id = world.all("servers").iter().find(|server| server["name"] == name).map(world::id)?;
        world.forget_server(id);
        Some(id)
    }

    /// Someone has a server of this name, which is none of morpheus's.
    pub fn put_server(&self, name: &str) {
        let mut world = self.world();
        let id = world.fresh();
        let server = json!({"id": id, "name": name, "status": "running", "labels": {}, "public_net": {},
            "server_type": {"name": "cx23"}, "location": {"name": "fsn1"}});
        world.table("servers").insert(id, server);
    }

    /// A server like `name` under another name, whose label says so too; its number.
    ///
    /// # Panics
    /// If there is no such server.
    #[must_use]
    pub fn copy_server(&self, name: &str, other: &str) -> u64 {
        let mut world = self.world();
        let id = world.fresh();
        let mut server =
            world.all("servers").into_iter().find(|server| server["name"] == name).expect("a server");
        (server["id"], server["name"], server["labels"]["node"]) = (id.into(), other.into(), other.into());
        world.table("servers").insert(id, server);
        id
    }

    /// From now on something goes wrong.
    pub fn inject(&self, rule: Rule) {
        self.world().rules.push(rule);
    }
}

impl Drop for FakeHetzner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Requests that hang go with it.
            runtime.shutdown_background();
        }
    }
}
