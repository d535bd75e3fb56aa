//! What is known of the world: learned by looks, kept by the driver alone, handed to every step by value.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forest_core::address::Address;
use forest_core::registry::Registry;

use crate::share::ShareDir;

/// What the steps know of each other. A clone is cheap.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The node's address.
    pub address: Option<Address>,
    /// The directory of the share, verified.
    pub dir: Option<Arc<ShareDir>>,
    /// How long the share took to answer; `None` where no share is configured.
    pub share_latency: Option<Duration>,
    /// The last good registry, read now or kept from an earlier life.
    pub registry: Option<Arc<LastRead>>,
    /// Corrupt copies of the registry that lie beside it.
    pub corrupt_copies: Arc<[String]>,
    /// Which file the engine's executable is.
    pub binary: Option<FileIdentity>,
    /// Since when this node is taken out on purpose.
    pub removed: Option<Arc<str>>,
}

/// A registry that could be parsed.
#[derive(Debug, Clone)]
pub struct LastRead {
    /// Its content.
    pub registry: Registry,
    /// When it was read from the share; `None`: it is the copy kept in state_dir.
    pub at: Option<Instant>,
}

/// What changes whenever a file is replaced or written to: device, inode, time of change in ns.
pub type FileIdentity = (u64, u64, i128);

/// One thing learned.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The node's address.
    Address(Address),
    /// The share's directory, and its latency where there is a share.
    Dir(Arc<ShareDir>, Option<Duration>),
    /// The share's directory is not to be used.
    NoDir,
    /// A good registry.
    Registry(Arc<LastRead>),
    /// The corrupt copies that lie there now.
    CorruptCopies(Vec<String>),
    /// Which file the engine's executable is now.
    Binary(FileIdentity),
    /// Taken out on purpose, or no more.
    Removed(Option<String>),
}

impl Seen {
    /// Takes a fact in.
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Address(address) => self.address = Some(address),
            Fact::Dir(dir, latency) => {
                self.dir = Some(dir);
                self.share_latency = latency;
            }
            Fact::NoDir => self.dir = None,
            Fact::Registry(read) => self.registry = Some(read),
            Fact::CorruptCopies(names) => self.corrupt_copies = names.into(),
            Fact::Binary(identity) => self.binary = Some(identity),
            Fact::Removed(since) => self.removed = since.map(Into::into),
        }
    }
}
