//! Where there is no nft, or a kernel without it: a reason, and a node that serves all the same.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use forest_tests::nats;
use forest_tests::node::node;
use forest_tests::wait::until_value;
use serde_json::Value;

#[test]
fn without_nft_the_reason_says_how_to_get_it() {
    let grove =
        node("grove-node-1", &nats::server()).firewall("{ manage: true }").env("PATH", "/nowhere").prepare();
    let answer: Value = serde_json::from_slice(&grove.run(&["check", "--json"]).stdout).unwrap();
    let steps = answer["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["name"] == "firewall").unwrap();
    assert_eq!((&step["status"], &step["reason"]), (&"would_fail".into(), &"nft_missing".into()));
    assert_eq!(step["detail"], "nft is not installed; apt-get install nftables");
}

/// What nft 1.0.6 answered on a kernel whose nf_tables has no family inet.
const NO_INET: &str = "#!/bin/sh
case \"$*\" in
    *-f*) echo 'internal:0:0-0: Error: Could not process rule: Operation not supported' >&2; exit 1 ;;
    *) echo 'Error: No such file or directory' >&2; exit 1 ;;
esac
";

#[test]
fn a_kernel_without_the_family_is_said_and_the_engine_runs() {
    let bin = tempfile::tempdir().unwrap();
    let nft = bin.path().join("nft");
    fs::write(&nft, NO_INET).unwrap();
    fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).unwrap();
    // Nothing but the nft of this test is found.
    let grove = node("grove-node-1", &nats::server())
        .firewall("{ manage: true }")
        .env("PATH", &bin.path().display().to_string())
        .start();
    let check = grove.until_reason("firewall:rules", "nft_unsupported");
    assert_eq!(check["status"], "warn");
    assert!(check["output"].as_str().unwrap().contains("Operation not supported"), "{check}");
    let health = until_value("the engine serves", || grove.health(), |health| health["status"] == "warn");
    assert_eq!(health["step"], "firewall");
}
