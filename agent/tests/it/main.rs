//! The agent's parts against the real system: one binary, one module for each part.

#[cfg(test)]
mod share;
