//! The flows that cross binaries: whole agents, real nats-servers, real files, real signals; and the rules that
//! the repository keeps.

mod architecture;
mod engine;
