//! A stand-in for NimsForest: the same command, environment, ports, exit codes and log lines, as measured on the
//! real program, around a real nats-server, with its known faults on demand.
//!
//! `forest run` (or no argument): reads node-info.json and, once, the registry; listens on a random client port,
//! on `*:8222`, and on `*:6222` only if the registry lists a peer. Without a meta leader it exits 1 after 10.3 s.
//! TERM and INT end it with 0, HUP it ignores, USR2 is lame duck. Its nats-server dies with it, however it dies.
//!
//! Beyond the real program's variables it knows those of its `settings` module, all beginning with `STAND_IN_`.

mod life;
mod registry;
mod server;
mod settings;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use settings::Settings;

/// Runs it with `args`, the program's name left out.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    let texts: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    match texts[..] {
        [] | ["run" | "start"] => {}
        [server::INNER, parent, program, config] => return server::become_server(parent, program, config),
        _ => return fail("usage: stand-in-nimsforest [run|start]"),
    }
    let settings = match Settings::from_env(|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(err) => return fail(&err),
    };
    // One thread: the nats-server is tied to the life of the thread that spawns it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(life::run(&settings)),
        Err(err) => fail(&err.to_string()),
    }
}

/// Prints a line as Go's fmt does.
fn say(line: &str) {
    // A reader that has gone is noticed by the next signal, not here.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a line as Go's log.Fatal does, and is exit code 1.
fn fail(line: &str) -> ExitCode {
    let stamp = jiff::Timestamp::now().strftime("%Y/%m/%d %H:%M:%S");
    let _ = writeln!(io::stderr(), "{stamp} {line}");
    ExitCode::FAILURE
}

/// Where a test finds the built stand-in, given any binary of the same build, such as
/// `std::env::current_exe()`.
///
/// # Panics
/// It is not built.
#[must_use]
pub fn binary() -> PathBuf {
    let here = std::env::current_exe().expect("the test's own path");
    let found = here
        .ancestors()
        .skip(1)
        .take(3)
        .map(|dir| dir.join("stand-in-nimsforest"))
        .find(|path| path.is_file());
    found.expect("stand-in-nimsforest is built with this package")
}
