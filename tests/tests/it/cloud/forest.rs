//! A forest from its first record to its last, with a registry in a directory: cut short after each call, and by two
//! laptops at once.

use std::path::PathBuf;

use forest_core::id::ForestId;
use forest_core::registry::{
    Files, FsDoor, Limits, Owner, ReadError, Registry, SystemClock, UpdateError, UpdateOptions, read, update,
};
use morpheus::cloud::forest::{Cloud, Edit, Kit, Ledger};
use morpheus::cloud::record::{Plan, Request, Shelved};
use tempfile::TempDir;

use super::*;

/// The share, as a directory.
struct Shelf(TempDir);

impl Shelf {
    fn new() -> Self {
        let shelf = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(shelf.0.path().join("secrets")).unwrap();
        shelf
    }

    fn door(&self) -> FsDoor {
        FsDoor::open(self.0.path(), None).unwrap()
    }

    fn secrets(&self) -> PathBuf {
        self.0.path().join("secrets/grove.json")
    }

    /// What the agents of these nodes would write.
    fn agents_write(&self) {
        std::fs::write(self.secrets(), "{}").unwrap();
        self.update(&mut |registry| {
            let text = r#"{"id":"grove-node-1","ip":"2001:db8::1","forest_id":"grove"}"#;
            let mut value: serde_json::Value = serde_json::from_str(&render(registry)).unwrap();
            value["nodes"]["grove"] =
                serde_json::json!([serde_json::from_str::<serde_json::Value>(text).unwrap()]);
            Ok(Some(parse(&value.to_string())))
        })
        .unwrap();
    }

    fn plan(&self) -> Option<Plan> {
        Plan::find(&Ledger::read(self).unwrap(), &grove())
    }

    #[track_caller]
    fn is_empty(&self) {
        let registry = Ledger::read(self).unwrap();
        assert_eq!((registry.forest(&grove()), registry.entries(&grove()).len()), (None, 0));
        assert!(!self.secrets().exists());
    }
}

fn render(registry: &Registry) -> String {
    forest_core::registry::Document::render(registry)
}

fn parse(text: &str) -> Registry {
    forest_core::registry::Document::parse(text.as_bytes()).unwrap()
}

impl Ledger for Shelf {
    fn read(&self) -> Result<Registry, Failure> {
        match read(&self.door(), &SystemClock, &Limits::default(), &Files::default()) {
            Ok(snapshot) => Ok(snapshot.doc),
            Err(ReadError::Missing(_)) => Ok(parse("{}")),
            Err(err) => Err(Failure::new(err.reason(), err.to_string())),
        }
    }

    fn update(&self, change: Edit<'_>) -> Result<(), Failure> {
        let options = UpdateOptions { create_missing: true, ..UpdateOptions::default() };
        let owner = Owner::current("morpheus");
        match update(&self.door(), &SystemClock, &owner, &Limits::default(), &options, change) {
            Ok(_) => Ok(()),
            Err(UpdateError::Change(failure)) => Err(failure),
            Err(err) => panic!("{err}"),
        }
    }

    fn forget_secrets(&self, _: &ForestId) -> Result<(), Failure> {
        let _ = std::fs::remove_file(self.secrets());
        Ok(())
    }

    fn sweep(&self, _: &Registry, _: &[Shelved]) {}
}

fn grove() -> ForestId {
    "grove".parse().unwrap()
}

/// What `plant` does but for waiting on health; each command has another mark, as it would.
async fn plant(fake: &FakeHetzner, shelf: &Shelf, offers: &[Offer], command: &str) -> Result<(), Failure> {
    let api = client(fake);
    let cloud = Cloud { api: &api, ledger: shelf };
    let (location, planting) = ("fsn1".to_owned(), command.to_owned());
    let request = Request { count: 2, location, planting, programs: None };
    let (plan, nodes) = cloud.plant(&grove(), &request)?;
    made(&cloud, &plan, nodes, offers).await
}

async fn grow(fake: &FakeHetzner, shelf: &Shelf, offers: &[Offer], count: u8) -> Result<(), Failure> {
    let api = client(fake);
    let cloud = Cloud { api: &api, ledger: shelf };
    let (plan, nodes) = cloud.grow(&grove(), count)?;
    made(&cloud, &plan, nodes, offers).await
}

async fn made(cloud: &Cloud<'_>, plan: &Plan, nodes: Vec<NodeId>, offers: &[Offer]) -> Result<(), Failure> {
    let key = Some(PublicKey { name: "laptop".to_owned(), text: "ssh-ed25519 AAAA me@here".to_owned() });
    let kit = Kit { offers, key, user_data: &|_| "#cloud-config\n".to_owned(), ipv4: false };
    cloud.raise(&grove(), plan, nodes, &kit, LONG, &mut Progress::silent()).await.map(drop)
}

async fn teardown(fake: &FakeHetzner, shelf: &Shelf) -> Result<(), Failure> {
    let api = client(fake);
    Cloud { api: &api, ledger: shelf }.teardown(&grove(), LONG).await
}

#[tokio::test]
async fn cut_anywhere_a_forest_is_planted_and_torn_down_by_asking_again() {
    let offers = choice().await;
    let mut calls = 0;
    loop {
        let (fake, shelf) = (FakeHetzner::start(), Shelf::new());
        let planting = killed_after(&fake, calls, plant(&fake, &shelf, &offers, "first")).await;
        plant(&fake, &shelf, &offers, "second").await.unwrap();
        is_whole(&fake, 2);
        let plan = shelf.plan().unwrap();
        assert_eq!((plan.members.len(), plan.next_node, plan.planting.as_str()), (2, 3, "first"));
        shelf.agents_write();
        let falling = killed_after(&fake, calls, teardown(&fake, &shelf)).await;
        if falling {
            assert!(shelf.plan().is_some(), "the record stays as long as there is anything");
            teardown(&fake, &shelf).await.unwrap();
        }
        is_empty(&fake);
        shelf.is_empty();
        assert_eq!(teardown(&fake, &shelf).await.unwrap_err().reason, Reason::ForestUnknown);
        if !planting && !falling {
            break;
        }
        calls += 1;
    }
    assert!(calls >= 10, "{calls} calls");
}

#[tokio::test]
async fn two_laptops_plant_and_grow_at_the_same_moment() {
    let (fake, shelf, offers) = (FakeHetzner::start(), Shelf::new(), choice().await);
    let (one, other) =
        tokio::join!(plant(&fake, &shelf, &offers, "one"), plant(&fake, &shelf, &offers, "other"));
    one.unwrap();
    other.unwrap();
    is_whole(&fake, 2);
    let (one, other) = tokio::join!(grow(&fake, &shelf, &offers, 2), grow(&fake, &shelf, &offers, 2));
    one.unwrap();
    other.unwrap();
    is_whole(&fake, 6);
    assert_eq!(shelf.plan().unwrap().next_node, 7);
    teardown(&fake, &shelf).await.unwrap();
    is_empty(&fake);
    shelf.is_empty();
}

/// Another laptop tears the forest down after each call of one that plants it, and both go on to their ends.
#[tokio::test]
async fn torn_down_beside_a_planting_nothing_is_left() {
    let offers = choice().await;
    let (mut calls, mut cut) = (0, 0);
    loop {
        let (fake, shelf) = (FakeHetzner::start(), Shelf::new());
        let planting = plant(&fake, &shelf, &offers, "one");
        let tearing = async {
            while fake.world().requests < calls || shelf.plan().is_none() {
                tokio::task::yield_now().await;
                if whole(&fake) {
                    break;
                }
            }
            let made = whole(&fake);
            teardown(&fake, &shelf).await.map(|()| made)
        };
        let (planted, made) = tokio::join!(planting, tearing);
        let made = made.unwrap();
        if let Err(err) = planted {
            assert_eq!((err.reason, err.exit() as u8), (Reason::TornDown, 1), "after {calls} calls: {err}");
            assert!(err.message.contains("forest grove was torn down by another command"), "{err}");
            cut += 1;
        }
        is_empty(&fake);
        shelf.is_empty();
        if made {
            break;
        }
        calls += 1;
    }
    assert!(calls >= 10 && cut >= 10, "{calls} calls, {cut} cut short");
}

/// Do both servers run?
fn whole(fake: &FakeHetzner) -> bool {
    let servers = fake.world().all("servers");
    servers.len() == 2 && servers.iter().all(|server| server["status"] == "running")
}

#[tokio::test]
async fn a_node_taken_out_while_it_is_made_costs_nothing() {
    let (fake, shelf, offers) = (FakeHetzner::start(), Shelf::new(), choice().await);
    plant(&fake, &shelf, &offers, "one").await.unwrap();
    let api = client(&fake);
    let cloud = Cloud { api: &api, ledger: &shelf };
    let (plan, nodes) = cloud.grow(&grove(), 1).unwrap();
    let taking = async {
        while fake.world().all("servers").len() < 3 {
            tokio::task::yield_now().await;
        }
        let out = |registry: &Registry| {
            let mut value: serde_json::Value = serde_json::from_str(&render(registry)).unwrap();
            value["forests"]["grove"]["members"].as_array_mut().unwrap().pop();
            parse(&value.to_string())
        };
        shelf.update(&mut |registry| Ok(Some(out(registry)))).unwrap();
    };
    let (grown, ()) = tokio::join!(made(&cloud, &plan, nodes, &offers), taking);
    let err = grown.unwrap_err();
    assert_eq!(err.reason, Reason::TornDown);
    assert!(err.message.contains("grove-node-3 of forest grove was taken out"), "{err}");
    is_whole(&fake, 2);
}

#[tokio::test]
async fn a_token_that_expires_in_the_middle_costs_nothing() {
    let (fake, shelf, offers) = (FakeHetzner::start(), Shelf::new(), choice().await);
    fake.inject(Rule::next(Fault::Refuse(401, "unauthorized")).after(9).always());
    let err = plant(&fake, &shelf, &offers, "one").await.unwrap_err();
    assert_eq!(err.reason, Reason::HetznerUnauthorized);
    assert!(shelf.plan().is_some());
    assert_eq!(teardown(&fake, &shelf).await.unwrap_err().reason, Reason::HetznerUnauthorized);
    assert!(shelf.plan().is_some(), "it knows what is left to do");
    fake.world().rules.clear();
    teardown(&fake, &shelf).await.unwrap();
    is_empty(&fake);
    shelf.is_empty();
}
