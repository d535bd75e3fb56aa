//! The registry's second door: WebDAV, by which the laptop reaches the directory that the nodes have mounted.
//!
//! [`WebDav`] is the file system's sibling under the one update algorithm (`forest_core::registry`); nothing of
//! the algorithm is written here. What HTTP cannot do as a file system does is spelled out in [`door`].
//!
//! - [`Place`] is the URL, as a directory and a file; [`propfind`] reads listings, [`answer`] what a status means,
//!   `state` what a file's headers say of its state: pure, all of them.
//! - [`Http`] is one exchange, [`Client`] the real one.
//!
//! Promises: user and password go to the configured host alone, since no redirect is followed; neither is ever
//! part of a URL, an error, a log or `Debug`. Every call ends in time.

pub mod answer;
mod bridge;
pub mod dirs;
pub mod door;
pub mod http;
pub mod place;
pub mod propfind;
pub mod shelf;
mod state;

pub use door::WebDav;
pub use http::{Answer, Client, Http, HttpError, Login, Request};
pub use place::{Place, PlaceError};
pub use shelf::Shelf;
