//! `make demo`: first a forest of three, then what one node of it is made of, shown step by step with the programs
//! a user would type. Everything happens on loopback addresses, below temp directories, and ends with the
//! demo.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a demo is there to print")]

mod forest;
mod one_node;

use std::process::ExitCode;

use forest_tests::nats;

fn main() -> ExitCode {
    let engine = nats::server();
    match forest::play(&engine).and_then(|()| one_node::play(&engine)) {
        Ok(()) => {
            say(
                "that was it. README.md goes on from here; `morpheus --help` and `forest-agent --help` tell the rest.",
            );
            ExitCode::SUCCESS
        }
        Err(err) => {
            eprintln!("the demo failed: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    println!("\n==> {text}");
}

fn print_indented(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
}
