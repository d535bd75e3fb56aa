//! A cloud of a test's own: the fake of Hetzner Cloud, a StorageBox (a real Apache), a laptop and simulated machines,
//! each a host in namespaces of its own. Needs root. Dropped, nothing of it remains.
//!
//! ```text
//!   host 1: the laptop, with the fake API on its loopback      host 2: the StorageBox      hosts 3…: machines
//!                └──────────────────── one bridge, IPv6 alone, 2001:db8:f0e5::/48 ────────────────────┘
//! ```

mod canned;
pub mod laptop;
mod machine;
mod tunnel;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

pub use canned::{Canned, Report, health};
pub use laptop::{Laptop, Said};
pub use machine::Machine;
pub use tunnel::Tunnel;

use crate::apache::{Apache, Setup};
use crate::hetzner::{FakeHetzner, Hooks};
use crate::lab::Lab;
use crate::wait::until;

/// The number of the laptop's host.
const LAPTOP: usize = 1;
/// The number of the StorageBox's.
const BOX: usize = 2;
/// All hosts are in this network, of which each machine has a /64.
const PREFIX: u8 = 48;

/// What comes up behind POST /servers.
#[derive(Clone)]
pub enum Behind {
    /// A machine that carries out its user-data: a real agent, a real engine.
    Machine,
    /// Nothing: it never boots.
    Nothing,
    /// Answers made up, as an agent would give them.
    Canned(Canned),
}

/// What stands behind a server.
enum Standing {
    Machine(Machine),
    Canned { _answers: canned::Answering },
    Nothing,
}

/// A cloud.
pub struct Cloud {
    /// The API.
    pub api: FakeHetzner,
    /// The StorageBox.
    pub storage: Apache,
    servers: Arc<Servers>,
}

struct Servers {
    lab: Lab,
    behind: Mutex<Behind>,
    /// So many are just coming or going.
    busy: AtomicUsize,
    standing: Mutex<BTreeMap<u64, (usize, Standing)>>,
    share: PathBuf,
    certificate: PathBuf,
}

impl Cloud {
    /// An empty project and an empty StorageBox.
    ///
    /// # Panics
    /// Without root, iproute2 or Apache.
    #[must_use]
    pub fn new(behind: Behind) -> Self {
        let lab = Lab::new(2).expect("root, and iproute2");
        for host in [LAPTOP, BOX] {
            lab.address_more(host, address(0, host), PREFIX).expect("an address");
        }
        lab.route_everything(LAPTOP).expect("a route");
        let setup = Setup { tls: true, ..Setup::default() };
        let storage = Apache::start_on(&lab.host(BOX), address(0, BOX), setup);
        let listener = lab.listen(LAPTOP, ([127, 0, 0, 1], 0));
        let (share, certificate) = (storage.root().join("morpheus"), storage.certificate());
        let (behind, standing) = (Mutex::new(behind), Mutex::default());
        let busy = AtomicUsize::new(0);
        let servers = Arc::new(Servers { lab, behind, busy, standing, share, certificate });
        let api = FakeHetzner::at(listener, hooks(&servers));
        Self { api, storage, servers }
    }

    /// What comes up behind servers from now on.
    pub fn behind(&self, behind: Behind) {
        *self.servers.behind.lock().unwrap_or_else(PoisonError::into_inner) = behind;
    }

    /// Laptops; each has a home of its own.
    #[must_use]
    pub fn laptop(&self) -> Laptop {
        Laptop::new(self, &self.servers.lab.host(LAPTOP))
    }

    /// The directory of the forests on the StorageBox; it may not be there yet.
    #[must_use]
    pub fn share(&self) -> PathBuf {
        self.servers.share.clone()
    }

    /// The registry as it stands, or null.
    #[must_use]
    pub fn registry(&self) -> Value {
        let text = std::fs::read(self.share().join("registry.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Does something with every machine that runs.
    pub fn each_machine(&self, mut look: impl FnMut(&Machine)) {
        for (_, standing) in self.servers.standing().values() {
            if let Standing::Machine(machine) = standing {
                look(machine);
            }
        }
    }

    /// So many machines, or what stands for them, are there.
    #[must_use]
    pub fn standing(&self) -> usize {
        self.servers.standing().len()
    }

    /// Writes the entries of a forest's members as their agents would, where none is behind the servers.
    ///
    /// # Panics
    /// If the registry cannot be changed.
    pub fn register(&self, forest: &str) {
        let servers = self.api.world().all("servers");
        self.edit_registry(|registry| {
            let members = registry["forests"][forest]["members"].as_array().cloned().unwrap_or_default();
            for member in &members {
                let server = servers.iter().find(|server| server["name"] == *member);
                let network = server.and_then(|server| server["public_net"]["ipv6"]["ip"].as_str());
                let Some(ip) = network.map(|network| network.replace("::/64", "::1")) else { continue };
                let entry =
                    json!({"id": member, "ip": ip, "ipv6": ip, "forest_id": forest, "status": "active"});
                let list = registry["nodes"][forest].as_array_mut();
                match list {
                    Some(list) => {
                        list.retain(|entry| entry["id"] != *member);
                        list.push(entry);
                    }
                    None => registry["nodes"][forest] = json!([entry]),
                }
            }
        });
    }

    /// Changes the registry by hand.
    ///
    /// # Panics
    /// If there is none, or it cannot be written.
    pub fn edit_registry(&self, edit: impl FnOnce(&mut Value)) {
        let mut registry = self.registry();
        edit(&mut registry);
        let file = self.share().join("registry.json");
        std::fs::write(file, format!("{registry:#}\n")).expect("the registry is written");
    }

    /// The laptop's network has no way into the IPv6 internet.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn without_ipv6(&self) -> anyhow::Result<()> {
        self.servers.lab.run(LAPTOP, &["ip", "-6", "route", "del", "default"]).map(drop)
    }

    /// A machine dies for good; its server is there still.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn crash(&self, name: &str) {
        let servers = self.api.world().all("servers");
        let id =
            servers.iter().find(|server| server["name"] == name).and_then(|server| server["id"].as_u64());
        self.servers.delete(id.expect("a server of that name"));
    }

    /// Lets a laptop log in to the machines that run, as they are now.
    ///
    /// # Panics
    /// If the ssh in its place cannot be written.
    pub fn open_to(&self, laptop: &Laptop) {
        let standing = self.servers.standing();
        let pids = standing.iter().filter_map(|(id, (_, standing))| match standing {
            Standing::Machine(machine) => Some((address(net(*id), 1), machine.pid())),
            Standing::Canned { .. } | Standing::Nothing => None,
        });
        laptop.reaches(pids);
    }

    /// Someone deletes a server by hand, and whatever is behind it goes.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn delete_by_hand(&self, name: &str) {
        let id = self.api.delete_by_hand(name).expect("a server of that name");
        self.servers.delete(id);
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // No server comes after this.
        self.behind(Behind::Nothing);
        until("nothing comes or goes", || (self.servers.busy.load(Ordering::SeqCst) == 0).then_some(()));
        let all: Vec<u64> = self.servers.standing().keys().copied().collect();
        for id in all {
            self.servers.delete(id);
        }
    }
}

impl Servers {
    fn standing(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, (usize, Standing)>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busily(&self, work: impl FnOnce()) {
        self.busy.fetch_add(1, Ordering::SeqCst);
        work();
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }

    fn create(&self, id: u64, request: &Value) {
        let behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (name, user_data) = (text(&request["name"]), text(&request["user_data"]));
        let host = self.lab.join().expect("a host");
        let ip = address(net(id), 1);
        self.lab.address_more(host, ip, PREFIX).expect("an address");
        let standing = match behind {
            Behind::Nothing => Standing::Nothing,
            Behind::Canned(canned) => {
                let answers = canned::Answering::start(&self.lab, host, ip, &name, &canned);
                Standing::Canned { _answers: answers }
            }
            Behind::Machine => Standing::Machine(Machine::boot(
                &self.lab.host(host),
                &name,
                &user_data,
                &self.share,
                &self.certificate,
            )),
        };
        self.standing().insert(id, (host, standing));
    }

    fn delete(&self, id: u64) {
        let gone = self.standing().remove(&id);
        if let Some((host, standing)) = gone {
            drop(standing);
            self.lab.leave(host).expect("the host goes");
        }
    }
}

fn hooks(servers: &Arc<Servers>) -> Hooks {
    let (made, gone) = (Arc::clone(servers), Arc::clone(servers));
    Hooks {
        network: Arc::new(|id| format!("{}/64", address(net(id), 0))),
        created: Some(Arc::new(move |id, request| made.busily(|| made.create(id, &request)))),
        deleted: Arc::new(move |id| gone.busily(|| gone.delete(id))),
    }
}

/// The number of a server's network.
fn net(id: u64) -> u16 {
    // Numbers of servers are far apart from those of laptop and StorageBox.
    u16::try_from(id % 60_000).unwrap_or_default() + 1
}

fn address(net: u16, host: usize) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xf0e5, net, 0, 0, 0, u16::try_from(host).unwrap_or_default())
}
