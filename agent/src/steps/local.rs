//! Steps on this machine's own disk: node-info.json and JetStream's directory.

use std::io;
use std::path::{Path, PathBuf};

use forest_core::id::{ForestId, NodeId};
use forest_core::node_info::{self, NodeInfoError};
use forest_core::reason::Reason;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::disk::off_thread;
use crate::driver::{Look, Looked, Seen, Step};
use crate::fault::{Fault, chain};
use crate::files::{private_dir, put};

/// Step `node_info`: node-info.json says who we are. NimsForest and people read it, so it is mode 0644.
#[derive(Debug, Clone)]
pub struct NodeInfoStep {
    path: PathBuf,
    forest: ForestId,
    node: NodeId,
}

impl NodeInfoStep {
    /// For the file at `path`.
    #[must_use]
    pub fn new(path: PathBuf, forest: ForestId, node: NodeId) -> Self {
        Self { path, forest, node }
    }

    /// What is to be written, and why the file cannot be kept, if so; `None` if it stands.
    fn due(&self) -> Result<Option<(String, Option<NodeInfoError>)>, Fault> {
        let fresh = |why| Ok(Some((node_info::fresh(&self.forest, &self.node), why)));
        match std::fs::read(&self.path) {
            Ok(found) => match node_info::updated(&String::from_utf8_lossy(&found), &self.forest, &self.node)
            {
                Ok(due) => Ok(due.map(|text| (text, None))),
                Err(err) => fresh(Some(err)),
            },
            Err(err) if err.kind() == io::ErrorKind::NotFound => fresh(None),
            Err(err) => Err(Fault::new(
                Reason::NodeInfoWrite,
                format!("failed to read {}: {err}", self.path.display()),
            )),
        }
    }

    fn compare(&self) -> Result<Look, Fault> {
        let path = self.path.display();
        let message = match self.due()? {
            None => return Ok(Look::Stands(path.to_string())),
            Some((_, Some(err))) => format!("{path} is {err}; it is to be written anew"),
            Some((_, None)) => format!("{path} does not say that this is {}", self.node),
        };
        Ok(Look::Differs(Fault::new(Reason::NodeInfoWrite, message)))
    }

    fn write(&self) -> Result<String, Fault> {
        let Some((text, unusable)) = self.due()? else {
            return Ok("nothing to do".to_owned());
        };
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(|err| {
            Fault::new(Reason::NodeInfoWrite, format!("failed to create {}: {err}", parent.display()))
        })?;
        put(&self.path, text.as_bytes(), 0o644)
            .map_err(|err| Fault::new(Reason::NodeInfoWrite, chain(&err)))?;
        let path = self.path.display();
        Ok(unusable.map_or_else(|| format!("wrote {path}"), |err| format!("wrote {path} anew: it was {err}")))
    }
}

impl Step for NodeInfoStep {
    fn look(&self, _seen: Seen) -> BoxFuture<'static, Looked> {
        let step = self.clone();
        off_thread(move || step.compare()).map(Looked::from).boxed()
    }

    fn act(&self, _seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        let step = self.clone();
        off_thread(move || step.write()).boxed()
    }
}

/// Step `data_dir`: JetStream's directory is there, and is one that this process may write into.
#[derive(Debug, Clone)]
pub struct DataDirStep {
    path: PathBuf,
}

impl DataDirStep {
    /// For `engine.data_dir`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl DataDirStep {
    fn compare(&self) -> Result<Look, Fault> {
        let path = self.path.display();
        match std::fs::metadata(&self.path) {
            Ok(meta) if !meta.is_dir() => Err(Fault::new(
                Reason::DataDir,
                format!("{path} is no directory, so it cannot hold JetStream's data"),
            )),
            Ok(_) => match rustix::fs::access(&self.path, rustix::fs::Access::WRITE_OK) {
                Ok(()) => Ok(Look::Stands(path.to_string())),
                Err(err) => Err(Fault::new(Reason::DataDir, format!("{path} cannot be written: {err}"))),
            },
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                Ok(Look::Differs(Fault::new(Reason::DataDir, format!("{path} is not there yet"))))
            }
            Err(err) => Err(Fault::new(Reason::DataDir, format!("failed to look at {path}: {err}"))),
        }
    }
}

impl Step for DataDirStep {
    fn look(&self, _seen: Seen) -> BoxFuture<'static, Looked> {
        let step = self.clone();
        off_thread(move || step.compare()).map(Looked::from).boxed()
    }

    fn act(&self, _seen: Seen) -> BoxFuture<'static, Result<String, Fault>> {
        let path = self.path.clone();
        let make = move || {
            private_dir(&path).map_err(|err| Fault::new(Reason::DataDir, chain(&err)))?;
            Ok(format!("made {}", path.display()))
        };
        off_thread(make).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look(step: &impl Step) -> Result<Look, Fault> {
        step.look(Seen::default()).await.result
    }

    #[tokio::test]
    async fn node_info_is_written_once_and_kept_with_the_keys_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/node-info.json");
        let step = NodeInfoStep::new(path.clone(), "grove".parse().unwrap(), "grove-node-1".parse().unwrap());
        assert!(matches!(look(&step).await, Ok(Look::Differs(_))));
        step.act(Seen::default()).await.unwrap();
        assert!(matches!(look(&step).await, Ok(Look::Stands(_))));
        std::fs::write(&path, r#"{"node_id":"other","zone":"fsn1"}"#).unwrap();
        step.act(Seen::default()).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"zone\": \"fsn1\"") && text.contains("\"node_id\": \"grove-node-1\""));
        std::fs::write(&path, "[]").unwrap();
        let said = step.act(Seen::default()).await.unwrap();
        assert!(said.ends_with("anew: it was no object but a list"), "{said}");
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_the_data_dir_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jetstream");
        let step = DataDirStep::new(path.clone());
        assert!(matches!(look(&step).await, Ok(Look::Differs(_))));
        step.act(Seen::default()).await.unwrap();
        assert!(matches!(look(&step).await, Ok(Look::Stands(_))));
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        let fault = look(&step).await.unwrap_err();
        assert_eq!(fault.reason, Reason::DataDir);
        assert!(fault.message.contains(&path.display().to_string()));
    }
}
