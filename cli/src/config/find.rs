//! Which configuration file: the first that exists, in a fixed order; one that is named has to exist.

use std::path::{Path, PathBuf};

use crate::environment::Environment;

/// Where the configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file in use; `None`: there is none.
    pub path: Option<PathBuf>,
    /// Where it was looked for.
    pub searched: Vec<PathBuf>,
    /// Where a new one belongs.
    pub fresh: PathBuf,
}

/// Looks for the configuration: `named` by --config, else by $MORPHEUS_CONFIG, else in the usual places.
#[must_use]
pub fn find(named: Option<&Path>, env: &Environment) -> Found {
    let named = named.map(Path::to_owned).or_else(|| env.get("MORPHEUS_CONFIG").map(PathBuf::from));
    if let Some(path) = named {
        return Found { path: Some(path.clone()), searched: vec![path.clone()], fresh: path };
    }
    let xdg = env.xdg("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("morpheus/config.yaml"));
    let home = env.get("HOME").map(|home| Path::new(home).join(".morpheus/config.yaml"));
    let searched: Vec<PathBuf> = [Some(PathBuf::from("config.yaml")), home, xdg.clone()]
        .into_iter()
        .flatten()
        .chain([PathBuf::from("/etc/morpheus/config.yaml")])
        .collect();
    Found {
        path: searched.iter().find(|path| path.exists()).cloned(),
        searched,
        fresh: xdg.unwrap_or_else(|| PathBuf::from("config.yaml")),
    }
}
