use proptest::prelude::*;

use super::*;
use crate::id::NodeId;
use crate::registry::Document;

fn node(id: &str) -> NodeId {
    id.parse().unwrap()
}

fn founded() -> Secrets {
    Secrets::empty().found(&node("n1"), "mark", Timestamp::UNIX_EPOCH).unwrap()
}

fn begun() -> Secrets {
    founded().begin_rotation(Timestamp::UNIX_EPOCH).unwrap()
}

fn record(secrets: &Secrets) -> &Record {
    secrets.record().unwrap()
}

fn advanced(secrets: &Secrets) -> Option<Secrets> {
    secrets.advance_rotation(record(secrets).progress())
}

/// All stages of a rotation, the rest before it among them.
fn stages() -> Vec<Secrets> {
    let first = founded();
    let mut all = vec![first.begin_rotation(Timestamp::UNIX_EPOCH).unwrap()];
    all.insert(0, first);
    while let Some(next) = advanced(all.last().unwrap()) {
        all.push(next);
    }
    let over = all.pop().unwrap();
    assert!(!record(&over).is_rotating && record(all.last().unwrap()).is_rotating);
    all
}

#[test]
fn a_rotation_goes_through_its_stages_and_ends_without_the_old() {
    let all = stages();
    let told: Vec<_> = all.iter().map(|secrets| record(secrets).progress()).collect();
    let at = |stage| Progress { epoch: 1, stage };
    assert_eq!(told, [Progress::NONE, at(Stage::Offered), at(Stage::Accepted), at(Stage::Done)]);
    let (old, new) = (record(&all[0]), record(&all[3]));
    let text = all[3].render();
    for old in [&old.route, &old.sys] {
        assert!(!text.contains(old.password.expose()), "{old:?} is left");
    }
    assert_eq!((new.route.user.as_str(), new.sys.user.as_str()), ("route", "agent"));
    assert_eq!(record(&all[3]).rotation, None);
    assert_eq!(all[3].begin_rotation(Timestamp::UNIX_EPOCH), None, "not all nodes are through");
    let again = advanced(&all[3]).unwrap().begin_rotation(Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(record(&again).progress(), Progress { epoch: 2, stage: Stage::Offered });
}

#[test]
fn one_rotation_at_a_time_and_none_while_a_node_comes_or_goes() {
    assert_eq!(begun().begin_rotation(Timestamp::UNIX_EPOCH), None);
    assert_eq!(Secrets::empty().begin_rotation(Timestamp::UNIX_EPOCH), None);
    let leaving = founded().begin_leaving(&node("n2"), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(leaving.begin_rotation(Timestamp::UNIX_EPOCH), None);
    let joining = founded().take_turn(&node("n2"), None).unwrap();
    assert_eq!(joining.begin_rotation(Timestamp::UNIX_EPOCH), None);
    assert_eq!(founded().advance_rotation(Progress::NONE), None, "nothing is under way");
}

#[test]
fn whoever_is_a_stage_behind_gets_in_and_lets_in() {
    let dials = |record: &Record, to: &Record| {
        let (from, to) = (record.in_force(), to.in_force());
        from.accept == to.accept || from.beside == Some(to.accept)
    };
    let all = stages();
    for pair in all.windows(2) {
        let (behind, ahead) = (record(&pair[0]), record(&pair[1]));
        // Whoever starts dials, and the others may have stopped trying; but from offered on both do.
        assert!(dials(ahead, behind), "{:?} is not let in by those behind", ahead.progress());
        let knows_the_new =
            behind.progress() != Progress::NONE || ahead.in_force().accept == behind.in_force().accept;
        assert!(
            knows_the_new && dials(behind, ahead),
            "{:?} is not let in by those ahead",
            behind.progress()
        );
    }
    let first = record(&all[0]);
    assert!(!dials(first, record(&all[3])), "the old password is refused at the end");
}

#[test]
fn what_is_no_rotation_is_corrupt_and_shows_no_password() {
    let text = begun().render();
    let err = Secrets::parse(text.replace("\"offered\"", "\"flying\"").as_bytes()).unwrap_err();
    assert!(err.0.contains("rotation.stage"), "{err}");
    let shown = format!("{:?}", begun());
    let secrets = begun();
    let rotation = record(&secrets).rotation.as_ref().unwrap();
    assert!(
        !shown.contains(rotation.route.password.expose()) && !shown.contains(rotation.sys.password.expose())
    );
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Begin,
    Advance { epoch: u64, stage: usize },
    Turn,
    EndTurn,
    Leave,
    Stay,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => Just(Change::Begin),
        6 => (0u64..4, 0usize..3).prop_map(|(epoch, stage)| Change::Advance { epoch, stage }),
        1 => Just(Change::Turn),
        1 => Just(Change::EndTurn),
        1 => Just(Change::Leave),
        1 => Just(Change::Stay),
    ]
}

proptest! {
    /// Whoever asks for what and how often: a rotation goes forward by single stages, what is unknown is kept, the text
    /// reads back, and credentials change only at its end, to those that were offered.
    #[test]
    fn changes_in_any_order_keep_the_promises(changes in proptest::collection::vec(change(), 0..40), note in "[a-z]{3,9}") {
        let mut text: Value = serde_json::from_str(&founded().render()).unwrap();
        text["of_a_newer_program"] = note.clone().into();
        text["route"]["hint"] = note.clone().into();
        let mut secrets = Secrets::parse(text.to_string().as_bytes()).unwrap();
        for change in changes {
            let (n2, now) = (node("n2"), Timestamp::UNIX_EPOCH);
            let next = match change {
                Change::Begin => secrets.begin_rotation(now),
                Change::Advance { epoch, stage } => {
                    secrets.advance_rotation(Progress { epoch, stage: Stage::ALL[stage] })
                }
                Change::Turn => secrets.take_turn(&n2, None),
                Change::EndTurn => secrets.end_turn(&n2),
                Change::Leave => secrets.begin_leaving(&n2, now),
                Change::Stay => secrets.stay(&n2),
            };
            let Some(next) = next else { continue };
            prop_assert_eq!(Secrets::parse(next.render().as_bytes()), Ok(next.clone()));
            let (before, after) = (record(&secrets).clone(), record(&next).clone());
            let (from, to) = (before.progress(), after.progress());
            match change {
                Change::Begin => prop_assert_eq!(to, Progress { epoch: from.epoch + 1, stage: Stage::Offered }),
                Change::Advance { .. } => {
                    prop_assert_eq!(to, Progress { epoch: from.epoch, stage: from.stage.next().unwrap_or(Stage::Done) });
                    prop_assert_eq!(after.is_rotating, from.stage != Stage::Done);
                }
                _ => prop_assert_eq!(from, to),
            }
            if to.stage == Stage::Done && from.stage == Stage::Accepted {
                let rotation = before.rotation.unwrap();
                prop_assert_eq!((&after.route, &after.sys), (&rotation.route, &rotation.sys));
            } else {
                prop_assert_eq!((&after.route, &after.sys), (&before.route, &before.sys));
            }
            let kept: Value = serde_json::from_str(&next.render()).unwrap();
            prop_assert_eq!(&kept["of_a_newer_program"], &Value::from(note.clone()));
            prop_assert_eq!(&kept["route"]["hint"], &Value::from(note.clone()));
            secrets = next;
        }
    }
}
