//! The test kit: stand-ins for what a forest meets, and helpers that the flows share.

pub mod nats;
pub mod running;
pub mod stand_in;
