//! forest-agent: turns a bare machine into a healthy node of a NATS cluster, and keeps it one.

pub mod child;
pub mod durable;
pub mod engine;
pub mod fault;
pub mod settings;
pub mod share;
