//! The programs `nft` and `ufw`, and ufw's files: all that the firewall needs of the machine.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use forest_core::reason::Reason;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::fault::{Fault, chain};

/// How long one of them may take. nft answers within milliseconds, ufw within half a second.
const DEADLINE: Duration = Duration::from_secs(15);
/// Where ufw says whether it is enabled.
const UFW_CONF: &str = "/etc/ufw/ufw.conf";
/// Where it keeps its rules.
const UFW_RULES: [&str; 2] = ["/etc/ufw/user.rules", "/etc/ufw/user6.rules"];

/// Why a program did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not in PATH.
    #[error("{program} is not installed")]
    Missing {
        /// Its name.
        program: &'static str,
    },
    /// It could not be run.
    #[error("failed to run {}", program.display())]
    Run {
        /// Its path.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It did not end.
    #[error("`{program} {args}` did not end within {} s", DEADLINE.as_secs())]
    Overdue {
        /// Its name.
        program: &'static str,
        /// What it was asked.
        args: String,
    },
    /// It refused.
    #[error("`{program} {args}` refused: {said}")]
    Refused {
        /// Its name.
        program: &'static str,
        /// What it was asked.
        args: String,
        /// The first line that it said.
        said: String,
    },
}

impl ToolError {
    /// Is what was asked for not there?
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { said, .. } if said.contains("No such file or directory"))
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Missing { program: "nft" } => Reason::NftMissing,
            Self::Refused { said, .. }
                if said.contains("not permitted") || said.contains("need to be root") =>
            {
                Reason::FirewallNotPermitted
            }
            Self::Refused { program: "nft", said, .. } if said.contains("not supported") => {
                Reason::NftUnsupported
            }
            _ => Reason::FirewallFailed,
        }
    }
}

impl From<ToolError> for Fault {
    /// The sentence may name addresses of other nodes.
    fn from(err: ToolError) -> Self {
        let reason = err.reason();
        Self::new(reason, chain(&err)).withhold(reason.meaning().trim())
    }
}

/// What the firewall needs of the machine.
pub trait Tools: Send + Sync {
    /// Runs `program` with `args` and `input`; what it printed.
    fn run(
        &self,
        program: &'static str,
        args: &[&str],
        input: String,
    ) -> BoxFuture<'static, Result<String, ToolError>>;

    /// Is ufw there and enabled, and the text of all its rules; `None`: it was never installed.
    ///
    /// # Errors
    /// Its files are there and cannot be read.
    fn ufw(&self) -> Result<Option<(bool, String)>, Fault>;
}

/// This machine.
#[derive(Debug, Clone)]
pub struct System {
    path: Option<OsString>,
}

impl System {
    /// Programs are looked up in `path`.
    #[must_use]
    pub fn new(path: Option<&OsStr>) -> Self {
        Self { path: path.map(ToOwned::to_owned) }
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        let dirs = self.path.iter().flat_map(|path| std::env::split_paths(path).collect::<Vec<_>>());
        dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
    }
}

impl Tools for System {
    fn run(
        &self,
        program: &'static str,
        args: &[&str],
        input: String,
    ) -> BoxFuture<'static, Result<String, ToolError>> {
        let Some(file) = self.find(program) else {
            return std::future::ready(Err(ToolError::Missing { program })).boxed();
        };
        let shown = args.join(" ");
        let mut command = Command::new(&file);
        command.args(args).env_clear().envs(self.path.iter().map(|path| ("PATH", path)));
        command.env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        async move {
            let done = tokio::time::timeout(DEADLINE, finish(command, input)).await;
            let done = done.map_err(|_| ToolError::Overdue { program, args: shown.clone() })?;
            let output = done.map_err(|source| ToolError::Run { program: file, source })?;
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            Err(ToolError::Refused { program, args: shown, said: first_line(&output.stderr) })
        }
        .boxed()
    }

    fn ufw(&self) -> Result<Option<(bool, String)>, Fault> {
        let Some(conf) = read(Path::new(UFW_CONF))? else {
            return Ok(None);
        };
        let enabled = conf.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes"));
        let mut rules = String::new();
        for file in UFW_RULES {
            rules.push_str(&read(Path::new(file))?.unwrap_or_default());
            rules.push('\n');
        }
        Ok(Some((enabled, rules)))
    }
}

async fn finish(mut command: Command, input: String) -> io::Result<std::process::Output> {
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // One that ends without reading says why itself.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    output
}

fn read(path: &Path) -> Result<Option<String>, Fault> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => {
            let denied = err.kind() == io::ErrorKind::PermissionDenied;
            let reason = if denied { Reason::FirewallNotPermitted } else { Reason::FirewallFailed };
            Err(Fault::new(reason, format!("failed to read {}: {err}", path.display())))
        }
    }
}

/// The first line with words in it, without what nft says of its own place.
fn first_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it did not say why");
    line.trim_start_matches("internal:0:0-0: ").trim_start_matches("Error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nft 1.0.6 said, in each of these situations.
    #[test]
    fn what_nft_says_is_told_apart() {
        for (said, reason) in [
            (
                "mnl.c:60: Unable to initialize Netlink socket: Protocol not supported\n",
                Reason::NftUnsupported,
            ),
            (
                "internal:0:0-0: Error: Could not process rule: Operation not supported\n\n",
                Reason::NftUnsupported,
            ),
            ("Operation not permitted (you must be root)\nnetlink: Error: …\n", Reason::FirewallNotPermitted),
            (
                "internal:0:0-0: Error: Could not process rule: Device or resource busy\n",
                Reason::FirewallFailed,
            ),
        ] {
            let err = ToolError::Refused {
                program: "nft",
                args: "-j -f -".to_owned(),
                said: first_line(said.as_bytes()),
            };
            assert!(!err.is_not_found());
            assert_eq!(Fault::from(err).reason, reason, "{said}");
        }
        let said = first_line(b"Error: No such file or directory\nlist table inet x\n");
        assert!(ToolError::Refused { program: "nft", args: String::new(), said }.is_not_found());
    }

    #[tokio::test]
    async fn a_program_is_looked_up_and_its_words_are_kept() {
        let system = System::new(Some(OsStr::new("/nowhere:/usr/bin:/bin")));
        let said = system.run("cat", &["-"], "x".repeat(1 << 20)).await.unwrap();
        assert_eq!(said.len(), 1 << 20);
        let err = system.run("cat", &["/nowhere/at/all"], "x".repeat(1 << 20)).await.unwrap_err();
        assert!(err.is_not_found(), "{err}");
        let fault = Fault::from(System::new(None).run("nft", &["list"], String::new()).await.unwrap_err());
        assert_eq!((fault.reason, fault.message.as_str()), (Reason::NftMissing, "nft is not installed"));
    }
}
