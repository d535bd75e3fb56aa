//! The flows that cross binaries: whole agents, real nats-servers, real files, real signals; and the rules that
//! the repository keeps.

// Marked as tests, so that their helpers may unwrap as tests do.
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod cloud;
#[cfg(test)]
mod cloud_init;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod corruption;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod engine_faults;
#[cfg(test)]
mod firewall;
#[cfg(test)]
mod hang;
#[cfg(test)]
mod hetzner;
#[cfg(test)]
mod hetzner_cloud;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod morpheus;
#[cfg(test)]
mod network;
#[cfg(test)]
mod nimsforest;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod register;
#[cfg(test)]
mod rogue;
#[cfg(test)]
mod share;
#[cfg(test)]
mod share_away;
#[cfg(test)]
mod witness_binary;
