//! The commands: each takes its arguments and says what came of it.

mod config;
mod grow;
mod logs;
mod plant;
mod remote;
mod shrink;
mod table;
mod teardown;
mod upgrade;
mod view;

use clap::CommandFactory as _;
use forest_core::reason::Reason;
use serde_json::Value;

use crate::args::{Cli, Command};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::local::Local;
use crate::ui::{Done, Ui};

/// Runs the command.
///
/// # Errors
/// [`Failure`], whose exit code is the process's.
pub async fn run(cli: Cli, env: &Environment, ui: &Ui) -> Result<Done, Failure> {
    let named = cli.global.config.as_deref();
    let local = || Local::open(env);
    match cli.command {
        Command::Plant(args) => plant::run(&args, named, env, ui).await,
        Command::Grow(args) => grow::run(&local()?, &args, ui).await,
        Command::Upgrade(args) => upgrade::run(&local()?, &args, ui).await,
        Command::Shrink(args) => shrink::run(&local()?, &args, ui).await,
        Command::Teardown { forest } => teardown::run(&local()?, &forest, ui).await,
        Command::List => view::list(&local()?, remote::store(named, env)?.as_ref()),
        Command::Status { forest } => view::status(&local()?, || remote::store(named, env), &forest).await,
        Command::Logs(args) => logs::run(&local()?, &args, ui).await,
        Command::Init => config::init(named, env),
        Command::Config(args) => config::run(&args, named, env),
        Command::Completions { shell } => completions(shell),
        Command::Detach { .. } => Err(Failure::new(Reason::Usage, "detach stands at main alone")),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<Done, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "morpheus", &mut script);
    let script = String::from_utf8_lossy(&script).trim_end().to_owned();
    Ok(Done::new(serde_json::json!({"shell": shell.to_string(), "script": script}), script))
}

/// A report as JSON.
fn json(report: &impl serde::Serialize) -> Value {
    serde_json::to_value(report).unwrap_or_default()
}
