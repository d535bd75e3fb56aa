use std::path::Path;

use forest_core::registry::Document as _;
use forest_core::secrets::Secrets;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::engine::limits::Limits;
use crate::engine::nats_config::{Cluster, NatsConfig, Role};

/// The records of two rotations, stage by stage.
fn stages() -> Vec<Record> {
    let mut secrets = Secrets::empty().found(&"n1".parse().unwrap(), "f", Timestamp::UNIX_EPOCH).unwrap();
    let mut all = vec![secrets.record().unwrap().clone()];
    while all.len() < 7 {
        let progress = secrets.record().unwrap().progress();
        let next = secrets.advance_rotation(progress);
        secrets = next.or_else(|| secrets.begin_rotation(Timestamp::UNIX_EPOCH)).unwrap();
        if secrets.record().unwrap().is_rotating {
            all.push(secrets.record().unwrap().clone());
        }
    }
    all
}

fn text(record: &Record, renewed: bool, nodes: u8) -> String {
    let routes: Vec<_> = (1..=nodes).map(|n| ([127, 0, 0, n], 6222).into()).collect();
    let force = record.in_force();
    let cluster = Cluster {
        name: "grove",
        listen: routes[0],
        advertise: routes[0],
        routes: &routes,
        route: Some(force.accept),
        dial: &dials(record, renewed),
        sys: force.sys,
    };
    let limits = Limits { max_memory: 1, max_file: 1 };
    let (name, client, store_dir) = ("n1", ([127, 0, 0, 1], 4222).into(), Path::new("/s"));
    NatsConfig { name, role: Role::Witness, client, store_dir, limits, cluster: Some(cluster) }.render()
}

/// A server as it was measured: its list, and by which URL it knows each route.
struct Model {
    /// It knows its routes by the URL that it dialed last: nats-server before 2.10.
    takes_over: bool,
    loaded: String,
    known_by: Vec<String>,
    closed: usize,
}

impl Model {
    fn start(takes_over: bool, text: &str) -> Self {
        let known_by = routes(text).into_iter().map(str::to_owned).collect();
        Self { takes_over, loaded: text.to_owned(), known_by, closed: 0 }
    }

    /// Reads `text`; routes are dialed that are new in the list.
    fn read(&mut self, text: &str) {
        let (before, after) = (routes(&self.loaded), routes(text));
        let new: Vec<&str> = after.difference(&before).copied().collect();
        if self.takes_over {
            // Duplicates are dialed at once; the stages leave them the time.
            for route in &mut self.known_by {
                if let Some(url) = new.iter().rev().find(|url| end(url) == end(route)) {
                    *route = (*url).to_owned();
                }
            }
        }
        let goes = |route: &str| before.contains(route) && !after.contains(route);
        let (closed, stand): (Vec<_>, Vec<_>) = self.known_by.drain(..).partition(|route| goes(route));
        self.known_by = stand;
        for route in new {
            if !self.known_by.iter().any(|known| end(known) == end(route)) {
                self.known_by.push(route.to_owned());
            }
        }
        // To nodes that are gone there is to be none.
        for lost in closed.iter().filter(|route| ends(text).contains(end(route))) {
            self.closed += 1;
            assert!(
                self.known_by.iter().any(|route| end(route) == end(lost)),
                "nobody dials {lost} any more"
            );
        }
        self.loaded = text.to_owned();
    }

    /// As the engine's step does.
    fn tell(&mut self, planned: &str, all_stand: bool) {
        if is_due(&self.loaded, planned, all_stand) {
            self.read(&passing(&self.loaded, planned, all_stand));
        }
    }
}

#[test]
fn rotations_close_no_route_that_stands_and_are_told_of_once() {
    for takes_over in [true, false] {
        let all = stages();
        let mut model = Model::start(takes_over, &text(&all[0], false, 3));
        let mut told = 0;
        for record in &all {
            let planned = text(record, false, 3);
            told += usize::from(is_due(&model.loaded, &planned, true));
            model.tell(&planned, true);
            assert_eq!(rest(&model.loaded), rest(&planned), "password and user are read at once");
        }
        assert_eq!(told, 2);
        // A node more, and one less.
        model.tell(&text(all.last().unwrap(), false, 4), true);
        model.tell(&text(all.last().unwrap(), false, 3), true);
        assert_eq!(ends(&model.loaded).len(), 3);
        assert_eq!(model.closed, 0, "{takes_over}");
    }
}

#[test]
fn where_a_route_is_missing_all_is_dialed_anew() {
    let all = stages();
    let done = text(&all[3], false, 3);
    let mut model = Model::start(false, &text(&all[0], false, 3));
    for record in &all[..4] {
        model.tell(&text(record, false, 3), true);
    }
    assert_ne!(model.loaded, done);
    model.tell(&done, false);
    assert_eq!(model.loaded, done);
    assert!(model.known_by.iter().all(|route| routes(&done).contains(route.as_str())));
}

#[test]
fn without_a_rotation_a_list_is_read_as_it_is() {
    let all = stages();
    let (three, four) = (text(&all[0], false, 3), text(&all[0], false, 4));
    for (from, to) in [(&three, &four), (&four, &three)] {
        assert!(is_due(from, to, true) && passing(from, to, true) == *to);
        assert!(!is_due(from, from, true) && !is_due(from, from, false));
    }
}

#[test]
fn a_witness_dials_by_the_new_alone_once_it_is_taken() {
    let told: Vec<_> = stages()[..4].iter().map(|record| dials_of_witness(record).len()).collect();
    assert_eq!(told, [1, 2, 1, 1]);
}

proptest! {
    /// Whenever an agent forgets what its server has read, whenever that starts anew, whichever routes are missing, and
    /// whatever the stage: no route is lost for good.
    #[test]
    fn what_is_closed_is_dialed_anew(
        how in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), 2u8..5), 7),
    ) {
        for takes_over in [true, false] {
            let all = stages();
            let mut model = Model::start(takes_over, &text(&all[0], false, 3));
            for (record, (forgets, all_stand, restarts, nodes)) in all.iter().zip(&how) {
                let planned = text(record, !all_stand, *nodes);
                if *restarts {
                    model = Model::start(takes_over, &planned);
                } else if *forgets {
                    // Not known: it is told all the same.
                    model.read(&planned);
                } else {
                    model.tell(&planned, *all_stand);
                }
            }
        }
    }
}
