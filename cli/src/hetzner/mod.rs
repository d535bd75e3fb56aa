//! Hetzner Cloud: a thin client of its API, no more than morpheus needs of it.
//!
//! - [`access`] finds the token and the endpoint, [`wire`] is what is asked and answered, [`calls`] the calls.
//! - `transport` makes one call, with everything that every call needs: the token, a bound on time, size and
//!   number, the rate budget, and the retries. Nothing else retries.
//! - [`error`] says what failed under a reason code, and what a person can do.
//!
//! It promises: an unknown word or a missing field of an answer is no failure; a call that may have had its effect
//! is made again only where the API refuses a second of the same name; the token is in no error and no `Debug`.

pub mod access;
pub mod actions;
mod budget;
pub mod calls;
pub mod error;
mod transport;
pub mod wire;

pub use access::Access;
pub use calls::Hetzner;
pub use error::{ApiError, Code};
pub use transport::Timing;
