//! The agent's engine module against real nats-servers and the stand-in NimsForest.

mod nats_server;
mod nimsforest;
mod stand_in;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use forest_agent::engine::diagnose::{Evidence, diagnose};
use forest_agent::engine::probe::{EngineObservation, Probe, Target};
use forest_agent::fault::Fault;
use forest_agent::settings::EngineKind;
use forest_tests::running::{HANG, Running};
use tokio::time::{Instant, sleep};

const CLIENT: u16 = 24222;
const CLUSTER: u16 = 26222;
const MONITOR: u16 = 28222;

/// A loopback address that no other test uses, of this run or of another one at the same time.
fn own_ip() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, high % 254 + 1, low, last).into()
}

/// One node's files and addresses.
struct Place {
    dir: tempfile::TempDir,
    ip: IpAddr,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), ip: own_ip() };
        std::fs::create_dir(place.store()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.path("store")
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    fn target(&self, client: Option<SocketAddr>) -> Target {
        Target { node: "grove-node-1".parse().unwrap(), monitor: self.at(MONITOR), client }
    }
}

fn probe() -> Probe {
    Probe::new(Duration::from_secs(5)).unwrap()
}

/// Looks until the observation is as `wanted`, and returns it.
async fn until(
    probe: &mut Probe,
    target: &Target,
    wanted: impl Fn(&EngineObservation) -> bool,
) -> EngineObservation {
    let begun = Instant::now();
    loop {
        let seen = probe.look(target).await;
        if wanted(&seen) {
            return seen;
        }
        assert!(begun.elapsed() < HANG, "still {seen:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What the agent makes of the end of `running`.
async fn fault_of(kind: EngineKind, running: &mut Running) -> Fault {
    let exit = running.ended().await;
    let lines = running.lines();
    diagnose(&Evidence {
        kind,
        exit: Some(&exit),
        tail: &lines[lines.len().saturating_sub(20)..],
        spawn: None,
        holder: None,
    })
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
