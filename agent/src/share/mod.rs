//! The share: a StorageBox, or any CIFS server, mounted by the agent itself.
//!
//! [`ShareStep`] is what the driver uses: look, act, open. It calls mount(2) directly, without mount.cifs: it
//! resolves the name, tries the port, and passes the password in the system call's data, nowhere else. It never
//! mounts over anything, detaches nothing but its own dead mount, and never blocks its caller: whatever may
//! hang runs in a [`lane`], one thread each, with a deadline.
//!
//! ```text
//!   look ── mountinfo ── probe (statfs, one readdir)      Absent ─┐
//!                                                         Dead ───┤ (ours alone)
//!   act ─── look ── password ── resolve ── TCP connect ───────────┴─► detach ── mount(2) ── look
//! ```

mod blocking;
pub mod cifs;
pub mod dir;
pub mod errno;
pub mod lane;
pub mod mounter;
pub mod mountinfo;
pub mod password;
pub mod resolve;
mod step;

pub use dir::ShareDir;
pub use step::{Limits, Look, ShareStep};
