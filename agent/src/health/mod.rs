//! /health and its neighbours: a snapshot that the driver publishes, the report made from it, and the server
//! that answers from memory alone.

pub mod client;
mod events;
pub mod metrics;
mod report;
mod server;
mod snapshot;

pub use events::{EventRecord, Events};
pub use report::{Audience, report};
pub use server::{Forest, Server, router};
pub use snapshot::{EngineView, Finding, Findings, Observed, Peer, Snapshot};
