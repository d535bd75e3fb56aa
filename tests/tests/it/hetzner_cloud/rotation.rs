//! Credentials of a forest in the cloud are replaced by a laptop that reaches registry and secrets through WebDAV, and
//! the nodes by their addresses.

use std::fs;

use forest_core::registry::Document as _;
use forest_core::secrets::{Record, Secrets};
use forest_tests::cloud::{Behind, Cloud};
use forest_tests::nats;
use forest_tests::traces::files_with;
use forest_tests::wait::until;

use super::{behind, fits, names, nothing_is_left};

fn record(cloud: &Cloud) -> Record {
    let text = fs::read(cloud.share().join("secrets/grove.json")).unwrap();
    Secrets::parse(&text).unwrap().record().unwrap().clone()
}

#[test]
fn a_forest_in_the_cloud_is_rotated_through_webdav() {
    let (cloud, laptop) = behind(Behind::Machine);
    let planted = laptop.plant(&nats::server(), &["medium", "--name", "grove", "--json"]);
    forest_tests::cloud::laptop::said(&mut { planted }).exits(0);
    until("the forest is well", || {
        (laptop.run(&["status", "grove", "--json"]).code == Some(0)).then_some(())
    });
    let old = record(&cloud);
    let said = laptop.run(&["rotate-secrets", "grove", "--json"]);
    let old_ones = [old.route.password.expose(), old.sys.password.expose()];
    for text in [&said.out, &said.err] {
        assert!(!old_ones.iter().any(|password| text.contains(password)), "{said:?}");
    }
    let told = said.exits(0).json();
    fits("action", &told);
    assert_eq!(names(&told), ["grove-node-1", "grove-node-2", "grove-node-3"]);
    let new = record(&cloud);
    assert_eq!((new.progress().epoch, new.is_rotating), (1, false));
    assert!(new.route != old.route && new.sys != old.sys);
    assert_eq!(files_with(&cloud.share(), &old_ones), [""; 0], "on the share");
    cloud.each_machine(|machine| {
        assert_eq!(files_with(machine.disk(), &old_ones), [""; 0], "on a node");
    });
    until("the forest is well", || {
        (laptop.run(&["status", "grove", "--json"]).code == Some(0)).then_some(())
    });
    laptop.run(&["teardown", "grove", "--yes"]).exits(0);
    nothing_is_left(&cloud);
}
