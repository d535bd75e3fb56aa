//! What a step of the convergence is: a name, a look and an act.

use futures::future::BoxFuture;

use crate::driver::seen::{Fact, Seen};
use crate::fault::Fault;

/// The steps of `run`, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepName {
    /// The node's address is known.
    Address,
    /// The share is mounted and answers; without one, the registry's directory is there.
    Share,
    /// node-info.json says who we are.
    NodeInfo,
    /// JetStream's directory is there.
    DataDir,
    /// The engine's executable is there.
    Binaries,
    /// The forest is founded, and its secrets are there.
    Secrets,
    /// Our entry stands in the registry.
    Registry,
    /// The node's firewall lets in whom it should, and nobody else.
    Firewall,
    /// Nobody leaves the forest, or it goes on.
    Leave,
    /// No standalone store is being taken over.
    TakeOver,
    /// The witness runs where and as long as it is needed.
    Witness,
    /// The engine is wanted as it should be.
    Engine,
}

impl StepName {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Address,
        Self::Share,
        Self::NodeInfo,
        Self::DataDir,
        Self::Binaries,
        Self::Secrets,
        Self::Registry,
        Self::Firewall,
        Self::Leave,
        Self::TakeOver,
        Self::Witness,
        Self::Engine,
    ];

    /// The name as /health, /events and `check` have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Share => "share",
            Self::NodeInfo => "node_info",
            Self::DataDir => "data_dir",
            Self::Binaries => "binaries",
            Self::Secrets => "secrets",
            Self::Registry => "registry",
            Self::Firewall => "firewall",
            Self::Leave => "leave",
            Self::TakeOver => "take_over",
            Self::Witness => "witness",
            Self::Engine => "engine",
        }
    }

    /// What must stand before this one is looked at. The engine needs neither share nor entry: it starts from
    /// what was kept of the last good read, and says so itself where there is nothing. Nor does it wait for the
    /// firewall: where rules cannot be written, a node that serves and says so is better than none.
    #[must_use]
    pub fn needs(self) -> &'static [Self] {
        match self {
            Self::Address
            | Self::Share
            | Self::NodeInfo
            | Self::DataDir
            | Self::Binaries
            | Self::Firewall
            | Self::Leave
            | Self::TakeOver => &[],
            Self::Secrets => &[Self::Share],
            Self::Registry => &[Self::Address, Self::Share],
            Self::Witness => &[Self::Address],
            Self::Engine => &[Self::Address, Self::NodeInfo, Self::DataDir, Self::Binaries],
        }
    }
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// As it should be, with a few words for a person.
    Stands(String),
    /// Something is to be done; the fault says what is missing, in case it cannot be done.
    Differs(Fault),
}

/// A look's result, and what it learned for the steps behind it and for /health.
#[derive(Debug)]
pub struct Looked {
    /// `Err`: it cannot be said, or acting would not help.
    pub result: Result<Look, Fault>,
    /// What was learned on the way.
    pub facts: Vec<Fact>,
}

impl From<Result<Look, Fault>> for Looked {
    fn from(result: Result<Look, Fault>) -> Self {
        Self { result, facts: Vec::new() }
    }
}

impl Looked {
    /// A result with facts.
    pub fn with(result: Result<Look, Fault>, facts: Vec<Fact>) -> Self {
        Self { result, facts }
    }
}

/// A step: both halves are idempotent, and a look changes nothing that anybody else can see.
pub trait Step: Send + Sync {
    /// Compares what is with what should be.
    fn look(&self, seen: Seen) -> BoxFuture<'static, Looked>;

    /// Makes it so; the text says what was done.
    fn act(&self, seen: Seen) -> BoxFuture<'static, Result<String, Fault>>;
}
