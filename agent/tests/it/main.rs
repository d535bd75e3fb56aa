//! The agent's modules against the real thing, in one binary.

// Marked as tests, so that their helpers may unwrap as tests do.
#[cfg(test)]
mod child;
#[cfg(test)]
mod settings;
