//! Nodes that are dead for good are forgotten, also where the quorum went with them.

use std::collections::HashSet;
use std::time::Instant;

use async_nats::jetstream::stream;
use forest_tests::client::Client;

use super::super::Forest;
use super::super::growth::{config, numbers};

const MESSAGES: u64 = 500;

#[test]
#[ignore = "takes minutes: make leave"]
fn two_nodes_whose_founder_is_dead_with_the_witness_are_rescued() {
    super::each(|server| {
        let mut forest = Forest::grown(server, 2);
        let record = forest.record();
        let (founder, keeper) = (record["founder"].as_str().unwrap(), &record["witness"]["node"]);
        assert_eq!(keeper, founder);
        let dies = forest.nodes.iter().position(|node| node.id == founder).unwrap();
        let stays = 1 - dies;
        let id = forest.nodes[stays].id.clone();
        let client = Client::connect(&[forest.nodes[stays].client_address()]);
        client.run(|js| async move {
            let tags = vec![format!("node:{id}")];
            let placement = stream::Placement { tags, ..Default::default() };
            js.create_stream(stream::Config { placement: Some(placement), ..config("mine", 1) })
                .await
                .unwrap();
            js.create_stream(config("ours", 2)).await.unwrap();
            for number in 1..=MESSAGES {
                for subject in ["mine.x", "ours.x"] {
                    js.publish(subject, number.to_string().into()).await.unwrap().await.unwrap();
                }
            }
        });
        forest.kill_host(dies);
        let dead = Instant::now();
        let check = forest.nodes[stays].until_reason("nats:jetstream", "quorum_lost");
        println!("{}: quorum_lost said after {:.1?}: {check}", server.display(), dead.elapsed());
        let refused = forest.nodes[stays].run(&["forget", founder, "--json"]);
        assert_eq!(refused.status.code(), Some(1));
        let said: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
        assert_eq!(said["error"]["reason"], "quorum_lost", "{said:#}");
        assert!(said["error"]["message"].as_str().unwrap().contains("--rescue"), "{said:#}");
        let begun = Instant::now();
        let output = forest.nodes[stays].run(&["forget", founder, "--rescue", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{}: rescued after {:.1?}: {told}", server.display(), begun.elapsed());
        drop(forest.nodes.remove(dies));
        forest.until_well();
        let all: HashSet<u64> = (1..=MESSAGES).collect();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        forest_tests::schema::check("forget", &told);
        // An old server does not go on with half of a stream's replicas: what there is of it is left as it is.
        let old = told["rescued"] == "stand_in";
        let leaderless = if old { serde_json::json!(["ours"]) } else { serde_json::json!([]) };
        assert_eq!(told["leaderless"], leaderless, "{told:#}");
        let files = forest.nodes[0].path("jetstream/jetstream/$G/streams/ours/msgs");
        let bytes: u64 = files.read_dir().unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes > MESSAGES, "{bytes} bytes in {}", files.display());
        for name in if old { &["mine"][..] } else { &["mine", "ours"] } {
            let name = *name;
            forest_tests::wait::until(&format!("{name} has a leader"), || {
                client.run(|js| async move {
                    js.get_stream(name).await.ok()?.cached_info().cluster.clone()?.leader
                })
            });
            assert_eq!(client.run(|js| async move { numbers(&js, name).await }), all, "{name}");
        }
        // It goes on as any forest does.
        forest.plant_as("grove-node-3");
        forest.until_well();
        forest.stop();
    });
}
