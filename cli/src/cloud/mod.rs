//! Cloud mode: the nodes of a forest are servers of a provider.
//!
//! What to do next is always worked out from what there is, so that a command that was cut short anywhere is
//! finished by running it again:
//!
//! ```text
//!   wish (record, configuration) ──┐
//!                                  ├─► plan::steps / removal::steps, pure ──► raise / fell: carried out at once
//!   seen (what the API lists) ─────┘                 ▲                                  │
//!                                                    └────────── looked at again ◄──────┘
//! ```
//!
//! Everything that is made bears labels and a name that follows from the forest; the API lets a name be had once,
//! so nothing comes twice, neither after a lost answer nor with two laptops at the same moment.

pub mod elf;
pub mod fell;
mod fetch;
pub mod forest;
pub mod key;
pub mod labels;
pub mod offers;
pub mod plan;
pub mod planting;
pub mod preflight;
pub mod programs;
pub mod raise;
pub mod ready;
pub mod record;
pub mod removal;
pub mod repair;
pub mod seen;
pub mod shrink;
pub mod site;
pub mod ssh;
pub mod told;
pub mod upgrade;
