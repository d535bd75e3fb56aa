//! What is recorded while a node goes for good: who, how far it is, and which witness of it is still counted. One
//! node at a time, so that what one counts on is not taken away by another.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Duty, Secrets, duty_json, read_duty, word};
use crate::id::NodeId;
use crate::registry::Corrupt;
use crate::time::rfc3339;

/// How far a node that leaves has come. It never goes back, but out of [`Stage::Moving`] altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It serves, and what it alone has is moved.
    Moving,
    /// Nothing is left on it that has to be kept: its engine ends, and is not started again.
    Stopping,
    /// Its engine has ended, or is dead: another node takes it out of the group and of the registry.
    Stopped,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Moving, Self::Stopping, Self::Stopped];

    fn word(self) -> &'static str {
        match self {
            Self::Moving => "moving",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// The node that goes for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// The node.
    pub node: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// How far.
    pub stage: Stage,
    /// The witness that it keeps still and another has the duty of by now; `None`: it keeps none, or has the duty.
    pub witness: Option<Duty>,
}

impl Leaving {
    pub(super) fn json(&self) -> Value {
        let Self { node, since, stage, witness } = self;
        json!({"node": node, "since": since, "stage": stage.word(), "witness": duty_json(witness.as_ref())})
    }

    pub(super) fn read(value: &Value) -> Result<Self, Corrupt> {
        let stage = value.get("stage").and_then(Value::as_str);
        let stage = Stage::ALL.into_iter().find(|known| Some(known.word()) == stage);
        Ok(Self {
            node: word(value.get("node"), "leaving.node")?,
            since: value.get("since").and_then(Value::as_str).unwrap_or_default().to_owned(),
            stage: stage.ok_or_else(|| Corrupt("leaving.stage is no stage of leaving".to_owned()))?,
            witness: match value.get("witness") {
                None | Some(Value::Null) => None,
                Some(duty) => Some(read_duty(duty)?),
            },
        })
    }
}

impl Secrets {
    /// `node` begins to leave; `None` where a node leaves already.
    #[must_use]
    pub fn begin_leaving(&self, node: &NodeId, now: Timestamp) -> Option<Self> {
        self.leaves_at(node, Stage::Moving, now)
    }

    /// `node` is dead, and others are to take it out; `None` where that is recorded, or another node leaves.
    #[must_use]
    pub fn forget(&self, node: &NodeId, now: Timestamp) -> Option<Self> {
        match &self.record()?.leaving {
            Some(leaving) if leaving.node == node.as_str() => self.advance_leaving(node, Stage::Stopped),
            _ => self.leaves_at(node, Stage::Stopped, now),
        }
    }

    fn leaves_at(&self, node: &NodeId, stage: Stage, now: Timestamp) -> Option<Self> {
        if self.record()?.leaving.is_some() {
            return None;
        }
        let (node, since) = (node.to_string(), rfc3339(now));
        self.with_leaving(Some(&Leaving { node, since, stage, witness: None }))
    }

    /// `node`, which leaves, has come to `stage`; `None` where it does not leave, or has come so far before.
    #[must_use]
    pub fn advance_leaving(&self, node: &NodeId, stage: Stage) -> Option<Self> {
        let leaving = self.leaving(node.as_str())?;
        (leaving.stage < stage).then(|| self.with_leaving(Some(&Leaving { stage, ..leaving })))?
    }

    /// The witness `name` of the node that leaves is out of the group and ended; `None` where it is not that one's.
    #[must_use]
    pub fn discharge_left_witness(&self, name: &str) -> Option<Self> {
        let leaving = self.record()?.leaving.clone()?;
        let its = leaving.witness.as_ref().is_some_and(|duty| duty.name == name);
        its.then(|| self.with_leaving(Some(&Leaving { witness: None, ..leaving })))?
    }

    /// `node` stays after all; `None` where it does not leave, or its engine was told to end.
    #[must_use]
    pub fn stay(&self, node: &NodeId) -> Option<Self> {
        let leaving = self.leaving(node.as_str())?;
        (leaving.stage == Stage::Moving).then(|| self.with_leaving(None))?
    }

    /// `node` has left. `heir` is the founder from now on, where it was; a turn of its to join is over, and so is its
    /// duty of the witness. `None` where it does not leave.
    #[must_use]
    pub fn left(&self, node: &NodeId, heir: &NodeId) -> Option<Self> {
        self.leaving(node.as_str())?;
        let record = self.record()?;
        let mut text = self.text.clone();
        for key in ["leaving", "stand_in"] {
            text.insert(key.to_owned(), Value::Null);
        }
        if record.witness.as_ref().is_some_and(|duty| duty.node == node.as_str()) {
            text.insert("witness".to_owned(), Value::Null);
            text.insert("witness_epoch".to_owned(), self.epoch().into());
        }
        if record.founder == node.as_str() {
            text.insert("founder".to_owned(), heir.as_str().into());
        }
        if record.joining.as_deref() == Some(node.as_str()) {
            text.insert("joining".to_owned(), Value::Null);
        }
        Self::of(text).ok()
    }

    /// `heir` runs a server under the name of the witness that the dead `node` kept, to bring back the quorum that went
    /// with it; `None` where `node` does not leave or kept none. Never under the name of a node: as a peer of the streams
    /// that were there, an empty server may come to lead them, and what the others have is gone (measured on 2.9).
    #[must_use]
    pub fn stand_in(&self, node: &NodeId, heir: &NodeId) -> Option<Self> {
        self.leaving(node.as_str())?;
        let duty = self.record()?.witness.clone().filter(|duty| duty.node == node.as_str())?;
        let mut text = self.text.clone();
        text.insert("stand_in".to_owned(), duty.name.as_str().into());
        text.insert(
            "witness".to_owned(),
            duty_json(Some(&Duty { node: heir.to_string(), retiring: false, ..duty })),
        );
        Self::of(text).ok()
    }

    fn leaving(&self, node: &str) -> Option<Leaving> {
        self.record()?.leaving.clone().filter(|leaving| leaving.node == node)
    }

    fn with_leaving(&self, leaving: Option<&Leaving>) -> Option<Self> {
        let mut text = self.text.clone();
        text.insert("leaving".to_owned(), leaving.map_or(Value::Null, Leaving::json));
        Self::of(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Document;

    fn node(id: &str) -> NodeId {
        id.parse().unwrap()
    }

    fn founded() -> Secrets {
        Secrets::empty().found(&node("n1"), "mark", Timestamp::UNIX_EPOCH).unwrap()
    }

    fn leaving(secrets: &Secrets) -> Option<Leaving> {
        secrets.record().unwrap().leaving.clone()
    }

    #[test]
    fn one_leaves_at_a_time_and_only_forward() {
        let (one, two) = (node("n1"), node("n2"));
        let begun = founded().begin_leaving(&one, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(Secrets::parse(begun.render().as_bytes()), Ok(begun.clone()));
        assert_eq!(begun.begin_leaving(&two, Timestamp::UNIX_EPOCH), None);
        assert_eq!(begun.forget(&two, Timestamp::UNIX_EPOCH), None);
        assert_eq!(begun.advance_leaving(&two, Stage::Stopped), None);
        let stopping = begun.advance_leaving(&one, Stage::Stopping).unwrap();
        assert_eq!(stopping.advance_leaving(&one, Stage::Moving), None);
        assert_eq!(stopping.stay(&one), None, "it was told to end");
        assert_eq!(leaving(&begun.stay(&one).unwrap()), None);
        let dead = stopping.forget(&one, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(leaving(&dead).unwrap().stage, Stage::Stopped);
        let left = dead.left(&one, &two).unwrap();
        assert_eq!(leaving(&left), None);
        assert_eq!(left.record().unwrap().founder, "n2");
        assert_eq!(left.left(&one, &two), None);
    }

    #[test]
    fn the_witness_of_the_one_who_leaves_passes_to_another_under_a_new_name() {
        let (one, two) = (node("n1"), node("n2"));
        assert_eq!(founded().take_witness(&two), None, "nobody leaves");
        let begun = founded().begin_leaving(&one, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(begun.take_witness(&one), None, "not the one who leaves");
        let taken = begun.take_witness(&two).unwrap();
        assert_eq!(taken.record().unwrap().witness.as_ref().unwrap().name, "w-n2-2");
        assert_eq!(leaving(&taken).unwrap().witness.unwrap().name, "w-n1-1");
        assert_eq!(taken.take_witness(&node("n3")), None, "it is taken");
        assert_eq!(taken.discharge_left_witness("w-n2-2"), None);
        let gone = taken.discharge_left_witness("w-n1-1").unwrap();
        assert_eq!(leaving(&gone).unwrap().witness, None);
    }

    #[test]
    fn a_stand_in_has_the_name_of_the_dead_witness() {
        let (one, two) = (node("n1"), node("n2"));
        assert_eq!(founded().stand_in(&one, &two), None, "nobody is dead");
        let dead = founded().forget(&one, Timestamp::UNIX_EPOCH).unwrap();
        let back = dead.stand_in(&one, &two).unwrap();
        let duty = back.record().unwrap().witness.clone().unwrap();
        assert_eq!((duty.node.as_str(), duty.name.as_str()), ("n2", "w-n1-1"));
        assert_eq!(back.record().unwrap().stand_in.as_deref(), Some("w-n1-1"));
        assert_eq!(back.stand_in(&one, &two), None, "it stands in already");
        assert_eq!(back.left(&one, &two).unwrap().record().unwrap().stand_in, None);
        let gone = dead.discharge_witness("w-n1-1").unwrap();
        assert_eq!(gone.stand_in(&one, &two), None, "never under the name of a node");
    }

    #[test]
    fn a_stage_that_nobody_knows_is_corrupt() {
        let text = founded().begin_leaving(&node("n1"), Timestamp::UNIX_EPOCH).unwrap().render();
        let text = text.replace("\"moving\"", "\"flying\"");
        assert!(Secrets::parse(text.as_bytes()).unwrap_err().0.contains("leaving.stage"));
    }
}
