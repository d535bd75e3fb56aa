//! The plan against a project in memory: killed at any moment, several at once, stock that runs out, answers that
//! are lost. In the end there is what was wanted, once, and nothing of anybody else was touched.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::labels::rules;
use super::super::removal::{self, Removal};
use super::*;
use crate::hetzner::wire::{Applied, Labels, Named, PlacementGroup, PublicNet};

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

/// A project in memory.
#[derive(Debug, Clone, Default)]
struct Project {
    seen: Seen,
    stock: Vec<usize>,
    /// Making the server on this offer fails after it has begun, so many times more.
    duds: BTreeMap<usize, usize>,
    next: u64,
    made: Vec<String>,
}

fn refused(code: Code) -> ApiError {
    ApiError::Action { command: "test".to_owned(), code, message: String::new() }
}

fn server(id: u64, name: &str, labels: Labels) -> Server {
    Server {
        id,
        name: name.to_owned(),
        status: ServerStatus::Running,
        public_net: PublicNet::default(),
        server_type: Named::default(),
        location: Named::default(),
        labels,
    }
}

impl Project {
    fn with_stock(stock: Vec<usize>) -> Self {
        let mut project = Self { stock, ..Self::default() };
        // Somebody else's, which stays.
        project.seen.keys.push(SshKey {
            id: 900,
            name: "theirs".to_owned(),
            public_key: "ssh-rsa BBBB".to_owned(),
            labels: Labels::new(),
        });
        project
    }

    fn names(&self) -> Vec<String> {
        let servers = self.seen.servers.iter().map(|server| &server.name);
        let firewalls = self.seen.firewalls.iter().map(|firewall| &firewall.name);
        let groups = self.seen.groups.iter().map(|group| &group.name);
        let keys = self.seen.keys.iter().map(|key| &key.name);
        servers.chain(firewalls).chain(groups).chain(keys).cloned().collect()
    }

    /// Does a step; the number of a server that could not be made in the end.
    fn make(&mut self, wish: &Wish, step: &Step) -> Result<Option<u64>, ApiError> {
        if let Some(name) = step.makes(wish) {
            if self.names().contains(&name) {
                return Err(refused(Code::Uniqueness));
            }
            self.made.push(name);
        }
        self.next += 1;
        let id = self.next;
        let labels = wish.mark.labels();
        match step {
            Step::Key => {
                let key = wish.key.clone().unwrap();
                self.seen.keys.push(SshKey { id, name: key.name, public_key: key.text, labels });
            }
            Step::Firewall => self.seen.firewalls.push(Firewall {
                id,
                name: wish.mark.firewall(),
                labels,
                rules: wish.rules.clone(),
                applied_to: vec![Applied {
                    kind: "label_selector".to_owned(),
                    label_selector: None,
                    server: None,
                }],
            }),
            Step::Group(name) => {
                self.seen.groups.push(PlacementGroup { id, name: name.clone(), labels, servers: Vec::new() });
            }
            Step::Server { node, offer, .. } => return self.make_server(wish, id, node, *offer),
            Step::Discard(id) => {
                let before = self.seen.servers.len();
                self.seen.servers.retain(|server| server.id != *id || server.status == ServerStatus::Running);
                if self.seen.servers.len() == before {
                    return Err(refused(Code::NotFound));
                }
            }
            Step::PowerOn(id) => {
                let server = self.seen.servers.iter_mut().find(|server| server.id == *id);
                server.ok_or_else(|| refused(Code::NotFound))?.status = ServerStatus::Running;
            }
            Step::Rules(_) | Step::Wait => {}
        }
        Ok(None)
    }

    fn make_server(
        &mut self,
        wish: &Wish,
        id: u64,
        node: &NodeId,
        offer: usize,
    ) -> Result<Option<u64>, ApiError> {
        if self.stock[offer] == 0 {
            self.made.pop();
            return Err(refused(Code::Unavailable));
        }
        self.stock[offer] -= 1;
        let mut new = server(id, node.as_str(), wish.mark.node_labels(node));
        let dud = self.duds.get_mut(&offer).filter(|left| **left > 0);
        let failed = dud.map(|left| {
            *left -= 1;
            new.status = ServerStatus::Initializing;
            id
        });
        self.seen.servers.push(new);
        Ok(failed)
    }

    fn remove(&mut self, step: Removal) {
        match step {
            Removal::Server(id) => self.seen.servers.retain(|server| server.id != id),
            Removal::Detach(id) => {
                self.seen.firewalls.iter_mut().filter(|f| f.id == id).for_each(|f| f.applied_to.clear());
            }
            Removal::Firewall(id) => {
                assert!(self.seen.servers.is_empty(), "a firewall goes after the servers");
                self.seen.firewalls.retain(|firewall| firewall.id != id);
            }
            Removal::Group(id) => self.seen.groups.retain(|group| group.id != id),
            Removal::Wait => {}
        }
    }
}

/// One morpheus at work: what it has learnt, and the steps of its present round.
#[derive(Debug, Default)]
struct Laptop {
    learnt: Learnt,
    todo: Vec<Step>,
    ended: Option<Result<(), Blocked>>,
}

impl Laptop {
    /// Does one step, or looks.
    fn go_on(&mut self, project: &mut Project, wish: &Wish, answer_lost: bool) {
        if self.ended.is_some() {
            return;
        }
        let Some(step) = self.todo.pop() else {
            match steps(wish, project.stock.len(), &project.seen, &self.learnt) {
                Ok(steps) if steps.is_empty() => self.ended = Some(Ok(())),
                Ok(steps) => self.todo = steps,
                Err(blocked) => self.ended = Some(Err(blocked)),
            }
            return;
        };
        let mut result = project.make(wish, &step);
        if answer_lost && result.is_ok() && step.makes(wish).is_some() {
            // The client asks once more, and the name is taken by now.
            result = project.make(wish, &step);
        }
        match result {
            Ok(failed) => self.learnt.failed.extend(failed),
            Err(err) => assert!(self.learnt.note(wish, &step, &err), "{step:?}: {err}"),
        }
    }
}

fn is_whole(project: &Project, wish: &Wish) {
    let mut names: Vec<&str> = project.seen.servers.iter().map(|server| server.name.as_str()).collect();
    names.sort_unstable();
    let mut due: Vec<&str> = wish.nodes.iter().map(NodeId::as_str).collect();
    due.sort_unstable();
    assert_eq!(names, due);
    assert!(project.seen.servers.iter().all(|server| server.status == ServerStatus::Running));
    assert_eq!((project.seen.firewalls.len(), project.seen.keys.len()), (1, 2));
    assert_eq!(project.seen.groups.len(), wish.nodes.len().div_ceil(10));
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Works(usize),
    LosesAnAnswer(usize),
    IsKilled(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0usize..2).prop_map(Event::Works),
        2 => (0usize..2).prop_map(Event::LosesAnAnswer),
        1 => (0usize..2).prop_map(Event::IsKilled),
    ];
    prop::collection::vec(event, 0..120)
}

/// Lets two laptops work as the events say, then both to their end.
fn run(project: &mut Project, wish: &Wish, events: &[Event]) -> [Laptop; 2] {
    let mut laptops = [Laptop::default(), Laptop::default()];
    for event in events {
        match *event {
            Event::Works(who) => laptops[who].go_on(project, wish, false),
            Event::LosesAnAnswer(who) => laptops[who].go_on(project, wish, true),
            Event::IsKilled(who) => laptops[who] = Laptop::default(),
        }
    }
    for _ in 0..1000 {
        laptops.iter_mut().for_each(|laptop| laptop.go_on(project, wish, false));
        if laptops.iter().all(|laptop| laptop.ended.is_some()) {
            return laptops;
        }
    }
    panic!("no end: {laptops:?}");
}

proptest! {
    #[test]
    fn whatever_happens_all_is_there_once(
        nodes in 1usize..24, stock in prop::collection::vec(0usize..6, 0..4), events in events(),
    ) {
        let wish = wish(nodes);
        // The last offer has enough.
        let mut project = Project::with_stock(stock.into_iter().chain([nodes]).collect());
        let laptops = run(&mut project, &wish, &events);
        prop_assert!(laptops.iter().all(|laptop| laptop.ended == Some(Ok(()))), "{:?}", laptops);
        is_whole(&project, &wish);
        let mut made = project.made.clone();
        made.sort();
        made.dedup();
        prop_assert_eq!(made.len(), project.made.len(), "something was made twice");
    }

    #[test]
    fn a_server_that_could_not_be_made_is_replaced(nodes in 1usize..8, duds in 0usize..4) {
        let wish = wish(nodes);
        let mut project = Project::with_stock(vec![nodes + duds]);
        project.duds.insert(0, duds);
        let mut laptop = Laptop::default();
        while laptop.ended.is_none() {
            laptop.go_on(&mut project, &wish, false);
        }
        prop_assert_eq!(&laptop.ended, &Some(Ok(())));
        is_whole(&project, &wish);
    }

    #[test]
    fn nothing_is_left_wherever_a_teardown_is_cut(
        nodes in 0usize..24, events in events(), cuts in prop::collection::vec(0usize..8, 0..20),
    ) {
        let wish = wish(nodes);
        let mut project = Project::with_stock(vec![nodes]);
        run(&mut project, &wish, &events);
        let theirs = server(77, "other", mark("theirs").labels());
        for cut in cuts.into_iter().chain([usize::MAX; 4]) {
            // A round of a command that is killed after `cut` steps.
            removal::steps(&wish.mark, &project.seen).into_iter().take(cut).for_each(|step| project.remove(step));
            prop_assert_eq!(project.seen.of(&mark("theirs")), Seen { keys: project.seen.keys.clone(), ..Seen::default() });
        }
        prop_assert!(project.seen.is_empty(), "{:?}", project.seen);
        project.seen.servers.push(theirs);
        prop_assert_eq!(removal::steps(&wish.mark, &project.seen), []);
        prop_assert_eq!(removal::our_keys(&project.seen.keys).len(), usize::from(project.seen.keys.len() > 1));
    }
}

#[test]
fn sold_out_everywhere_and_names_of_others_are_said() {
    let wish = wish(2);
    let mut project = Project::with_stock(vec![1, 0]);
    let [laptop, _] = run(&mut project, &wish, &[]);
    assert_eq!(laptop.ended, Some(Err(Blocked::SoldOut)));
    assert_eq!(project.seen.servers.len(), 1, "what there is stays");

    let mut project = Project::with_stock(vec![9]);
    project.seen.servers.push(server(5, "grove-node-1", mark("earlier").labels()));
    let [laptop, _] = run(&mut project, &wish, &[]);
    let names = vec!["grove-node-1".to_owned()];
    assert_eq!(laptop.ended, Some(Err(Blocked::Strangers { forest: "grove".to_owned(), names })));
    assert_eq!(project.made, [""; 0]);

    // A server of that name without any label is not listed, but has the name.
    let mut learnt = Learnt::default();
    let project = Project::with_stock(vec![9]);
    assert!(learnt.note(&wish, &Step::Firewall, &refused(Code::Uniqueness)));
    assert_eq!(steps(&wish, 1, &project.seen, &learnt), Err(Blocked::Taken("morpheus-grove".to_owned())));
}

#[test]
fn a_server_without_power_gets_it_and_one_that_goes_is_waited_for() {
    let wish = wish(1);
    let mut project = Project::with_stock(vec![9]);
    run(&mut project, &wish, &[]);
    let next = |project: &Project| steps(&wish, 1, &project.seen, &Learnt::default()).unwrap();
    project.seen.servers[0].status = ServerStatus::Off;
    assert_eq!(next(&project), [Step::PowerOn(project.seen.servers[0].id)]);
    project.seen.servers[0].status = ServerStatus::Deleting;
    assert_eq!(next(&project), [Step::Wait]);
    project.seen.servers[0].status = ServerStatus::Unknown;
    assert_eq!(next(&project), []);
    project.seen.firewalls[0].rules.reverse();
    assert_eq!(next(&project), [], "the order of rules says nothing");
    project.seen.firewalls[0].rules.pop();
    assert_eq!(next(&project), [Step::Rules(project.seen.firewalls[0].id)]);
}
