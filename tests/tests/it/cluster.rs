//! Forests of several nodes on real servers: clustered from the first day, grown without a restart.

use std::path::Path;

use forest_tests::nats;
use forest_tests::node::{Node, node};
use forest_tests::wait::until_value;

/// The node `n` of a forest whose registry lies at `registry`.
fn member(n: usize, server: &Path, registry: &Path) -> Node {
    node(&format!("grove-node-{n}"), server).registry(registry).start()
}

/// Waits until every node passes and sees a meta group of `size`.
#[track_caller]
fn until_grown(nodes: &[Node], size: u64) {
    for node in nodes {
        until_value(
            &format!("{} is well in a group of {size}", node.id),
            || node.health(),
            |health| {
                health["status"] == "pass" && health["checks"]["nats:jetstream"][0]["observedValue"] == size
            },
        );
    }
}

#[test]
fn a_lone_node_is_clustered_with_a_witness_and_grows_to_three() {
    for server in nats::servers() {
        let share = tempfile::tempdir().unwrap();
        let registry = share.path().join("registry.json");
        let mut nodes = vec![member(1, &server, &registry)];
        until_grown(&nodes, 2);
        let founder = nodes[0].engine_pid();
        nodes.push(member(2, &server, &registry));
        until_grown(&nodes, 3);
        nodes.push(member(3, &server, &registry));
        until_grown(&nodes, 3);
        assert_eq!(nodes[0].engine_pid(), founder, "nothing was restarted");
        for node in &mut nodes {
            assert_eq!(node.stop(), Some(0));
            assert_eq!(node.processes(), []);
        }
    }
}
