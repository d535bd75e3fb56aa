//! A forest of real agents and real engines, from nothing to nothing.

use forest_tests::cloud::laptop::said;
use forest_tests::cloud::{Behind, Cloud};
use forest_tests::nats;
use forest_tests::wait::until;

use super::{names, nothing_is_left};

#[test]
fn a_forest_is_planted_grown_and_torn_down() {
    let cloud = Cloud::new(Behind::Machine);
    let laptop = cloud.laptop();
    let planted = said(&mut laptop.plant(&nats::server(), &["--nodes", "3", "--name", "grove", "--json"]))
        .exits(0)
        .json();
    assert_eq!(names(&planted), ["grove-node-1", "grove-node-2", "grove-node-3"]);
    let status = laptop.run(&["status", "grove", "--json"]).exits(0).json();
    assert_eq!(status["status"], "pass");
    let grown = laptop.run(&["grow", "grove", "--nodes", "2", "--json"]).exits(0).json();
    assert_eq!(grown["total_nodes"], 5);
    let gone = laptop.run(&["teardown", "grove", "--yes", "--json"]).exits(0).json();
    assert_eq!(gone["nodes"].as_array().unwrap().len(), 5);
    nothing_is_left(&cloud);
    until("no machine is left", || (cloud.standing() == 0).then_some(()));
}
