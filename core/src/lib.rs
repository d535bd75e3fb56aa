//! What every program of a forest agrees on: ids, addresses, the shared registry, node-info.json and the
//! health report, and how settings are read. Nothing here knows of tokio or HTTP; the registry's algorithm touches files only through
//! the [`registry::Door`] it is given.

pub mod address;
pub mod error;
pub mod health;
pub mod id;
pub mod node_info;
pub mod reason;
pub mod registry;
pub mod secrets;
pub mod suggest;
pub mod time;
pub mod yaml;
