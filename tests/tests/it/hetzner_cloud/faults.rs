//! What goes wrong on the way to a forest, and what is said of it: message, reason and exit code.

use std::path::Path;

use forest_core::reason::Reason;
use forest_tests::cloud::laptop::said;
use forest_tests::cloud::{Behind, Canned, Cloud, Laptop, Said};
use forest_tests::hetzner::{Fault, Rule};
use forest_tests::nats;
use serde_json::{Value, json};

use super::{behind, fits, nothing_costs, nothing_is_left, well};

/// What an agent reports whose share refuses the password, as its real report has it.
const WRONG_PASSWORD: [[&str; 4]; 4] = [
    [
        "engine:process",
        "fail",
        "engine_waits_for_registry",
        "the registry was never read, and no copy of it is kept",
    ],
    ["nats:server", "fail", "nats_unreachable", "the engine does not run"],
    [
        "registry:entry",
        "warn",
        "share_wrong_password",
        "held back by the step share: the user u12345 is refused",
    ],
    [
        "share:mounted",
        "warn",
        "share_wrong_password",
        "//box.test/backup/morpheus refuses the user u12345; put the right password into share.password_file",
    ],
];
/// What one reports that finds no engine.
const NO_ENGINE: [[&str; 4]; 2] = [
    ["engine:process", "fail", "download_failed", "file:///mnt/forest/bin/nats-server is not there"],
    ["nats:server", "fail", "nats_unreachable", "the engine does not run"],
];

/// `plant cloud small`
fn plant(laptop: &Laptop) -> Said {
    said(&mut laptop.plant(&nats::server(), &["small", "--name", "grove", "--json"]))
}

/// The same, given up after some seconds.
fn plant_in_vain(laptop: &Laptop, seconds: &str) -> Said {
    said(&mut laptop.plant(&nats::server(), &["small", "--name", "grove", "--json", "--timeout", seconds]))
}

/// The outcome, with nothing in it that differs from run to run.
#[track_caller]
fn shown(name: &str, said: &Said) {
    let json = said.json();
    let error = if json["error"].is_null() { &Value::Null } else { &json["error"] };
    fits(if json.get("forest_id").is_some() { "action" } else { "error" }, &json);
    if let Some(reason) = error["reason"].as_str() {
        assert!(Reason::of_code(reason).is_some(), "{reason} is no reason");
    }
    let text = format!("exit {}\n{json:#}", said.code.unwrap_or(-1));
    let home = ["laptop", "machine", "apache"].map(|kind| format!(r"/[a-z/]+/{kind}\.[A-Za-z0-9]+"));
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"http://127\.0\.0\.1:\d+", "http://API");
    // Asked for at once: any of them may be the first to be refused.
    settings.add_filter(r"v1/(server_types|locations|images|pricing) ", "v1/CATALOGUE ");
    settings.add_filter(r"(agent|server)-x86_64-[0-9a-f]{16}", "$1-x86_64-SHA");
    settings.add_filter(r"2001:db8:f0e5:[0-9a-f]+::1", "NODE");
    settings.add_filter(r"for (some seconds|half a minute|a minute|\d+ minutes)", "for TIME");
    for dir in &home {
        settings.add_filter(dir, "DIR");
    }
    settings.add_filter(r"/[^ ]*/target/debug/[^ ;]*", "PROGRAM");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// After the fault has passed, the same command goes on, and nothing is left in the end.
#[track_caller]
fn heals(cloud: &Cloud, laptop: &Laptop) {
    cloud.api.world().rules.clear();
    assert_eq!(plant(laptop).exits(0).json()["nodes"][0]["status"], "pass");
    laptop.run(&["teardown", "grove", "--yes"]).exits(0);
    nothing_is_left(cloud);
}

#[test]
fn what_the_api_refuses_before_anything_is_begun() {
    let (cloud, laptop) = well();
    for (name, rule) in [
        ("unauthorized", Rule::next(Fault::Refuse(401, "unauthorized")).always()),
        ("rate_limit", Rule::next(Fault::Refuse(429, "rate_limit_exceeded")).always()),
        ("fault", Rule::next(Fault::Page(503)).always()),
    ] {
        cloud.api.inject(rule);
        shown(name, &plant(&laptop));
        cloud.api.world().rules.clear();
        nothing_costs(&cloud);
    }
    assert!(!cloud.share().exists(), "nothing was written");
    // A burst passes unseen.
    cloud.api.inject(Rule::next(Fault::Page(502)).after(3).times(4));
    heals(&cloud, &laptop);
}

#[test]
fn what_the_api_refuses_in_the_middle_and_how_it_goes_on() {
    let (cloud, laptop) = well();
    for (name, rule) in [
        ("forbidden", Rule::on("POST", "/firewalls", Fault::Refuse(403, "forbidden")).always()),
        ("limit", Rule::on("POST", "/servers", Fault::Refuse(403, "resource_limit_exceeded")).always()),
        ("uniqueness", Rule::on("POST", "/servers", Fault::Refuse(409, "uniqueness_error")).always()),
    ] {
        cloud.api.inject(rule);
        shown(name, &plant(&laptop));
        cloud.api.world().rules.clear();
    }
    heals(&cloud, &laptop);
}

#[test]
fn what_is_sold_out_is_had_where_there_is_some() {
    let (cloud, laptop) = well();
    cloud.api.world().sell_out_but("ash");
    shown("sold_out", &plant(&laptop));
    cloud.api.world().stock.clear();
    cloud.api.world().sell_out_but("hel1");
    shown("sold_out_but_in_one_location", &plant(&laptop));
    let server = cloud.api.world().all("servers")[0].clone();
    assert_eq!(
        (&server["location"]["name"], &server["server_type"]["name"]),
        (&json!("hel1"), &json!("cx23"))
    );
}

#[test]
fn nodes_that_do_not_become_healthy_are_told_of_each_in_its_words() {
    let (cloud, laptop) = behind(Behind::Nothing);
    shown("never_boots", &plant_in_vain(&laptop, "1"));
    let ill = [
        ("wrong_password", Canned::at("share", &WRONG_PASSWORD)),
        ("stands_still", Canned::at("binaries", &NO_ENGINE)),
    ];
    for (name, canned) in ill {
        laptop.run(&["teardown", "grove", "--yes"]).exits(0);
        cloud.behind(Behind::Canned(canned));
        shown(name, &plant_in_vain(&laptop, "5"));
        assert_eq!(cloud.api.world().all("servers").len(), 1, "all stays to be looked into");
    }
    let status = laptop.run(&["status", "grove", "--json"]).exits(4).json();
    fits("status", &status);
    laptop.run(&["teardown", "grove", "--yes"]).exits(0);
    cloud.behind(Behind::Canned(Canned::well()));
    heals(&cloud, &laptop);
}

#[test]
fn what_can_be_known_costs_nothing() {
    let (cloud, laptop) = well();
    let config = std::fs::read_to_string(laptop.path("config.yaml")).unwrap();
    let with = |name: &str, from: &str, to: &str| {
        laptop.reconfigure(from, to);
        shown(name, &plant(&laptop));
        laptop.configure(&config);
        assert!(cloud.api.world().log.iter().all(|seen| seen.method == "GET"), "{name}");
        assert!(!cloud.share().exists(), "{name} writes to the share");
    };
    with("no_agent_for_the_architecture", "cx23", "cax11");
    with("no_such_type", "cx23", "cx24");
    with("no_token", "${API_TOKEN}", "");
    with("token_not_exported", "${API_TOKEN}", "${NO_SUCH_VARIABLE}");
    with("storage_wrong_password", "${CANARY}", "wrong");
    with("storage_unreachable", "8480", "8481");
    laptop.configure(&config);
    std::fs::remove_file(laptop.path(".ssh/id_ed25519.pub")).unwrap();
    shown("no_key", &plant(&laptop));
    cloud.without_ipv6().unwrap();
    shown("no_ipv6", &plant(&laptop));
    nothing_costs(&cloud);
}

#[test]
fn somebody_elses_server_of_the_same_name_is_left_alone() {
    let (cloud, laptop) = well();
    cloud.api.put_server("grove-node-1");
    shown("name_taken", &plant(&laptop));
    assert!(!cloud.share().exists());
    assert_eq!(cloud.api.world().all("servers").len(), 1);
}

/// An engine for no machine: what is refused is looked at here, not sent.
#[test]
fn a_program_that_is_none_is_refused_before_anything_costs() {
    let (cloud, laptop) = well();
    let planted = said(&mut laptop.plant(Path::new("/etc/passwd"), &["small", "--json"])).exits(1).json();
    assert_eq!(planted["error"]["reason"], "program_architecture");
    nothing_costs(&cloud);
}
