use std::fs;

use tempfile::TempDir;

use super::*;

/// An ELF header of 64 bits and nothing else: an executable for this ELF machine.
fn executable(machine: u8) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (bytes[16], bytes[18], bytes[20], bytes[52]) = (2, machine, 1, 64);
    bytes
}

const X86: u8 = 62;
const ARM: u8 = 183;

fn put(dir: &TempDir, name: &str, machine: u8) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, executable(machine)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn wanted(architecture: Architecture) -> Wanted {
    Wanted { architecture, image: "debian-12".to_owned() }
}

fn find(dir: &TempDir, engine: &Engine, architecture: Architecture) -> Result<Supplies, Failure> {
    let env = Environment::from([("PATH", dir.path().to_str().unwrap())]);
    let args =
        args::Programs { agent_binary: Some(dir.path().join("forest-agent")), ..args::Programs::default() };
    Supplies::find(&args, engine, wanted(architecture), &env)
}

#[test]
fn what_is_for_the_nodes_machines_is_found_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "forest-agent", ARM);
    put(&dir, "nats-server-aarch64", ARM);
    put(&dir, "nats-server", X86);
    let programs = find(&dir, &Engine::default(), Architecture::Arm).unwrap().record();
    assert!(programs.engine.file.starts_with("nats-server-aarch64-"), "{programs:?}");
    assert_eq!(programs.engine.file.len(), "nats-server-aarch64-".len() + PREFIX);
    assert!(programs.engine.sha256.starts_with(programs.engine.file.rsplit('-').next().unwrap()));
    let err = find(&dir, &Engine::default(), Architecture::X86).unwrap_err();
    assert_eq!(err.reason, Reason::ProgramArchitecture);
    assert!(err.message.contains("is for aarch64, and the nodes are x86_64 machines"), "{err}");
}

#[test]
fn what_is_missing_is_told_with_what_was_seen_and_a_way_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "forest-agent", ARM);
    put(&dir, "nats-server", X86);
    let err = find(&dir, &Engine::default(), Architecture::Arm).unwrap_err();
    assert_eq!(err.reason, Reason::ProgramArchitecture);
    for part in ["there is no nats-server for them here", "is for x86_64", "nats-server-aarch64"] {
        assert!(err.message.contains(part), "{err}");
    }
    let engine = Engine { kind: Some(EngineKind::Nimsforest), ..Engine::default() };
    assert_eq!(find(&dir, &engine, Architecture::Arm).unwrap_err().reason, Reason::ProgramMissing);
}

#[test]
fn nimsforest_brings_a_nats_server_for_the_witness() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["forest-agent", "nats-server", "nims"] {
        put(&dir, name, X86);
    }
    let engine = Engine { binary: Some(dir.path().join("nims")), ..Engine::default() };
    let programs = find(&dir, &engine, Architecture::X86).unwrap().record();
    assert_eq!(programs.engine_kind, EngineKind::Nimsforest);
    assert!(programs.engine.file.starts_with("forest-x86_64-"), "{programs:?}");
    assert!(programs.witness.unwrap().file.starts_with("nats-server-x86_64-"));
}

#[test]
fn a_program_too_new_for_the_image_is_refused() {
    // Built here, it needs something; this image has less than any Rust program takes.
    let own = fs::read(std::env::current_exe().unwrap()).unwrap();
    let needs = elf::needs(&own).unwrap();
    let Some(glibc) = needs.glibc else { return };
    let wanted = |image: &str| Wanted { architecture: needs.architecture, image: image.to_owned() };
    assert_eq!(check("x", "/x", &own, &wanted("an-image-of-tomorrow")), Ok(()));
    if elf::glibc_of_image("debian-11").is_some_and(|there| there < glibc) {
        let err = check("x", "/x", &own, &wanted("debian-11")).unwrap_err();
        assert_eq!(err.reason, Reason::ProgramGlibc);
        assert!(err.message.contains(&format!("needs glibc {glibc}, and debian-11 has 2.31")), "{err}");
    }
}
