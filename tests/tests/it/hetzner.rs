//! The client of Hetzner Cloud against the fake: what it does with every kind of answer, and with none.

use std::time::{Duration, Instant};

use forest_core::reason::Reason;
use forest_tests::hetzner::{FakeHetzner, Fault, Rule, TOKEN};
use morpheus::failure::Failure;
use morpheus::hetzner::wire::{
    Action, FirewallRef, Labels, NewPublicNet, NewServer, Rule as Opening, ServerStatus,
};
use morpheus::hetzner::{Access, ApiError, Code, Hetzner, Timing};

const LONG: Duration = Duration::from_secs(60);

fn timing() -> Timing {
    let brief = Duration::from_millis(5);
    // A request that hangs is told from one on a busy machine.
    Timing { request: LONG, wait: brief, longest_wait: brief, poll: brief, locked_wait: brief }
}

fn client_of(endpoint: &str, token: &str, timing: Timing) -> Hetzner {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Hetzner::new(Access::new(endpoint, token.into()).unwrap(), timing).unwrap()
}

fn client(fake: &FakeHetzner) -> Hetzner {
    client_of(&fake.endpoint(), TOKEN, timing())
}

fn labels() -> Labels {
    [("managed-by", "morpheus"), ("forest", "grove")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

fn server(name: &str) -> NewServer {
    NewServer {
        name: name.to_owned(),
        server_type: "cx23".to_owned(),
        location: "fsn1".to_owned(),
        image: 1000,
        ssh_keys: Vec::new(),
        user_data: "#cloud-config\n".to_owned(),
        labels: labels(),
        firewalls: vec![FirewallRef { firewall: 1 }],
        placement_group: None,
        public_net: NewPublicNet { enable_ipv4: false, enable_ipv6: true },
        start_after_create: true,
    }
}

#[track_caller]
fn reason<T: std::fmt::Debug>(result: Result<T, ApiError>) -> Reason {
    result.unwrap_err().reason()
}

#[tokio::test]
async fn a_server_is_made_found_and_deleted() {
    let fake = FakeHetzner::start();
    let client = client(&fake);
    let created = client.create_server(&server("grove-node-1")).await.unwrap();
    assert_eq!(created.server.status, ServerStatus::Initializing);
    let ended = client.ended(created.actions().cloned(), LONG).await.unwrap();
    assert!(ended.len() == 2 && ended.values().all(|action| action.failure().is_none()), "{ended:?}");
    let found = client.servers("managed-by=morpheus,forest=grove").await.unwrap();
    assert_eq!((found.len(), found[0].status), (1, ServerStatus::Running));
    assert!(found[0].address().unwrap().is_ipv6());
    assert_eq!(client.servers("forest=elm").await.unwrap(), []);
    assert_eq!(client.server_named("grove-node-1").await.unwrap().unwrap().id, found[0].id);
    let action = client.delete_server(found[0].id).await.unwrap();
    client.ended(action, LONG).await.unwrap();
    assert_eq!(client.delete_server(found[0].id).await.unwrap(), None, "gone already");
    assert_eq!(fake.world().all("servers").len(), 0);
}

#[tokio::test]
async fn all_pages_are_read() {
    let fake = FakeHetzner::start();
    let client = client(&fake);
    for n in 0..7 {
        client.create_server(&server(&format!("grove-node-{n}"))).await.unwrap();
    }
    fake.world().page_cap = 2;
    let names: Vec<String> =
        client.servers("forest=grove").await.unwrap().into_iter().map(|server| server.name).collect();
    assert_eq!(names, (0..7).map(|n| format!("grove-node-{n}")).collect::<Vec<_>>());
    let asked = fake.world().log.iter().filter(|seen| seen.query.contains("per_page=50")).count();
    assert_eq!(asked, 4);
}

#[tokio::test]
async fn the_catalogue_is_understood() {
    let fake = FakeHetzner::start();
    let client = client(&fake);
    let types = client.server_types().await.unwrap();
    let cx23 = types.iter().find(|kind| kind.name == "cx23").unwrap();
    assert_eq!((cx23.cores, cx23.architecture.as_str(), cx23.prices.len()), (2, "x86", 4));
    assert_eq!(
        (cx23.prices[0].price_monthly.net.as_str(), cx23.locations[0].available),
        ("3.4900", Some(true))
    );
    let zones: Vec<String> = client.locations().await.unwrap().into_iter().map(|l| l.network_zone).collect();
    assert_eq!(zones, ["eu-central", "eu-central", "eu-central", "us-east"]);
    let images = client.images("debian-12").await.unwrap();
    assert_eq!(images.iter().map(|image| image.architecture.as_str()).collect::<Vec<_>>(), ["x86", "arm"]);
    assert_eq!(client.currency().await.unwrap(), "EUR");
}

#[tokio::test]
async fn keys_firewalls_and_groups_come_and_go() {
    let fake = FakeHetzner::start();
    let client = client(&fake);
    let key = client.create_ssh_key("laptop", "ssh-ed25519 AAAA me", &labels()).await.unwrap();
    assert_eq!(client.ssh_keys().await.unwrap().len(), 1);
    let again = client.create_ssh_key("other", "ssh-ed25519 AAAA me", &labels()).await;
    assert!(again.unwrap_err().is(&Code::Uniqueness));
    client.delete_ssh_key(key.id).await.unwrap();
    let ssh = Opening {
        direction: "in".to_owned(),
        protocol: "tcp".to_owned(),
        port: Some("22".to_owned()),
        source_ips: vec!["::/0".to_owned()],
        description: None,
    };
    let firewall = client.create_firewall("grove", &labels(), &[ssh], "forest=grove").await.unwrap();
    assert_eq!(firewall.applied_to[0].label_selector.as_ref().unwrap().selector, "forest=grove");
    assert!(client.delete_firewall(firewall.id).await.unwrap_err().is(&Code::InUse));
    client.ended(client.set_rules(firewall.id, &[]).await.unwrap(), LONG).await.unwrap();
    let actions = client.detach_firewall(firewall.id, "forest=grove").await.unwrap();
    client.ended(actions, LONG).await.unwrap();
    client.delete_firewall(firewall.id).await.unwrap();
    assert_eq!(client.detach_firewall(firewall.id, "forest=grove").await.unwrap(), [], "gone already");
    let group = client.create_placement_group("grove-1", &labels()).await.unwrap();
    assert_eq!(client.placement_groups("forest=grove").await.unwrap()[0].id, group.id);
    client.delete_placement_group(group.id).await.unwrap();
    let left = ["ssh_keys", "firewalls", "placement_groups"].map(|kind| fake.world().all(kind).len());
    assert_eq!(left, [0, 0, 0]);
}

#[tokio::test]
async fn what_passes_is_tried_six_times_and_no_more() {
    for fault in [
        Fault::Refuse(409, "conflict"),
        Fault::Refuse(429, "rate_limit_exceeded"),
        Fault::Refuse(504, "timeout"),
        Fault::Refuse(502, "bad_gateway"),
        Fault::Page(502),
        Fault::Page(504),
        Fault::Lost,
    ] {
        let fake = FakeHetzner::start();
        let client = client(&fake);
        fake.inject(Rule::next(fault.clone()).times(5));
        assert_eq!(client.locations().await.unwrap().len(), 4, "{fault:?}");
        assert_eq!(fake.world().requests, 6);
        fake.inject(Rule::next(fault.clone()).times(6));
        client.locations().await.unwrap_err();
        assert_eq!(fake.world().requests, 12, "{fault:?}");
    }
}

#[tokio::test]
async fn what_does_not_pass_is_tried_once() {
    for (fault, due) in [
        (Fault::Refuse(401, "unauthorized"), Reason::HetznerUnauthorized),
        (Fault::Refuse(403, "forbidden"), Reason::HetznerForbidden),
        (Fault::Refuse(403, "token_readonly"), Reason::HetznerForbidden),
        (Fault::Refuse(403, "resource_limit_exceeded"), Reason::HetznerLimit),
        (Fault::Refuse(412, "resource_unavailable"), Reason::HetznerUnavailable),
        (Fault::Refuse(409, "placement_error"), Reason::HetznerUnavailable),
        (Fault::Refuse(409, "uniqueness_error"), Reason::HetznerNameTaken),
        (Fault::Refuse(500, "server_error"), Reason::HetznerFault),
        (Fault::Page(503), Reason::HetznerFault),
        (Fault::Page(200), Reason::HetznerFault),
        (Fault::Page(302), Reason::HetznerRefused),
    ] {
        let fake = FakeHetzner::start();
        fake.inject(Rule::next(fault.clone()));
        let err = client(&fake).create_server(&server("grove-node-1")).await.unwrap_err();
        assert_eq!((err.reason(), fake.world().requests), (due, 1), "{fault:?}");
        let message = Failure::from(err).message;
        assert!(message.contains("POST http://127.0.0.1") && message.contains("/v1/servers"), "{message}");
        assert!(!message.contains(TOKEN) && !message.contains("proxy's page"), "{message}");
    }
}

#[tokio::test]
async fn what_is_locked_is_waited_for() {
    let fake = FakeHetzner::start();
    fake.world().action_takes = 9;
    let client = client(&fake);
    let created = client.create_server(&server("grove-node-1")).await.unwrap();
    client.delete_server(created.server.id).await.unwrap();
    assert!(fake.world().count("DELETE", &format!("/servers/{}", created.server.id)) > 6);
    assert_eq!(fake.world().all("servers").len(), 0);
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_makes_no_second_server() {
    let fake = FakeHetzner::start();
    fake.inject(Rule::on("POST", "/servers", Fault::Lost));
    let err = client(&fake).create_server(&server("grove-node-1")).await.unwrap_err();
    assert!(err.is(&Code::Uniqueness), "{err}");
    assert_eq!(fake.world().all("servers").len(), 1);
}

#[tokio::test]
async fn an_action_that_fails_says_why() {
    let fake = FakeHetzner::start();
    fake.world().failing_actions.push(("create_server", "resource_unavailable"));
    let client = client(&fake);
    let created = client.create_server(&server("grove-node-1")).await.unwrap();
    let ended = client.ended(created.actions().cloned(), LONG).await.unwrap();
    let failures: Vec<ApiError> = ended.values().filter_map(Action::failure).collect();
    assert!(failures.len() == 1 && failures[0].is(&Code::Unavailable), "{failures:?}");
    assert_eq!(
        failures[0].to_string(),
        "the action create_server failed: create_server failed (resource_unavailable)"
    );
}

#[tokio::test]
async fn actions_are_asked_for_together_and_not_for_ever() {
    let fake = FakeHetzner::start();
    fake.world().action_takes = u64::from(u32::MAX);
    let client = client(&fake);
    let mut actions = Vec::new();
    for n in 0..3 {
        actions.extend(client.create_server(&server(&format!("n{n}"))).await.unwrap().actions().cloned());
    }
    let err = client.ended(actions, Duration::from_millis(20)).await.unwrap_err();
    assert!(err.reason() == Reason::HetznerSlow && err.to_string().contains("start_server"), "{err}");
    let world = fake.world();
    let polls: Vec<_> = world.log.iter().filter(|seen| seen.path == "/actions").collect();
    assert!(
        !polls.is_empty() && polls.iter().all(|seen| seen.query.matches("id=").count() == 6),
        "{polls:?}"
    );
}

#[tokio::test]
async fn a_request_that_hangs_ends() {
    let fake = FakeHetzner::start();
    fake.inject(Rule::next(Fault::Hang).always());
    let timing = Timing { request: Duration::from_millis(50), ..timing() };
    let began = Instant::now();
    let err = client_of(&fake.endpoint(), TOKEN, timing).locations().await.unwrap_err();
    assert_eq!(err.reason(), Reason::HetznerUnreachable);
    assert!(err.to_string().contains("no answer within 0.05 s"), "{err}");
    assert_eq!(fake.world().requests, 6);
    assert!(began.elapsed() < LONG);
}

#[tokio::test]
async fn nobody_there_and_a_wrong_token_are_said_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}/v1");
    let err = client_of(&endpoint, TOKEN, Timing::default()).locations().await.unwrap_err();
    assert!(err.to_string().contains(&endpoint) && err.to_string().contains("refused"), "{err}");
    assert_eq!(err.reason(), Reason::HetznerUnreachable);
    let fake = FakeHetzner::start();
    let wrong = client_of(&fake.endpoint(), "hunter2", timing());
    assert_eq!(reason(wrong.locations().await), Reason::HetznerUnauthorized);
}

#[tokio::test]
async fn a_budget_that_runs_dry_is_not_hammered_at() {
    let fake = FakeHetzner::start();
    // So many an hour that one comes back each millisecond.
    fake.world().budget = (3_600_000, 2);
    let client = client(&fake);
    client.locations().await.unwrap();
    client.locations().await.unwrap();
    assert_eq!(reason(client.locations().await), Reason::HetznerRateLimit);
    assert_eq!(fake.world().requests, 8);
}
