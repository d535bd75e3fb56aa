//! A small model of a node that is taken over: a command that is killed between any two of its deeds and run again,
//! and a world in which applications make streams and write to them meanwhile.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::cluster::take_over::journal::Position;

const NAMES: [&str; 3] = ["a", "b", "empty"];

/// A stream of the forest in the model. `ours`: from a snapshot.
#[derive(Debug, Clone, PartialEq)]
enum Stream {
    Half,
    There { ours: bool, last_seq: u64 },
}

#[derive(Debug, Clone)]
struct Node {
    journal: Option<Journal>,
    store: Store,
    aside: bool,
    streams: BTreeMap<String, Stream>,
    /// Streams whose consumers are not where they were.
    fallen: BTreeSet<String>,
    /// What somebody else wrote into streams that are gone.
    destroyed: u64,
}

/// Something that happens between two deeds.
#[derive(Debug, Clone)]
enum Event {
    Kill,
    Make(usize, u64),
    Write(usize),
    /// The server has the consumers of a stream at the beginning again.
    Fall(usize),
    /// The server gives up a restore that was cut short, or ends it.
    Settle(usize, bool),
    /// A power cut, which takes along a restored stream that was not written out.
    PowerCut(usize),
}

fn extent(name: &str, ours: bool, last_seq: u64) -> Extent {
    let first = if ours { format!("old {name}") } else { format!("new {name}") };
    let last =
        if ours && last_seq == noted(name) { "old last".to_owned() } else { format!("{ours} {last_seq}") };
    Extent {
        messages: last_seq,
        bytes: last_seq,
        first_seq: u64::from(last_seq > 0),
        first_ts: first,
        last_seq,
        last_ts: last,
    }
}

fn whole(name: &str) -> Stream {
    Stream::There { ours: true, last_seq: noted(name) }
}

fn noted(name: &str) -> u64 {
    match name {
        "a" => 5,
        "b" => 2,
        _ => 0,
    }
}

fn carried(name: &str) -> Carried {
    Carried {
        name: name.to_owned(),
        snapshot: name.to_owned(),
        config: Value::Null,
        state: Value::Null,
        extent: extent(name, true, noted(name)),
        consumers: vec![Position { name: "worker".to_owned(), ack_floor: 1, delivered: 1 }],
        progress: Progress::Waiting,
    }
}

impl Node {
    fn new() -> Self {
        Self {
            journal: None,
            store: Store::Standalone,
            aside: false,
            streams: BTreeMap::new(),
            fallen: BTreeSet::new(),
            destroyed: 0,
        }
    }

    fn found(&self) -> BTreeMap<String, Found> {
        let found = |(name, stream): (&String, &Stream)| {
            let found = match stream {
                Stream::Half => Found::Half,
                Stream::There { ours, last_seq } => {
                    let consumers = if *ours { ["worker".to_owned()].into() } else { BTreeSet::new() };
                    Found::There { extent: extent(name, *ours, *last_seq), consumers }
                }
            };
            (name.clone(), found)
        };
        self.streams.iter().map(found).collect()
    }

    fn next(&self) -> Next {
        let streams = self.found();
        let streams = (self.store == Store::Clustered).then_some(&streams);
        next(&World { journal: self.journal.as_ref(), store: self.store, aside_stands: self.aside, streams })
    }

    fn progress(&mut self, name: &str, progress: Progress) {
        let streams = self.journal.as_mut().unwrap().streams.iter_mut();
        streams.filter(|stream| stream.name == name).for_each(|stream| stream.progress = progress);
    }

    fn stage(&mut self, stage: Stage) {
        self.journal.as_mut().unwrap().stage = stage;
    }

    fn happen(&mut self, event: &Event) {
        let moved = self.store == Store::Clustered;
        match event {
            Event::Make(index, last_seq) if moved => {
                let made = Stream::There { ours: false, last_seq: *last_seq };
                self.streams.entry(NAMES[*index].to_owned()).or_insert(made);
            }
            Event::Write(index) => {
                if let Some(Stream::There { last_seq, .. }) = self.streams.get_mut(NAMES[*index]) {
                    *last_seq += 1;
                }
            }
            Event::Fall(index) => {
                let name = NAMES[*index].to_owned();
                if self.streams.contains_key(&name) {
                    self.fallen.insert(name);
                }
            }
            Event::Settle(index, whole) => {
                let name = NAMES[*index];
                if self.streams.get(name) == Some(&Stream::Half) {
                    self.streams.remove(name);
                    if *whole {
                        self.streams
                            .insert(name.to_owned(), Stream::There { ours: true, last_seq: noted(name) });
                    }
                }
            }
            Event::PowerCut(index) => {
                let finished = self.journal.as_ref().is_some_and(|journal| journal.stage == Stage::Done);
                let name = NAMES[*index];
                let fresh = Stream::There { ours: true, last_seq: noted(name) };
                if !finished && self.streams.get(name) == Some(&fresh) {
                    self.streams.remove(name);
                }
            }
            _ => {}
        }
    }

    /// Runs the command until it ends or is killed; the first is `true`.
    fn run(&mut self, events: &mut impl Iterator<Item = Event>) -> bool {
        if let Some(journal) = &mut self.journal {
            journal.doubt();
        }
        // After each deed the world goes on; a kill leaves what was done.
        macro_rules! deed {
            ($deed:expr) => {
                $deed;
                let event = events.next();
                if let Some(event) = &event {
                    self.happen(event);
                }
                if matches!(event, Some(Event::Kill | Event::PowerCut(_))) {
                    return false;
                }
            };
        }
        loop {
            match self.next() {
                Next::Read => {
                    deed!(self.journal = Some(journal()));
                    deed!({
                        let journal = self.journal.as_mut().unwrap();
                        journal.streams = NAMES.map(carried).to_vec();
                        journal.stage = Stage::Moving;
                    });
                    deed!((self.store, self.aside) = (Store::Empty, true));
                }
                Next::Moved => {
                    deed!(self.stage(Stage::Restoring));
                }
                // The agent has founded by now.
                Next::Ask => self.store = Store::Clustered,
                Next::Restore(name) => {
                    assert!(!self.streams.contains_key(&name));
                    deed!(self.progress(&name, Progress::Begun));
                    // Refused where somebody was quicker.
                    if !self.streams.contains_key(&name) {
                        deed!({
                            self.streams.insert(name.clone(), Stream::Half);
                        });
                        self.restored(&name);
                        if matches!(self.streams.get(&name), Some(Stream::There { ours: true, .. })) {
                            let due = self.verified(&name);
                            deed!(self.progress(&name, due));
                        }
                    }
                }
                Next::Replace(name) => {
                    if let Some(Stream::There { ours: false, last_seq }) = self.streams.remove(&name) {
                        self.destroyed += last_seq;
                    }
                }
                Next::Accept(name) => {
                    let due = self.verified(&name);
                    deed!(self.progress(&name, due));
                }
                // From its look on nobody can write to it.
                Next::Undo(name) if self.streams[&name] == whole(&name) => {
                    deed!(self.streams.remove(&name));
                }
                Next::Undo(name) => {
                    deed!(self.progress(&name, Progress::Begun));
                }
                Next::Finish => {
                    deed!(self.stage(Stage::Done));
                }
                Next::Already | Next::Conflict(_) => return true,
                other => panic!("{other:?} {self:?}"),
            }
        }
    }

    /// The rest of a restore: its last chunk makes it whole.
    fn restored(&mut self, name: &str) {
        if self.streams.get(name) == Some(&Stream::Half) {
            self.streams.insert(name.to_owned(), whole(name));
            self.fallen.remove(name);
        }
    }

    /// What is noted of a stream that was looked at.
    fn verified(&self, name: &str) -> Progress {
        let as_noted = self.streams.get(name) == Some(&whole(name));
        if as_noted && self.fallen.contains(name) { Progress::Undoing } else { Progress::Restored }
    }
}

fn journal() -> Journal {
    Journal {
        forest_id: "grove".to_owned(),
        node_id: "grove-node-1".to_owned(),
        begun: jiff::Timestamp::UNIX_EPOCH,
        ended: None,
        stage: Stage::Reading,
        aside: "/aside".into(),
        streams: Vec::new(),
        left_behind: Vec::new(),
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => Just(Event::Kill),
        1 => (0..3usize, 0..9u64).prop_map(|(index, last)| Event::Make(index, last)),
        1 => (0..3usize).prop_map(Event::Write),
        1 => (0..3usize).prop_map(Event::Fall),
        1 => (0..3usize, any::<bool>()).prop_map(|(index, whole)| Event::Settle(index, whole)),
        1 => (0..3usize).prop_map(Event::PowerCut),
    ];
    proptest::collection::vec(event, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_is_finished_however_often_it_is_killed_and_nothing_is_lost(events in events()) {
        let mut node = Node::new();
        let mut events = events.into_iter();
        while !node.run(&mut events) {}
        prop_assert_eq!(node.destroyed, 0, "somebody else's messages");
        prop_assert!(node.aside, "the old store is kept");
        let restored = |name: &str| matches!(node.streams.get(name), Some(Stream::There { ours: true, last_seq }) if *last_seq >= noted(name));
        match node.next() {
            Next::Already => prop_assert!(NAMES.into_iter().all(restored), "{:?}", node),
            Next::Conflict(names) => for (name, _) in &names {
                prop_assert!(!restored(name), "{} of {:?}", name, node);
            },
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

fn world<'a>(journal: Option<&'a Journal>, store: Store, aside_stands: bool) -> World<'a> {
    World { journal, store, aside_stands, streams: None }
}

#[test]
fn what_nobody_did_is_said_and_not_mended() {
    assert_eq!(next(&world(None, Store::Empty, false)), Next::Nothing);
    assert_eq!(next(&world(None, Store::Clustered, false)), Next::Nothing);
    let mut journal = journal();
    assert_eq!(next(&world(Some(&journal), Store::Empty, false)), Next::Gone);
    journal.stage = Stage::Restoring;
    assert_eq!(next(&world(Some(&journal), Store::Standalone, true)), Next::Another);
    journal.stage = Stage::Done;
    assert_eq!(next(&world(Some(&journal), Store::Clustered, true)), Next::Already);
    assert_eq!(next(&world(Some(&journal), Store::Standalone, true)), Next::Read, "another one, later");
}

#[test]
fn a_stream_that_others_made_is_told_from_the_restored_one() {
    let before = extent("a", true, 5);
    assert!(extent("a", true, 5).continues(&before) && extent("a", true, 7).continues(&before));
    for last in [1, 5, 7] {
        assert!(!extent("a", false, last).continues(&before), "{last}");
    }
    // Consumed since: nothing of what was there is left.
    let consumed = Extent { first_seq: 8, first_ts: "x".to_owned(), ..extent("a", true, 9) };
    assert!(consumed.continues(&before));
}
