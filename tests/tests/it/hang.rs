//! A file system that stops answering under the registry.

use std::fs;

use forest_tests::hangfs::HangFs;
use forest_tests::nats;
use forest_tests::node::node;
use forest_tests::process;
use forest_tests::wait::{until, until_value};

#[test]
fn health_answers_while_the_registry_hangs_and_all_heals() {
    let backing = tempfile::tempdir().unwrap();
    let mountpoint = tempfile::tempdir().unwrap();
    let fs_ = HangFs::mount(backing.path(), mountpoint.path()).unwrap();
    let server = nats::servers().remove(0);
    let registry = mountpoint.path().join("registry.json");
    let mut grove = node("grove-node-1", &server).registry(&registry).start();
    grove.until_pass();
    let engine = grove.engine_pid();
    let before = process::threads(grove.agent_pid());

    fs_.hang();
    grove.until_reason("registry:entry", "registry_hung");
    // Many polls later there is still one thread that hangs, and every endpoint answers.
    let age = |seconds: u64| {
        until_value(
            "time goes by",
            || grove.health(),
            |health| health["uptime_seconds"].as_u64() >= Some(seconds),
        );
    };
    age(grove.health()["uptime_seconds"].as_u64().unwrap() + 5);
    for path in ["/health", "/livez", "/readyz", "/events"] {
        grove.until_code(path, 200);
    }
    // Had each poll left one, there were a dozen; some come and go with what is done at the same time.
    until_value("threads do not pile up", || process::threads(grove.agent_pid()), |now| *now <= before + 5);
    assert_eq!(grove.engine_pid(), engine);

    fs_.resume();
    grove.until_pass();
    fs::remove_file(backing.path().join("registry.json")).ok();
    // It also ends while the file system hangs.
    fs_.hang();
    grove.until_reason("registry:entry", "registry_hung");
    assert_eq!(grove.stop(), Some(0));
    until("nothing is left", || grove.processes().is_empty().then_some(()));
    fs_.resume();
}
