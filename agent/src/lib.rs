//! forest-agent: turns a bare machine into a healthy node of a NATS cluster, and keeps it one.

pub mod child;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod driver;
pub mod engine;
pub mod fault;
pub mod files;
pub mod firewall;
pub mod follow;
pub mod health;
pub mod instance;
pub mod logging;
pub mod probe;
pub mod removal;
pub mod settings;
pub mod share;
pub mod signals;
pub mod steps;
pub mod systemd;
