//! Stands in for NimsForest in tests: see [`forest_tests::stand_in`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    forest_tests::stand_in::main(&args)
}
