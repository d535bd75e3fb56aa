//! The commands: each takes its arguments and says what came of it.

mod check;
mod cloud;
mod config;
mod connect;
mod grow;
mod logs;
mod plant;
mod remote;
mod resolve;
mod rotate;
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
use crate::ui::{Done, Ui};
use resolve::Resolved;

/// Runs the command.
///
/// # Errors
/// [`Failure`], whose exit code is the process's.
pub async fn run(cli: Cli, env: &Environment, ui: &Ui) -> Result<Done, Failure> {
    let named = cli.global.config.as_deref();
    let resolve = |forest: &str| resolve::resolve(forest, named, env);
    match cli.command {
        Command::Plant(args) => plant::run(&args, named, env, ui).await,
        Command::Grow(args) => match resolve(&args.forest)? {
            Resolved::Local(local, forest) => grow::run(&local, &forest, &args, ui).await,
            Resolved::Remote(there) => cloud::grow::run(&there, &args, named, env, ui).await,
        },
        Command::Upgrade(args) if args.agent.is_none() && args.engine.is_none() => {
            let message = "say what to upgrade: --agent FILE, --engine FILE, or both";
            Err(Failure::new(Reason::Usage, message))
        }
        Command::Upgrade(args) => match resolve(&args.forest)? {
            Resolved::Local(local, forest) => upgrade::run(&local, &forest, &args, ui).await,
            Resolved::Remote(there) => cloud::upgrade::run(&there, &args, named, env, ui).await,
        },
        Command::RotateSecrets(args) => match resolve(&args.forest)? {
            Resolved::Local(local, forest) => rotate::local(&local, &forest, &args, ui).await,
            Resolved::Remote(there) => rotate::remote(&there, &args, named, env, ui).await,
        },
        Command::Shrink(args) => match resolve(&args.forest)? {
            Resolved::Local(local, forest) => shrink::run(&local, &forest, &args, ui).await,
            Resolved::Remote(there) => cloud::shrink::run(&there, &args, named, env, ui).await,
        },
        Command::Teardown { forest } => match resolve(&forest)? {
            Resolved::Local(local, forest) => teardown::run(&local, &forest, ui).await,
            Resolved::Remote(there) => cloud::teardown::run(&there, named, env, ui).await,
        },
        Command::List => view::list(resolve::local(env)?.as_ref(), remote::store(named, env)?.as_ref()),
        Command::Status { forest } => match resolve(&forest)? {
            Resolved::Local(local, forest) => view::status(&local, &forest).await,
            Resolved::Remote(there) => view::remote_status(&there, named, env).await,
        },
        Command::Logs(args) => match resolve(&args.forest)? {
            Resolved::Local(local, forest) => logs::run(&local, &forest, &args, ui).await,
            Resolved::Remote(there) => cloud::logs::run(&there, &args, named, env, ui).await,
        },
        Command::Connect(args) => connect::run(resolve(&args.forest)?, &args, named, env, ui).await,
        Command::Check { part } => check::run(part, named, env).await,
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
