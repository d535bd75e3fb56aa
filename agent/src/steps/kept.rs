//! What the agent keeps over reboots of what it saw: the last good registry, and that it was removed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use forest_core::registry::{Document, Registry};

use crate::fault::chain;
use crate::files::put;
use crate::removal::RemovalMarker;
use crate::settings::Settings;

/// Both files, in state_dir.
#[derive(Debug, Clone)]
pub struct Kept {
    registry: PathBuf,
    marker: RemovalMarker,
    writes: bool,
    last: Arc<Mutex<Last>>,
}

/// What was done last, so that it is neither done nor said twice.
#[derive(Debug, Default)]
struct Last {
    written: Option<Vec<u8>>,
    complaint: Option<String>,
}

impl Kept {
    /// For this node.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            registry: settings.state_dir.join("registry.json"),
            marker: RemovalMarker::new(settings),
            writes: true,
            last: Arc::default(),
        }
    }

    /// The same, which reads and keeps nothing.
    #[must_use]
    pub fn nowhere(settings: &Settings) -> Self {
        Self { writes: false, ..Self::new(settings) }
    }

    /// The registry as it was last seen, from an earlier life.
    #[must_use]
    pub fn registry(&self) -> Option<Registry> {
        Registry::parse(&std::fs::read(&self.registry).ok()?).ok()
    }

    /// Since when this node is removed, as an earlier life noted.
    #[must_use]
    pub fn marked(&self) -> Option<String> {
        self.marker.read()
    }

    /// Keeps the registry's text, and says since when the node is removed: by the tombstone in it, or by the marker
    /// that an earlier one left.
    pub(super) async fn note(&self, bytes: Vec<u8>, tombstone: Option<String>) -> Option<String> {
        let (kept, since) = (self.clone(), tombstone.clone());
        let noted = tokio::task::spawn_blocking(move || {
            kept.keep(bytes);
            kept.removed(since)
        });
        noted.await.unwrap_or(tombstone)
    }

    fn keep(&self, bytes: Vec<u8>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.writes || last.written.as_ref() == Some(&bytes) {
            return;
        }
        match put(&self.registry, &bytes, 0o600) {
            Ok(()) => *last = Last { written: Some(bytes), complaint: None },
            Err(err) => {
                let complaint = Some(chain(&err));
                if last.complaint != complaint {
                    tracing::warn!("{}; a boot without the share would find nothing", chain(&err));
                }
                last.complaint = complaint;
            }
        }
    }

    fn removed(&self, tombstone: Option<String>) -> Option<String> {
        let marked = self.marked();
        if let (true, Some(since), None) = (self.writes, &tombstone, &marked)
            && let Err(fault) = self.marker.write(since)
        {
            tracing::warn!("{fault}; after a reboot without the share this node would start again");
        }
        tombstone.or(marked)
    }
}
