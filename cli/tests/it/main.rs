//! morpheus as a program, with stand-ins for forest-agent (see examples/fake-agent.rs).

mod configuration;
mod interrupted;
mod kit;
mod local;
mod schema;
mod usage;
