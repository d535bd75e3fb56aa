//! The test kit: agents with everything they need in a directory of their own, real nats-servers, a file system
//! that hangs, and a stand-in for NimsForest. Whatever a test starts ends with the test.

pub mod apache;
pub mod client;
pub mod hangfs;
pub mod http;
pub mod lab;
pub mod nats;
pub mod node;
pub mod process;
pub mod running;
pub mod stand_in;
pub mod wait;
