//! The registry's WebDAV door, against a real Apache: the suites of the file-system door, run over this one, both
//! doors at once, and what the server's answers become. A binary of its own, since those suites are core's.

#[cfg(test)]
#[path = "../../../core/tests/it/bench.rs"]
#[expect(dead_code, reason = "core's own suites use more of it")]
mod bench;
#[cfg(test)]
mod both_doors;
#[cfg(test)]
mod dav;
#[cfg(test)]
#[path = "../../../core/tests/it/every_call.rs"]
#[expect(dead_code, reason = "not every starting point is tried here")]
mod every_call;
#[cfg(test)]
mod faults;
#[cfg(test)]
#[path = "../../../core/tests/it/faulty.rs"]
#[expect(dead_code, reason = "not every fault is tried here")]
mod faulty;
#[cfg(test)]
mod laptop;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod stopped;
