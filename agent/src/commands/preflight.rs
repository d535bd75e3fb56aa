//! What `check` asks of the machine before anything is done: may what is missing be made, and are the ports free?
//! Looks, and touches nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use forest_core::reason::Reason;
use rustix::fs::Access;

use crate::driver::Look;
use crate::engine::ports::{Holder, holder};
use crate::fault::{Fault, SUDO};
use crate::settings::Settings;

/// state_dir and runtime_dir.
pub(super) fn own_dirs(settings: &Settings) -> Result<Look, Fault> {
    for dir in [&settings.state_dir, &settings.runtime_dir] {
        can_make(dir, Reason::StateDir)?;
    }
    Ok(Look::Stands(settings.state_dir.display().to_string()))
}

/// May files be made in `dir`, which may be missing itself? Then its nearest parent that is there counts.
pub(super) fn can_make(dir: &Path, reason: Reason) -> Result<(), Fault> {
    let there = dir.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let path = there.display();
    if !there.is_dir() {
        return Err(Fault::new(
            reason,
            format!("{path} is no directory, so {} cannot be made", dir.display()),
        ));
    }
    writable(there, reason)
}

/// The directory that the registry lies in.
pub(super) fn registry_dir(dir: &Path) -> Result<(), Fault> {
    writable(dir, Reason::RegistryReadOnly)
}

fn writable(dir: &Path, reason: Reason) -> Result<(), Fault> {
    rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(|err| {
        let fault = Fault::new(reason, format!("{} cannot be written: {err}", dir.display()));
        if err == rustix::io::Errno::ACCESS { fault.advise(SUDO) } else { fault }
    })
}

/// Are the ports of `listen` free, or held by children that an earlier agent left?
pub(super) fn ports(settings: &Settings) -> Result<(), Fault> {
    let listen = settings.listen;
    let ours = children(settings);
    for (key, at) in [
        ("client", listen.client),
        ("cluster", listen.cluster),
        ("monitor", listen.monitor),
        ("health", listen.health),
    ] {
        match holder(Some(at.ip()), at.port()) {
            Some(Holder::Process { pid, .. }) if ours.contains(&pid) => {}
            Some(holder) => return Err(taken(key, at, &holder)),
            None => {}
        }
    }
    Ok(())
}

fn taken(key: &str, at: SocketAddr, holder: &Holder) -> Fault {
    Fault::new(Reason::EnginePortTaken, format!("{at} (listen.{key}) is taken by {holder}"))
}

/// The pids that the last agent recorded of its children.
fn children(settings: &Settings) -> BTreeSet<u32> {
    let text = std::fs::read(settings.runtime_dir.join("children.json")).unwrap_or_default();
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let children = record["children"].as_object().into_iter().flat_map(|children| children.values());
    children.filter_map(|child| u32::try_from(child["process"]["pid"].as_u64()?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_way_of_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(can_make(&dir.path().join("a/b/c"), Reason::DataDir), Ok(()));
        std::fs::write(dir.path().join("a"), "").unwrap();
        let fault = can_make(&dir.path().join("a/b/c"), Reason::DataDir).unwrap_err();
        assert!(fault.message.starts_with(&dir.path().join("a").display().to_string()), "{fault}");
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_its_holder() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let text = format!("forest_id: grove\nnode_id: n\nlisten: {{ client: \"{at}\" }}\n");
        let settings = Settings::parse(&text, Path::new("agent.yaml")).unwrap();
        let fault = ports(&settings).unwrap_err();
        assert_eq!(fault.reason, Reason::EnginePortTaken);
        assert!(fault.message.contains(&format!("pid {}", std::process::id())), "{fault}");
    }
}
