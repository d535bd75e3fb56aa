//! `secrets/<forest_id>.json`: who founded a forest, who keeps its witness, and the credentials by which its
//! servers know each other. A document like the registry, changed by the same algorithm under the same lease.
//!
//! Unknown keys are kept. Nothing here shows a password: not `Debug`, not an error. [`Leaving`] has what is recorded
//! while a node goes for good, [`rotation`] what while credentials are replaced.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::id::{ForestId, NodeId};
use crate::node_info::kind;
use crate::registry::{Corrupt, Document, Files};
use crate::time::rfc3339;

pub use leaving::{Leaving, Stage};
pub use rotation::{InForce, Progress, Rotation};

mod leaving;
pub mod rotation;

/// The directory of the secrets, beside the registry.
pub const DIR: &str = "secrets";

/// Characters of a generated password; 6 bits each.
const PASSWORD_CHARS: usize = 43;
/// What stands for itself in a URL, so that a password can travel in a route's address.
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The files of a forest's secrets, relative to the registry's directory.
#[must_use]
pub fn files(forest: &ForestId) -> Files {
    Files::of(&format!("{DIR}/{forest}.json"))
}

/// A password; `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A new one: 256 bits, of characters that need no escape in a URL.
    #[must_use]
    pub fn generate() -> Self {
        let char = |_| char::from(URL_SAFE[usize::from(rand::random::<u8>() % 64)]);
        Self((0..PASSWORD_CHARS).map(char).collect())
    }

    /// The text, for a file that only its owner reads.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A user with its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Password,
}

impl Credentials {
    /// `user` with a new password.
    #[must_use]
    pub fn generate(user: &str) -> Self {
        Self { user: user.to_owned(), password: Password::generate() }
    }

    fn json(&self) -> Value {
        json!({"user": self.user, "password": self.password.expose()})
    }
}

/// Who keeps the witness, and under which name it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    /// The node whose agent keeps it.
    pub node: String,
    /// Its server_name.
    pub name: String,
    /// Counts the witnesses of the forest; never used twice.
    pub epoch: u64,
    /// It has been in the group, and may be taken out from now on: where it is not counted it is out, and never comes
    /// back under this name.
    pub retiring: bool,
}

impl Duty {
    fn new(node: &NodeId, epoch: u64) -> Self {
        Self { node: node.to_string(), name: format!("w-{node}-{epoch}"), epoch, retiring: false }
    }
}

/// Everything of a founding, in typed form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The node that founded the forest.
    pub founder: String,
    /// Tells this founding from any other of a forest of the same name.
    pub founding: String,
    /// Who keeps the witness; `None`: there are real nodes enough.
    pub witness: Option<Duty>,
    /// The node whose turn it is to join the group on an empty store; one at a time.
    pub joining: Option<String>,
    /// The node that goes for good; one at a time.
    pub leaving: Option<Leaving>,
    /// The witness of this name may begin on an empty store without a leader: it stands in for a server that is dead.
    pub stand_in: Option<String>,
    /// How servers of the forest know each other.
    pub route: Credentials,
    /// The user of the system account.
    pub sys: Credentials,
    /// How often both were replaced.
    pub rotations: u64,
    /// Those that are to replace them.
    pub rotation: Option<Rotation>,
    /// A rotation is recorded, and not yet that all nodes are through it.
    pub is_rotating: bool,
}

/// The document: empty before the founding.
#[derive(Clone, PartialEq)]
pub struct Secrets {
    text: Map<String, Value>,
    record: Option<Record>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secrets").field(&self.record).finish()
    }
}

impl Secrets {
    /// What was recorded; `None`: the forest is not founded.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// The founding of a forest by `node`, which keeps the first witness too; `None` where it is founded already.
    /// `founding` is the mark that `node` has kept for itself before.
    #[must_use]
    pub fn found(&self, node: &NodeId, founding: &str, now: Timestamp) -> Option<Self> {
        if self.record.is_some() {
            return None;
        }
        let mut text = self.text.clone();
        let sys = Credentials::generate("agent").json();
        for (key, value) in [
            ("founder", node.as_str().into()),
            ("founded_at", rfc3339(now).into()),
            ("founding", founding.into()),
            ("witness", duty_json(Some(&Duty::new(node, 1)))),
            ("witness_epoch", 1.into()),
            ("route", Credentials::generate("route").json()),
            ("sys", sys),
        ] {
            text.insert(key.to_owned(), value);
        }
        Self::of(text).ok()
    }

    /// `node` takes the duty of a witness that nobody has, or that the node has which leaves: whose witness then
    /// stands in the record of its leaving, until it is out of the group. `None` where somebody has it.
    #[must_use]
    pub fn take_witness(&self, node: &NodeId) -> Option<Self> {
        let record = self.record.as_ref()?;
        let mut text = self.text.clone();
        if let Some(duty) = &record.witness {
            let leaving = record.leaving.clone()?;
            if leaving.node != duty.node || leaving.node == node.as_str() || leaving.witness.is_some() {
                return None;
            }
            let leaving = Leaving { witness: Some(duty.clone()), ..leaving };
            text.insert("leaving".to_owned(), leaving.json());
        }
        let epoch = self.epoch() + 1;
        text.insert("witness".to_owned(), duty_json(Some(&Duty::new(node, epoch))));
        text.insert("witness_epoch".to_owned(), epoch.into());
        Self::of(text).ok()
    }

    /// The witness `name` may be taken out of the group; `None` where that is recorded, or it is not the recorded one.
    #[must_use]
    pub fn retire_witness(&self, name: &str) -> Option<Self> {
        let duty =
            self.record.as_ref()?.witness.clone().filter(|duty| duty.name == name && !duty.retiring)?;
        let mut text = self.text.clone();
        text.insert("witness".to_owned(), duty_json(Some(&Duty { retiring: true, ..duty })));
        Self::of(text).ok()
    }

    /// The witness `name` is no more; `None` where it is not the recorded one.
    #[must_use]
    pub fn discharge_witness(&self, name: &str) -> Option<Self> {
        if self.record.as_ref()?.witness.as_ref()?.name != name {
            return None;
        }
        let mut text = self.text.clone();
        text.insert("witness".to_owned(), Value::Null);
        // Also where an earlier program kept no count: no name may come twice.
        text.insert("witness_epoch".to_owned(), self.epoch().into());
        Self::of(text).ok()
    }

    /// It is `node`'s turn to join, where it was `before`'s, or nobody's; `None` where it was another's by now.
    #[must_use]
    pub fn take_turn(&self, node: &NodeId, before: Option<&str>) -> Option<Self> {
        let current = self.record.as_ref()?.joining.as_deref();
        let due = current == before && current != Some(node.as_str());
        due.then(|| self.with_turn(Some(node.as_str())))
    }

    /// `node` has joined; `None` where it was not its turn.
    #[must_use]
    pub fn end_turn(&self, node: &NodeId) -> Option<Self> {
        let mine = self.record.as_ref()?.joining.as_deref() == Some(node.as_str());
        mine.then(|| self.with_turn(None))
    }

    fn with_turn(&self, node: Option<&str>) -> Self {
        let mut next = self.clone();
        next.text.insert("joining".to_owned(), node.into());
        if let Some(record) = &mut next.record {
            record.joining = node.map(str::to_owned);
        }
        next
    }

    /// The names of all witnesses that these nodes may have kept so far.
    pub fn witnesses<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = String> {
        let epochs = self.epoch();
        let nodes = nodes.into_iter().map(str::to_owned);
        nodes.flat_map(move |node| (1..=epochs).map(move |epoch| format!("w-{node}-{epoch}")))
    }

    /// The highest epoch that a witness has had.
    fn epoch(&self) -> u64 {
        let counted = self.text.get("witness_epoch").and_then(Value::as_u64).unwrap_or_default();
        let current = self.record.as_ref().and_then(|record| record.witness.as_ref());
        counted.max(current.map_or(0, |duty| duty.epoch))
    }

    fn of(text: Map<String, Value>) -> Result<Self, Corrupt> {
        let record = if text.get("founder").is_none_or(Value::is_null) { None } else { Some(read(&text)?) };
        Ok(Self { text, record })
    }
}

impl Document for Secrets {
    fn parse(bytes: &[u8]) -> Result<Self, Corrupt> {
        // serde_json's errors name a position and what was expected there, never a value of the text.
        let value = serde_json::from_slice(bytes)
            .map_err(|err| Corrupt(format!("not JSON: line {} column {}", err.line(), err.column())))?;
        let Value::Object(text) = value else {
            return Err(Corrupt(format!("the file holds {} where an object is due", kind(&value))));
        };
        Self::of(text)
    }

    fn render(&self) -> String {
        format!("{:#}\n", Value::Object(self.text.clone()))
    }

    fn empty() -> Self {
        Self { text: Map::new(), record: None }
    }
}

fn duty_json(duty: Option<&Duty>) -> Value {
    duty.map_or(Value::Null, |Duty { node, name, epoch, retiring }| {
        let mut json = json!({"node": node, "name": name, "epoch": epoch});
        if *retiring {
            json["retiring"] = true.into();
        }
        json
    })
}

fn read(text: &Map<String, Value>) -> Result<Record, Corrupt> {
    let witness = match text.get("witness") {
        None | Some(Value::Null) => None,
        Some(duty) => Some(read_duty(duty)?),
    };
    let (rotations, rotation, is_rotating) = rotation::read(text)?;
    Ok(Record {
        rotations,
        rotation,
        is_rotating,
        founder: word(text.get("founder"), "founder")?,
        founding: word(text.get("founding"), "founding")?,
        witness,
        joining: match text.get("joining") {
            None | Some(Value::Null) => None,
            node => Some(word(node, "joining")?),
        },
        leaving: match text.get("leaving") {
            None | Some(Value::Null) => None,
            Some(leaving) => Some(Leaving::read(leaving)?),
        },
        stand_in: match text.get("stand_in") {
            None | Some(Value::Null) => None,
            name => Some(word(name, "stand_in")?),
        },
        route: credentials(text.get("route"), "route")?,
        sys: credentials(text.get("sys"), "sys")?,
    })
}

fn read_duty(value: &Value) -> Result<Duty, Corrupt> {
    let epoch = value.get("epoch").and_then(Value::as_u64);
    Ok(Duty {
        node: word(value.get("node"), "witness.node")?,
        name: word(value.get("name"), "witness.name")?,
        epoch: epoch.ok_or_else(|| Corrupt("witness.epoch is not a whole number".to_owned()))?,
        retiring: value.get("retiring").and_then(Value::as_bool).unwrap_or_default(),
    })
}

fn credentials(value: Option<&Value>, place: &str) -> Result<Credentials, Corrupt> {
    let part = |key: &str| word(value.and_then(|value| value.get(key)), &format!("{place}.{key}"));
    Ok(Credentials { user: part("user")?, password: Password(part("password")?) })
}

/// A value that can stand in a URL and in a configuration as it is.
fn word(value: Option<&Value>, place: &str) -> Result<String, Corrupt> {
    let text = value.and_then(Value::as_str);
    let safe = |text: &&str| !text.is_empty() && text.bytes().all(|byte| URL_SAFE.contains(&byte));
    text.filter(safe)
        .map(str::to_owned)
        .ok_or_else(|| Corrupt(format!("{place} is not a word of letters, digits, - and _")))
}

#[cfg(test)]
mod tests;
