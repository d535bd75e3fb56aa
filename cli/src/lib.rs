//! morpheus: plants, grows, watches and tears down forests of NATS servers.
//!
//! A command is a function from its arguments to a [`Done`](ui::Done) or a [`Failure`](failure::Failure);
//! what is decided is decided in pure functions (`local::record`, `local::network`, `report`), and only
//! [`ui`] prints. Nothing below main reads the process's environment. This crate never imports the agent: it
//! starts it as a program and asks it over HTTP.

pub mod agent;
pub mod args;
pub mod cloud;
mod commands;
pub mod config;
pub mod environment;
pub mod failure;
mod files;
pub mod hetzner;
pub mod local;
mod names;
pub mod probe;
pub mod progress;
pub mod report;
pub mod rotation;
pub mod shrinking;
pub mod store;
pub mod ui;
pub mod webdav;

pub use commands::run;

/// Installs the one TLS provider of the process; once more does nothing.
pub fn install_tls() {
    // A second call only says that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
