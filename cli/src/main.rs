//! morpheus: parses, hands over, and turns the outcome into output and an exit code.

use std::process::ExitCode;

use morpheus::args::{self, Command};
use morpheus::environment::Environment;
use morpheus::failure::Failure;
use morpheus::local::launch;
use morpheus::ui::Ui;

fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(refusal) => return refusal.show(),
    };
    if let Command::Detach { program, arguments } = &cli.command {
        return launch::become_program(program, arguments);
    }
    let ui = Ui::new(&cli.global);
    match start(cli, &ui) {
        Ok(code) => code,
        Err(failure) => ui.failed(&failure),
    }
}

fn start(cli: args::Cli, ui: &Ui) -> Result<ExitCode, Failure> {
    morpheus::install_tls();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::no_runtime)?;
    let done = runtime.block_on(morpheus::run(cli, &Environment::of_process(), ui))?;
    Ok(ui.done(&done))
}
