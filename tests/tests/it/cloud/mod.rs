//! Servers of a forest made and deleted against the fake of Hetzner Cloud: cut short after each call, with faults at
//! each call, with stock that runs out, by two at once. In the end all is there once, or nothing is left.

mod forest;

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use forest_core::id::NodeId;
use forest_core::reason::Reason;
use forest_tests::hetzner::{FakeHetzner, Fault, Rule, TOKEN};
use morpheus::cloud::fell::{drop_keys, fell};
use morpheus::cloud::labels::{Mark, rules};
use morpheus::cloud::offers::{Catalogue, Offer, offers};
use morpheus::cloud::plan::{PublicKey, Wish};
use morpheus::cloud::raise::Raising;
use morpheus::cloud::record::Standing;
use morpheus::config::Machine;
use morpheus::failure::Failure;
use morpheus::hetzner::{Access, Hetzner, Timing};
use morpheus::progress::Progress;

const LONG: Duration = Duration::from_secs(60);

fn client(fake: &FakeHetzner) -> Hetzner {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let brief = Duration::from_millis(2);
    let timing = Timing { request: LONG, wait: brief, longest_wait: brief, poll: brief, locked_wait: brief };
    Hetzner::new(Access::new(&fake.endpoint(), TOKEN.into()).unwrap(), timing).unwrap()
}

fn mark(planting: &str) -> Mark {
    Mark { forest: "grove".parse().unwrap(), planting: planting.to_owned() }
}

fn wish(nodes: usize) -> Wish {
    Wish {
        mark: mark("ours"),
        nodes: (1..=nodes).map(|n| format!("grove-node-{n}").parse().unwrap()).collect(),
        key: Some(PublicKey { name: "laptop".to_owned(), text: "ssh-ed25519 AAAA me@here".to_owned() }),
        rules: rules(),
    }
}

/// What can be had, as it is before anything happens.
async fn choice() -> Vec<Offer> {
    let fake = FakeHetzner::start();
    let api = client(&fake);
    let catalogue = Catalogue::fetch(&api, "debian-12").await.unwrap();
    let machine = Machine {
        server_type: Some("cx23".to_owned()),
        fallback: vec!["cpx22".to_owned()],
        ..Machine::default()
    };
    offers(&machine, &catalogue, "2026-11-22T20:16:55Z".parse().unwrap()).unwrap()
}

async fn raise(fake: &FakeHetzner, wish: &Wish, offers: &[Offer]) -> Result<Vec<String>, Failure> {
    let api = client(fake);
    let user_data = |node: &NodeId| format!("#cloud-config\n# {node}\n");
    let standing = || Ok(Standing::Wanted);
    let (user_data, standing) = (&user_data, &standing);
    let raising = Raising { api: &api, wish, offers, user_data, ipv4: false, standing };
    let servers = raising.run(LONG, &mut Progress::silent()).await?;
    Ok(servers
        .into_iter()
        .map(|server| format!("{} {} {}", server.name, server.server_type.name, server.location.name))
        .collect())
}

async fn down(fake: &FakeHetzner) -> Result<(), Failure> {
    let api = client(fake);
    fell(&api, &mark("ours"), LONG).await?;
    Ok(drop_keys(&api).await?)
}

#[track_caller]
fn is_whole(fake: &FakeHetzner, nodes: usize) {
    let world = fake.world();
    let due: BTreeSet<String> = (1..=nodes).map(|n| format!("grove-node-{n}")).collect();
    assert_eq!(world.names("servers"), due);
    for server in world.all("servers") {
        assert_eq!(server["status"], "running", "{server:#}");
        assert_eq!(server["labels"]["node"], server["name"]);
        assert_eq!(server["public_net"]["ipv4"], serde_json::Value::Null);
    }
    assert_eq!(world.names("firewalls"), BTreeSet::from(["morpheus-grove".to_owned()]));
    assert_eq!(world.names("placement_groups"), BTreeSet::from(["morpheus-grove-1".to_owned()]));
    assert_eq!(world.all("placement_groups")[0]["servers"].as_array().unwrap().len(), nodes);
    assert_eq!(world.all("ssh_keys").len(), 1);
}

#[track_caller]
fn is_empty(fake: &FakeHetzner) {
    let world = fake.world();
    let left = ["servers", "firewalls", "placement_groups", "ssh_keys"].map(|kind| world.names(kind));
    assert_eq!(left, [const { BTreeSet::new() }; 4]);
}

/// Runs `work` until the call number `n` was carried out, then drops it as `kill -9` does; `false`: it was done
/// before that.
async fn killed_after(fake: &FakeHetzner, n: u64, work: impl Future) -> bool {
    let before = fake.world().requests;
    let skip = usize::try_from(n).unwrap();
    fake.inject(Rule::next(Fault::HangAfter).after(skip));
    fake.inject(Rule::next(Fault::Hang).after(skip).always());
    let reached = async {
        while fake.world().requests <= before + n {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let killed = tokio::select! {
        _ = work => false,
        () = reached => true,
    };
    fake.world().rules.clear();
    killed
}

#[tokio::test]
async fn three_nodes_come_and_go() {
    let (fake, offers) = (FakeHetzner::start(), choice().await);
    let made = raise(&fake, &wish(3), &offers).await.unwrap();
    assert_eq!(made, [1, 2, 3].map(|n| format!("grove-node-{n} cx23 fsn1")));
    is_whole(&fake, 3);
    let before = fake.world().requests;
    raise(&fake, &wish(3), &offers).await.unwrap();
    assert_eq!(fake.world().requests, before + 4, "nothing to do is seen by one look");
    for seen in fake.world().log.iter().filter(|seen| seen.method == "POST" && seen.path == "/servers") {
        assert_eq!(
            seen.body["user_data"],
            format!("#cloud-config\n# {}\n", seen.body["name"].as_str().unwrap())
        );
        assert!(seen.body.get("datacenter").is_none(), "gone from the API");
    }
    down(&fake).await.unwrap();
    is_empty(&fake);
    down(&fake).await.unwrap();
}

#[tokio::test]
async fn a_laptop_killed_after_any_call_finishes_when_asked_again() {
    let offers = choice().await;
    let mut calls = 0;
    loop {
        let fake = FakeHetzner::start();
        let killed = killed_after(&fake, calls, raise(&fake, &wish(3), &offers)).await;
        raise(&fake, &wish(3), &offers).await.unwrap();
        is_whole(&fake, 3);
        let made = fake.world().log.iter().filter(|seen| seen.method == "DELETE").count();
        assert_eq!(made, 0, "nothing has to be undone");
        if !killed {
            break;
        }
        calls += 1;
    }
    assert!(calls >= 10, "{calls} calls");
}

#[tokio::test]
async fn a_teardown_killed_after_any_call_finishes_when_asked_again() {
    let offers = choice().await;
    let mut calls = 0;
    loop {
        let fake = FakeHetzner::start();
        raise(&fake, &wish(3), &offers).await.unwrap();
        let killed = killed_after(&fake, calls, down(&fake)).await;
        down(&fake).await.unwrap();
        is_empty(&fake);
        if !killed {
            break;
        }
        calls += 1;
    }
    assert!(calls >= 10, "{calls} calls");
}

#[tokio::test]
async fn an_answer_lost_at_any_call_changes_nothing_in_the_end() {
    let offers = choice().await;
    for call in 0.. {
        let fake = FakeHetzner::start();
        fake.inject(Rule::next(Fault::Lost).after(call));
        raise(&fake, &wish(1), &offers).await.unwrap();
        is_whole(&fake, 1);
        down(&fake).await.unwrap();
        is_empty(&fake);
        if fake.world().rules[0].times > 0 {
            assert!(call > 15, "{call} calls");
            break;
        }
    }
}

#[tokio::test]
async fn what_is_sold_out_is_had_elsewhere() {
    let (fake, offers) = (FakeHetzner::start(), choice().await);
    fake.world().sell_out_but("hel1");
    let made = raise(&fake, &wish(3), &offers).await.unwrap();
    assert_eq!(made, [1, 2, 3].map(|n| format!("grove-node-{n} cx23 hel1")));
    is_whole(&fake, 3);

    // One is left of the first choice, and its neighbour in the placement has no room.
    let fake = FakeHetzner::start();
    fake.world().stock.insert(("cx23".to_owned(), "fsn1".to_owned()), 1);
    let mut made = raise(&fake, &wish(2), &offers).await.unwrap();
    made.iter_mut().for_each(|text| *text = text.split_once(' ').unwrap().1.to_owned());
    made.sort();
    assert_eq!(made, ["cpx22 fsn1", "cx23 fsn1"]);

    let fake = FakeHetzner::start();
    fake.world().sell_out_but("ash");
    let err = raise(&fake, &wish(3), &offers).await.unwrap_err();
    assert_eq!(err.reason, Reason::HetznerUnavailable);
    assert!(err.message.contains("every machine that was asked for is sold out"), "{err}");
    down(&fake).await.unwrap();
    is_empty(&fake);
}

#[tokio::test]
async fn a_server_whose_making_fails_is_replaced() {
    let offers = choice().await;
    for (code, due) in [("resource_unavailable", "cpx22"), ("server_error", "cx23")] {
        let fake = FakeHetzner::start();
        fake.world().failing_actions.push(("create_server", code));
        let made = raise(&fake, &wish(1), &offers).await.unwrap();
        assert_eq!(made, [format!("grove-node-1 {due} fsn1")]);
        is_whole(&fake, 1);
    }
}

#[tokio::test]
async fn two_laptops_at_the_same_moment_make_it_once() {
    let (fake, offers) = (FakeHetzner::start(), choice().await);
    let wish = wish(3);
    let (one, other) = tokio::join!(raise(&fake, &wish, &offers), raise(&fake, &wish, &offers));
    assert_eq!(one.unwrap(), other.unwrap());
    is_whole(&fake, 3);
    let (one, other) = tokio::join!(down(&fake), down(&fake));
    one.unwrap();
    other.unwrap();
    is_empty(&fake);
}

#[tokio::test]
async fn a_limit_is_said_and_leaves_what_there_is() {
    let (fake, offers) = (FakeHetzner::start(), choice().await);
    fake.world().server_limit = 2;
    let err = raise(&fake, &wish(3), &offers).await.unwrap_err();
    assert_eq!(err.reason, Reason::HetznerLimit);
    assert!(err.message.contains("Limits"), "{err}");
    assert_eq!(fake.world().all("servers").len(), 2);
    fake.world().server_limit = 3;
    raise(&fake, &wish(3), &offers).await.unwrap();
    is_whole(&fake, 3);
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let (fake, offers) = (FakeHetzner::start(), choice().await);
    let theirs = Wish { mark: mark("theirs"), ..wish(1) };
    raise(&fake, &theirs, &offers).await.unwrap();
    let err = raise(&fake, &wish(1), &offers).await.unwrap_err();
    assert_eq!(err.reason, Reason::HetznerNameTaken);
    assert!(err.message.contains("another forest grove: grove-node-1, morpheus-grove"), "{err}");
    down(&fake).await.unwrap();
    is_whole(&fake, 1);
}
