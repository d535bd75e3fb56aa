//! The command line: what can be asked, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use forest_core::id::NodeId;
use url::Url;

use crate::settings::Download;

/// Turns a bare machine into a healthy node of a NATS cluster, and keeps it one.
#[derive(Debug, Parser)]
#[command(name = "forest-agent", version, arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The daemon: converges this machine, supervises the engine, serves /health
    Run(Common),
    /// Write the systemd unit, enable and start it
    Install(Common),
    /// Put this node's entry into the registry
    Register {
        /// Say what would change, and touch nothing
        #[arg(long)]
        dry_run: bool,
        /// What all commands take.
        #[command(flatten)]
        common: Common,
    },
    /// Look at every step of `run` and do none: what would change, what would fail and why
    Check(Common),
    /// Leave the forest for good: streams are moved to the others, then the engine ends and the entry goes
    Leave {
        /// Also where streams or the quorum would be lost; says what it destroyed
        #[arg(long)]
        force: bool,
        /// What all commands take.
        #[command(flatten)]
        common: Common,
    },
    /// Restart the engine by what is configured now; its clients are told to go elsewhere first
    Restart {
        /// Wait at most this long until it is well
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "180s")]
        wait: Duration,
        /// What all commands take.
        #[command(flatten)]
        common: Common,
    },
    /// Take a node that is dead for good out of the group and the registry
    Forget {
        /// The dead node
        node: NodeId,
        /// Bring back the quorum that was lost with it; only where it will never come back
        #[arg(long)]
        rescue: bool,
        /// What all commands take.
        #[command(flatten)]
        common: Common,
    },
    /// Carry the streams of a standalone nats-server's store into the forest; the old store is kept
    TakeOver {
        /// Do without this stream, which stays in the old store alone; may be given several times
        #[arg(long, value_name = "STREAM")]
        leave_behind: Vec<String>,
        /// What all commands take.
        #[command(flatten)]
        common: Common,
    },
    /// Go over to newer programs, fetched and checked: the agent without its engine noticing, the engine as `restart` does
    Upgrade {
        /// Which.
        #[command(flatten)]
        newer: Box<Newer>,
        /// What all commands take.
        #[command(flatten)]
        common: Common,
    },
    /// The local /health, for a person
    Status {
        /// Wait until all is well, at most this long (like 60s), before saying how it is
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        wait: Option<Duration>,
        /// What all commands take.
        #[command(flatten)]
        common: Common,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and its unit, like 500ms, 60s or 2m".to_owned();
    let duration: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

/// Newer programs, and where they are.
#[derive(Debug, Clone, Args)]
pub struct Newer {
    /// Where the newer forest-agent is: https, http, or file, as on the share
    #[arg(long, value_name = "URL", value_parser = url, requires = "agent_sha256")]
    agent: Option<Url>,
    /// What `sha256sum` prints of it
    #[arg(long, value_name = "HEX", value_parser = sha256, requires = "agent")]
    agent_sha256: Option<[u8; 32]>,
    /// Where the newer engine is; `engine.download` of agent.yaml comes to say so
    #[arg(long, value_name = "URL", value_parser = url, requires = "engine_sha256")]
    engine: Option<Url>,
    /// What `sha256sum` prints of it
    #[arg(long, value_name = "HEX", value_parser = sha256, requires = "engine")]
    engine_sha256: Option<[u8; 32]>,
    /// Wait at most this long until the engine is well
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "180s")]
    pub wait: Duration,
}

impl Newer {
    /// The agent that is to run.
    #[must_use]
    pub fn agent(&self) -> Option<Download> {
        Some(Download { url: self.agent.clone()?, sha256: self.agent_sha256? })
    }

    /// The engine that is to run.
    #[must_use]
    pub fn engine(&self) -> Option<Download> {
        Some(Download { url: self.engine.clone()?, sha256: self.engine_sha256? })
    }
}

fn url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|err| format!("{err}; write https://host/path or file:///path"))?;
    match url.scheme() {
        "https" | "http" | "file" => Ok(url),
        other => Err(format!("{other} is not supported: use https, http or file")),
    }
}

fn sha256(text: &str) -> Result<[u8; 32], String> {
    let wrong = || "write what `sha256sum FILE` prints: 64 digits from 0-9 and a-f".to_owned();
    let digit =
        |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(wrong);
    let digits = text.bytes().map(digit).collect::<Result<Vec<u8>, _>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().map_err(|_| wrong()) } else { Err(wrong()) }
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Path of agent.yaml
    #[arg(
        long,
        value_name = "FILE",
        env = "FOREST_AGENT_CONFIG",
        default_value = "/etc/morpheus/agent.yaml"
    )]
    pub config: PathBuf,
    /// Print JSON to stdout
    #[arg(long)]
    pub json: bool,
}

impl Command {
    /// The options that this command shares with all others.
    #[must_use]
    pub fn common(&self) -> &Common {
        match self {
            Self::Run(common) | Self::Install(common) | Self::Check(common) => common,
            Self::Register { common, .. }
            | Self::Leave { common, .. }
            | Self::Restart { common, .. }
            | Self::Forget { common, .. }
            | Self::TakeOver { common, .. }
            | Self::Upgrade { common, .. }
            | Self::Status { common, .. } => common,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_newer_program_is_named_with_its_digest() {
        let newer = |more: &[&str]| match Cli::try_parse_from([&["forest-agent", "upgrade"], more].concat()) {
            Ok(Cli { command: Command::Upgrade { newer, .. } }) => Ok(newer.engine()),
            Ok(_) => Ok(None),
            Err(err) => Err(err.kind()),
        };
        let digest = "0f".repeat(32);
        let given =
            newer(&["--engine", "file:///mnt/forest/bin/x", "--engine-sha256", &digest]).unwrap().unwrap();
        assert_eq!((given.url.path(), given.sha256), ("/mnt/forest/bin/x", [15; 32]));
        assert_eq!(newer(&[]), Ok(None));
        for wrong in [
            &["--engine", "file:///x"][..],
            &["--engine-sha256", &digest],
            &["--engine", "ftp://h/x", "--engine-sha256", &digest],
            &["--engine", "file:///x", "--engine-sha256", &digest[1..]],
        ] {
            assert!(newer(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_wait_is_a_duration() {
        let wait = |text: &str| match Cli::try_parse_from(["forest-agent", "status", "--wait", text]) {
            Ok(Cli { command: Command::Status { wait, .. } }) => wait,
            _ => None,
        };
        assert_eq!(wait("60s"), Some(Duration::from_secs(60)));
        assert_eq!(wait("1m 500ms"), Some(Duration::from_millis(60_500)));
        assert_eq!(wait("60"), None);
        assert_eq!(wait("-1s"), None);
    }
}
