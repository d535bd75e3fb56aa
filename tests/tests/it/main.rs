//! The flows that cross binaries, and the rules that no single crate can see broken: one binary for all of it.

mod architecture;
