//! What a machine is told, as cloud-init, curl and the agent read it.

// Marked as tests, so that their helpers may unwrap as tests do.
#[cfg(test)]
mod fetch;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod shape;

use forest_cloud_init::{Download, Engine, EngineKind, Fetch, Share, UserData};
use secrecy::{ExposeSecret, SecretString};

const DIGEST: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

/// The user-data of a node on a StorageBox, nothing left out.
fn example() -> UserData {
    UserData {
        forest: "grove".parse().expect("an id"),
        node: "grove-node-1".parse().expect("an id"),
        share: Share {
            source: "//u12345.your-storagebox.de/backup/morpheus".into(),
            username: "u12345".into(),
            password: SecretString::from("correct horse"),
        },
        agent: Fetch {
            download: download("https://u12345.your-storagebox.de/morpheus/bin/forest-agent"),
            login: true,
        },
        engine: Engine {
            kind: EngineKind::Nimsforest,
            download: Some(download("file:///mnt/forest/bin/forest")),
        },
        witness: Some(download("file:///mnt/forest/bin/nats-server")),
    }
}

fn download(url: &str) -> Download {
    Download { url: url.parse().expect("a URL"), sha256: DIGEST.parse().expect("a digest") }
}

fn rendered(plan: &UserData) -> String {
    plan.render().expect("user-data").expose_secret().to_owned()
}
