//! The engine: the child with the NATS server in it, nats-server itself or NimsForest.
//!
//! What is here: how the child is started ([`nats_server`], [`nimsforest`]), where its executable comes
//! from ([`binary`], [`download`]), how it answers ([`probe`], [`verdict`]) and what its last words mean
//! ([`diagnose`], [`ports`]). Running it is the supervisor's work; when, is the driver's. Nothing here deletes
//! data, and nothing here touches the share.

pub mod behind;
pub mod binary;
pub mod client;
pub mod diagnose;
pub mod download;
pub mod lame_duck;
pub mod limits;
pub mod monitor;
pub mod nats_config;
pub mod nats_server;
pub mod nimsforest;
pub mod planned;
pub mod ports;
pub mod probe;
pub mod restart;
pub mod started;
pub mod verdict;
pub mod version;
