//! The flows that cross crates, in one binary.

// Marked as tests, so that their helpers may unwrap as tests do.
#[cfg(test)]
mod engine;
