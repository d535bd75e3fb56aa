//! The test kit: agents with everything they need in a directory of their own, real nats-servers, a file system
//! that hangs, a stand-in for NimsForest, and a fake of Hetzner Cloud
//! with simulated machines behind it. Whatever a test starts ends with the test.

pub mod apache;
pub mod bounded;
pub mod client;
pub mod cloud;
pub mod hangfs;
pub mod hetzner;
pub mod http;
pub mod lab;
pub mod nats;
pub mod node;
pub mod ports;
pub mod process;
pub mod programs;
pub mod readers;
pub mod running;
pub mod schema;
pub mod stand_in;
pub mod terminal;
pub mod traces;
pub mod vm;
pub mod wait;
