//! A nats-server with the right cluster name and no credentials knocks at a forest.

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use forest_tests::node::node;
use forest_tests::process::signal;
use forest_tests::wait::until;
use forest_tests::{http, nats};
use rustix::process::Signal;

#[test]
fn a_server_without_credentials_stays_out() {
    for server in nats::servers() {
        let mut grove = node("grove-node-1", &server).start();
        grove.until_pass();
        let config = grove.path("rogue.conf");
        let rogue_ip = "127.254.254.254";
        let text = format!(
            "server_name: rogue\nlisten: \"{rogue_ip}:4222\"\nhttp: \"{rogue_ip}:8222\"\n\
             jetstream {{ store_dir: \"{store}\" }}\n\
             cluster {{ name: grove, listen: \"{rogue_ip}:6222\", routes: [\"nats://{ip}:6222\", \"nats://{ip}:6223\"] }}\n",
            store = grove.path("rogue").display(),
            ip = grove.ip,
        );
        fs::write(&config, text).unwrap();
        let log = grove.path("rogue.log");
        let output = fs::File::create(&log).unwrap();
        let mut rogue =
            Command::new(&server).arg("-c").arg(&config).stderr(output).stdout(Stdio::null()).spawn();
        let rogue = rogue.as_mut().unwrap();
        // By the engine and by the witness.
        until("it is turned away at both ports", || {
            let said = fs::read_to_string(&log).unwrap().to_lowercase();
            (said.matches("authorization violation").count() >= 2).then_some(())
        });
        let id = http::get((rogue_ip.parse::<IpAddr>().unwrap(), 8222).into(), "/varz").unwrap().json();
        let id = id["server_id"].as_str().unwrap().to_owned();
        let routes = http::get((grove.ip, 8222).into(), "/routez").unwrap().body;
        let meta = http::get((grove.ip, 8222).into(), "/jsz").unwrap().json();
        signal(rogue.id(), Signal::KILL);
        rogue.wait().unwrap();
        assert!(!routes.contains(&id), "{routes}");
        assert_eq!(meta["meta_cluster"]["cluster_size"], 2, "the node and its witness: {meta:#}");
        grove.until_pass();
        assert_eq!(grove.stop(), Some(0));
        assert_eq!(grove.processes(), []);
    }
}
