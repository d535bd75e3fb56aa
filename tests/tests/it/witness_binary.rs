//! A witness whose executable is fetched: as the engine's is, and by the node that has to run it.

use std::fs;

use forest_tests::nats;
use forest_tests::node::{Node, node};
use forest_tests::wait::until_value;
use sha2::{Digest, Sha256};

/// A lone node, and so one that keeps the witness, whose witness comes from a file.
fn grove(sha256: &str) -> Node {
    let mut grove = node("grove-node-1", &nats::server()).prepare();
    let (binary, url) = (grove.path("bin/witness"), nats::server());
    let lines = format!(
        "witness:\n  binary: {}\n  download: {{ url: \"file://{}\", sha256: \"{sha256}\" }}\n",
        binary.display(),
        url.display()
    );
    let config = grove.path("agent.yaml");
    let text = fs::read_to_string(&config).unwrap() + &lines;
    fs::write(config, text).unwrap();
    grove.start();
    grove
}

#[test]
fn it_is_fetched_and_runs() {
    let bytes = fs::read(nats::server()).unwrap();
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let grove = grove(&sha256);
    let health = grove.until_pass();
    assert_eq!(health["checks"]["nats:jetstream"][0]["observedValue"], 2, "engine and witness");
    assert_eq!(fs::read(grove.path("bin/witness")).unwrap(), bytes);
}

#[test]
fn another_file_than_was_asked_for_is_named_and_never_put_there() {
    let grove = grove(&"0".repeat(64));
    let check = until_value(
        "the wrong file is named",
        || grove.health()["checks"]["nats:jetstream"][0].clone(),
        |check| check["reason"] == "download_sha256",
    );
    let output = check["output"].as_str().unwrap();
    assert!(output.contains("sha256") && output.contains("witness.download"), "{output}");
    assert!(!grove.path("bin/witness").exists());
}
