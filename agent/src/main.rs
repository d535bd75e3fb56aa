//! forest-agent: parses the command line and hands over.

use std::process::ExitCode;

use clap::Parser;
use forest_agent::cli::Cli;
use forest_agent::commands::{self, Environment};

fn main() -> ExitCode {
    // Before any TLS: reqwest and async-nats must agree on one provider, or rustls panics at the first handshake.
    let provider = rustls::crypto::ring::default_provider().install_default();
    debug_assert!(provider.is_ok(), "nothing installs a provider before main");
    commands::run(&Cli::parse(), &Environment::of_process())
}
