//! The test kit: what the flows that cross binaries need around them.

pub mod hangfs;
