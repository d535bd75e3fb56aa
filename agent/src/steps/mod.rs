//! The steps of `run`, each a look and an act; [`all`] puts them together for the driver and for `check`.

pub mod address;
mod binaries;
mod disk;
mod engine;
mod firewall;
mod kept;
mod leave;
mod local;
mod queue;
mod registry;
mod secrets;
mod share;
mod take_over;
mod witness;

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use forest_core::registry::Limits;
use sha2::{Digest, Sha256};

use crate::driver::{Step, StepName, Wants};
use crate::firewall::tools::System;
use crate::settings::Settings;
use crate::share::lane::Lane;

pub use address::AddressStep;
pub use binaries::BinariesStep;
pub use engine::EngineStep;
pub use firewall::{FirewallStep, take_out as take_out_firewall};
pub use kept::Kept;
pub use leave::LeaveStep;
pub use local::{DataDirStep, NodeInfoStep};
pub use queue::path as queue_of;
pub use registry::{Claimed, Registrar, RegistryStep, read_fault};
pub use secrets::{SecretsKeeper, SecretsStep, kept as kept_secrets};
pub use share::DirStep;
pub use take_over::TakeOverStep;
pub use witness::WitnessStep;

/// Steps in their order.
pub type Steps = Vec<(StepName, Arc<dyn Step>)>;

/// Every step for this node, in order. What they want of the children goes to `wants`; `path` is where programs
/// are looked up. Beside them the lane in which the registry is updated.
#[must_use]
pub fn all(
    settings: &Arc<Settings>,
    limits: Limits,
    kept: Kept,
    wants: &Wants,
    path: Option<&OsStr>,
) -> (Steps, Arc<Lane>) {
    let lane = Arc::new(Lane::new("registry-read"));
    let registrar = Registrar::new(Arc::clone(settings), limits, Arc::clone(&lane));
    let keeper = SecretsKeeper::new(registrar.clone());
    let binary = crate::cluster::witness::binary(settings, path);
    let has_witness = binary.is_ok();
    let witness = WitnessStep::new(Arc::clone(settings), binary, keeper.clone(), wants.clone());
    let engine = EngineStep::new(Arc::clone(settings), has_witness, keeper.clone(), wants.clone());
    let leave = LeaveStep::new(Arc::clone(settings), registrar.clone(), keeper.clone());
    let firewall = FirewallStep::new(Arc::clone(settings), Arc::new(System::new(path)));
    let (forest, node) = (settings.forest.clone(), settings.node.clone());
    let updates = Arc::clone(&registrar.updates);
    let steps: Steps = vec![
        (StepName::Address, Arc::new(AddressStep::new(settings.address))),
        (StepName::Share, Arc::new(DirStep::new(settings, lane))),
        (StepName::NodeInfo, Arc::new(NodeInfoStep::new(settings.node_info.clone(), forest, node))),
        (StepName::DataDir, Arc::new(DataDirStep::new(settings.engine.data_dir.clone()))),
        (StepName::Binaries, Arc::new(BinariesStep::new(settings))),
        (StepName::Secrets, Arc::new(SecretsStep::new(keeper))),
        (StepName::Registry, Arc::new(RegistryStep::new(registrar, kept))),
        (StepName::Firewall, Arc::new(firewall)),
        (StepName::Leave, Arc::new(leave)),
        (StepName::TakeOver, Arc::new(TakeOverStep::new(settings))),
        (StepName::Witness, Arc::new(witness)),
        (StepName::Engine, Arc::new(engine)),
    ];
    (steps, updates)
}

/// What tells this installation from another with the same id: a digest of machine-id and state_dir. A machine
/// that was built anew has another machine-id; two agents on one machine have different state directories. Where
/// there is no machine-id the id of the installation counts too, once the daemon has made it.
#[must_use]
pub fn instance(state_dir: &Path) -> String {
    digest(&std::fs::read_to_string("/etc/machine-id").unwrap_or_default(), state_dir)
}

fn digest(machine: &str, state_dir: &Path) -> String {
    let machine = machine.trim();
    let mut digest = Sha256::new()
        .chain_update(machine)
        .chain_update([0])
        .chain_update(state_dir.as_os_str().as_encoded_bytes());
    if matches!(machine, "" | "uninitialized")
        && let Ok(Some(id)) = crate::instance::of(state_dir, false)
    {
        digest.update([0]);
        digest.update(id);
    }
    let digest = digest.finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_stable_digest_of_its_state_dir() {
        let one = instance(Path::new("/var/lib/forest-agent"));
        assert_eq!(one.len(), 16);
        assert_eq!(one, instance(Path::new("/var/lib/forest-agent")));
        assert_ne!(one, instance(Path::new("/var/lib/other")));
    }

    #[test]
    fn without_a_machine_id_the_installations_own_counts() {
        let dir = tempfile::tempdir().unwrap();
        for machine in ["", "\n", "uninitialized\n", "3d1219c7c4c5404aaa1f6d2a48adfda4\n"] {
            let _ = std::fs::remove_file(dir.path().join("instance"));
            let without = digest(machine, dir.path());
            crate::instance::of(dir.path(), true).unwrap();
            let with = digest(machine, dir.path());
            assert_eq!(with == without, machine.len() > 20, "{machine:?}");
        }
    }
}
