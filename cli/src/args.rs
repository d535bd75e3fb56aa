//! The command line.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use forest_core::id::{ForestId, NodeId};
use forest_core::reason::Reason;
use serde_json::json;

use crate::failure::{Exit, Failure};

/// Plants, grows, watches and tears down forests of NATS servers.
#[derive(Debug, Parser)]
#[command(name = "morpheus", version, arg_required_else_help = true)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Ask nothing
    #[arg(long, short, global = true)]
    pub yes: bool,
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Plant a forest: `plant local medium` on this machine, `plant cloud medium` on a provider's
    Plant(Plant),
    /// Show how loaded a forest is; add nodes; start dead ones
    Grow(Grow),
    /// Let nodes leave a forest for good: what they alone have is moved first
    Shrink(Shrink),
    /// Give the nodes of a forest newer programs, one node at a time
    Upgrade(Upgrade),
    /// Replace the passwords by which the servers of a forest know each other; clients notice nothing
    RotateSecrets(RotateSecrets),
    /// Take a forest down: machines or processes, data, everything
    Teardown {
        /// The forest
        forest: String,
    },
    /// List the forests
    List,
    /// Show the health of a forest
    Status {
        /// The forest
        forest: String,
    },
    /// Show what the agents and engines of a forest wrote
    Logs(Logs),
    /// Open a way for clients to a forest: an ssh tunnel where its nodes are other machines
    Connect(Connect),
    /// Say what is wrong with the set-up of this laptop, and the fix
    Check {
        /// Only this part
        part: Option<Part>,
    },
    /// Write a configuration file to begin with
    Init,
    /// Look into the configuration, or change it
    #[command(subcommand)]
    Config(Config),
    /// Print a completion script
    Completions {
        /// For this shell
        shell: Shell,
    },
    /// Leave the terminal's session and become another program
    #[command(hide = true)]
    Detach {
        /// The program
        program: OsString,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Where to plant, and how many nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Word {
    /// Machines of the configured provider
    Cloud,
    /// This machine
    Local,
    /// 1 node
    Small,
    /// 3 nodes
    Medium,
    /// 5 nodes
    Large,
}

/// `plant`
#[derive(Debug, Args)]
pub struct Plant {
    /// Where, and how many nodes: small is 1, medium 3, large 5
    #[arg(value_name = "WHERE|SIZE", num_args = 0..=2)]
    pub words: Vec<Word>,
    /// How many nodes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub nodes: Option<u8>,
    /// The forest's name; a free one is made up
    #[arg(long, value_name = "NAME", value_parser = forest_name)]
    pub name: Option<ForestId>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait until all nodes are healthy
    #[command(flatten)]
    pub timeout: Timeout,
    /// The programs of the nodes
    #[command(flatten)]
    pub programs: Programs,
}

/// `--timeout`
#[derive(Debug, Clone, Copy, Args)]
pub struct Timeout {
    /// Wait this long for the nodes to be healthy: 60; of machines of a provider, 900 for new ones, 300 for each upgrade
    #[arg(long = "timeout", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: Option<u64>,
}

impl Timeout {
    /// A minute will do for processes of this machine.
    #[must_use]
    pub fn local(self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(60))
    }

    /// Programs are fetched, clients let go, a server restarted.
    #[must_use]
    pub fn restart(self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(300))
    }

    /// New machines boot, fetch, and join one after the other.
    #[must_use]
    pub fn cloud(self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(900))
    }
}

/// Programs that nodes run.
#[derive(Debug, Clone, Default, Args)]
pub struct Programs {
    /// forest-agent; else beside morpheus, else in PATH
    #[arg(long, value_name = "FILE")]
    pub agent_binary: Option<PathBuf>,
    /// nats-server; else as configured, else in PATH
    #[arg(long, value_name = "FILE", conflicts_with = "forest_binary")]
    pub engine_binary: Option<PathBuf>,
    /// NimsForest, in place of nats-server; of local nodes only one
    #[arg(long, value_name = "FILE")]
    pub forest_binary: Option<PathBuf>,
}

/// `grow`
#[derive(Debug, Args)]
pub struct Grow {
    /// The forest
    pub forest: String,
    /// Add this many nodes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub nodes: Option<u8>,
    /// Add a node if the load asks for it; implies --json
    #[arg(long, conflicts_with = "nodes")]
    pub auto: bool,
    /// With --auto: never more than this many in all
    #[arg(long, value_name = "N", default_value_t = 10, requires = "auto")]
    pub max_nodes: u8,
    /// With --auto: no further node within so long after the last one that was added
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "auto")]
    pub cooldown: u32,
    /// The average CPU load, in percent, from which a forest counts as loaded
    #[arg(long, value_name = "PCT", default_value_t = 80.0, value_parser = percent)]
    pub threshold: f64,
    /// Start the agents that do not run, also after a reboot; of a provider's machines: bring record, machines and
    /// entries together again
    #[arg(long)]
    pub repair: bool,
    /// How long to wait until all nodes are healthy
    #[command(flatten)]
    pub timeout: Timeout,
    /// The programs of new nodes, where the forest's are not on the share any more
    #[command(flatten)]
    pub programs: Programs,
}

/// `connect`
#[derive(Debug, Args)]
pub struct Connect {
    /// The forest
    pub forest: String,
    /// One of its nodes; else the first that is well
    pub node: Option<String>,
    /// The port on this machine
    #[arg(long, value_name = "PORT", default_value_t = 4222)]
    pub port: u16,
}

/// What `check` looks into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The configuration file
    Config,
    /// IPv6, and the provider's API with its token
    Network,
    /// ssh, and the key for new machines
    Ssh,
    /// The share with the registry
    Storage,
}

/// `shrink`
#[derive(Debug, Args)]
pub struct Shrink {
    /// The forest
    pub forest: String,
    /// The nodes that leave, one after the other
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Also where streams or the quorum are lost; a node that is dead is given up
    #[arg(long)]
    pub force: bool,
}

/// `upgrade`
#[derive(Debug, Args)]
pub struct Upgrade {
    /// The forest
    pub forest: String,
    /// The forest-agent that is to run
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// The nats-server that is to run
    #[arg(long, value_name = "FILE")]
    pub engine: Option<PathBuf>,
    /// How long to wait for each node until all are healthy again
    #[command(flatten)]
    pub timeout: Timeout,
}

/// `rotate-secrets`
#[derive(Debug, Args)]
pub struct RotateSecrets {
    /// The forest
    pub forest: String,
    /// How long to wait until every node is through
    #[command(flatten)]
    pub timeout: Timeout,
}

/// `logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// The forest
    pub forest: String,
    /// One of its nodes
    pub node: Option<String>,
    /// Go on with what is being written
    #[arg(long, short)]
    pub follow: bool,
    /// Only what is not older: 10m, 2h, or a time like 2026-11-22T20:16:55Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

/// `config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print the path of the configuration file in use
    Path,
    /// Print a value
    Get {
        /// Its name, like machine.provider
        key: String,
    },
    /// Set a value; a secret is asked for, or read from standard input
    Set {
        /// Its name, like machine.provider
        key: String,
        /// The value
        value: Option<String>,
    },
    /// Print all values; secrets are masked
    List,
}

/// The longest name of a forest: `<forest>-node-<n>` has to be an id too.
const MAX_NAME: usize = 40;

fn forest_name(text: &str) -> Result<ForestId, String> {
    let name: ForestId = text.parse().map_err(|err: forest_core::id::IdError| err.to_string())?;
    if text.len() > MAX_NAME {
        return Err(format!("a forest's name has at most {MAX_NAME} characters, this one {}", text.len()));
    }
    Ok(name)
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(percent),
        _ => Err("not a percentage, like 80".to_owned()),
    }
}

/// The id of the `n`th node of a forest.
#[must_use]
pub fn node_name(forest: &ForestId, n: u64) -> Option<NodeId> {
    format!("{forest}-node-{n}").parse().ok()
}

/// A command line that leads nowhere: help, the version, or a mistake.
#[derive(Debug)]
pub struct Refusal {
    clap: clap::Error,
    json: bool,
}

/// Parses the command line.
///
/// # Errors
/// [`Refusal`], also where help or the version was asked for.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Box<Refusal>> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    Cli::try_parse_from(&arguments).map_err(|clap| {
        let json = arguments.iter().any(|argument| argument == OsStr::new("--json"));
        Box::new(Refusal { clap, json })
    })
}

impl Refusal {
    /// Prints it: help to stdout, a mistake to stderr, or as JSON where that was asked for.
    #[must_use]
    pub fn show(&self) -> ExitCode {
        if self.json && self.clap.use_stderr() {
            let failure = Failure::new(Reason::Usage, self.clap.render().to_string().trim());
            let text = json!({"error": failure.json()});
            // Nobody is left to tell.
            let _ = writeln!(std::io::stdout(), "{text:#}");
            return ExitCode::from(Exit::Usage as u8);
        }
        let _ = self.clap.print();
        ExitCode::from(if self.clap.use_stderr() { Exit::Usage } else { Exit::Done } as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn names_leave_room_for_the_nodes() {
        assert!(forest_name(&"a".repeat(40)).is_ok());
        assert!(forest_name(&"a".repeat(41)).unwrap_err().contains("41"));
        assert!(forest_name("Grove").unwrap_err().contains("capital"));
        let longest = forest_name(&"a".repeat(40)).unwrap();
        assert!(node_name(&longest, u64::MAX).is_none() || node_name(&longest, 9999).is_some());
    }
}
