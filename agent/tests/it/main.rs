//! What forest-agent promises to those outside: one binary for all of it.

mod settings;
