//! The node's own firewall: who may connect to the forest's ports on this machine.
//!
//! ```text
//! settings, registry ──► policy ──► table   (nftables, one table of our own)
//!                          │   └──► ufw     (its own rules with our comment, where ufw is active)
//!                          └──────► blocker (do the rules of others drop what ours let in?)
//! ```
//!
//! All of these are pure; [`keeper`] compares and acts, and [`tools`] alone runs programs. Only ports of the forest are touched, and of what leaves
//! the machine only what goes to the metadata service: nobody is locked out of ssh, and SMB passes. The table is
//! replaced whole, in one transaction.

pub mod blocker;
pub mod keeper;
pub mod packet;
pub mod policy;
pub mod table;
pub mod tools;
pub mod ufw;

/// By what our rules are known: the table's name, and the comment of our rules in ufw. Each installation has its
/// own, so that two agents on one machine leave each other's rules alone.
#[must_use]
pub fn tag(instance: &str) -> String {
    format!("forest_agent_{instance}")
}
