//! The lab: a bridge, the StorageBox and whoever is on it, all in namespaces that are this process's own.

use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::guest::Host;
use super::storage_box::StorageBox;
use super::{Guest, run};

/// The host's side of the bridge, where the StorageBox listens; the image's /etc/hosts calls it box.test.
pub const BOX: &str = "fd77::1";

/// A bridge with a StorageBox.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    image: PathBuf,
    kept: PathBuf,
    /// The StorageBox.
    pub storage: StorageBox,
}

impl Lab {
    /// A lab in the directory `dir`, which must be a file system of this process's own; guests start from `image`,
    /// and what is worth keeping goes to `kept`.
    ///
    /// # Errors
    /// This process is in the machine's own namespaces; something cannot be made or started.
    pub fn new(dir: &Path, image: &Path, kept: &Path) -> anyhow::Result<Self> {
        let links = fs::read_dir("/sys/class/net").map_or(0, Iterator::count);
        let own = run("ip", &["-o", "link"])?.lines().count() <= 1;
        ensure!(own, "this network, of {links} interfaces, is the machine's own: run it by `make vm`");
        run("ip", &["link", "set", "lo", "up"])?;
        run("ip", &["link", "add", "br0", "type", "bridge"])?;
        run("ip", &["link", "set", "br0", "up"])?;
        run("ip", &["-6", "addr", "add", &format!("{BOX}/64"), "dev", "br0", "nodad"])?;
        let storage = StorageBox::start(&dir.join("box"), image)?;
        Ok(Self { dir: dir.to_owned(), image: image.to_owned(), kept: kept.to_owned(), storage })
    }

    /// Where the image lies, and with it the certificate of the StorageBox and the key of every guest.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Guest `n`, switched off, with a fresh disk and this user-data.
    ///
    /// # Errors
    /// Its network or its seed cannot be made.
    pub fn guest(&self, n: u8, user_data: &str) -> anyhow::Result<Guest> {
        let ip = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x10 + u16::from(n));
        self.guest_as(n, Host { name: format!("vm{n}"), ip, prefix: 64 }, user_data)
    }

    /// The same, but for its name and address.
    ///
    /// # Errors
    /// As [`Self::guest`].
    pub fn guest_as(&self, n: u8, host: Host, user_data: &str) -> anyhow::Result<Guest> {
        let tap = format!("tap{n}");
        if !Path::new("/sys/class/net").join(&tap).exists() {
            // Of an earlier guest: taken again.
            let _ = run("ip", &["tuntap", "add", &tap, "mode", "tap"]);
            run("ip", &["link", "set", &tap, "master", "br0", "up"])?;
        }
        let dir = self.dir.join(format!("guest{n}"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        Guest::new(n, host, &dir, &self.image, user_data)
    }

    /// Saves the consoles and journals of `guests` and the logs of the StorageBox, under `name`, and says where.
    ///
    /// # Errors
    /// They cannot be written. A guest that does not answer has no journal to give.
    pub fn keep(&self, name: &str, guests: &[&Guest]) -> anyhow::Result<PathBuf> {
        let dir = self.kept.join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        for guest in guests {
            guest.keep(&dir)?;
        }
        self.storage.keep(&dir)?;
        Ok(dir)
    }
}
