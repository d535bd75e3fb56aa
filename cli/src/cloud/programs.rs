//! The programs that nodes run: found on the laptop, looked into before anything costs money, and put onto the share.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forest_core::reason::Reason;
use sha2::{Digest as _, Sha256};

use super::elf::{self, Architecture};
use super::fetch;
use super::record::{Programs, Shelved};
use crate::args;
use crate::config::{Download, Engine, EngineKind};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::progress::Progress;

/// The directory of programs on the share.
pub const BIN: &str = "bin";
/// So many digits of a program's SHA-256 stand in its name.
const PREFIX: usize = 16;
/// Where programs are looked for after PATH.
const MORE_DIRS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// For which machines programs are wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Their architecture.
    pub architecture: Architecture,
    /// Their image.
    pub image: String,
}

/// Where a program comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    /// It lies there already.
    Share,
    Url(Download),
}

/// A program, looked into.
#[derive(Debug, Clone)]
pub struct Program {
    /// As it lies on the share.
    pub shelved: Shelved,
    /// What it is; `None`: it is fetched when it is put there.
    bytes: Option<Arc<Vec<u8>>>,
    source: Source,
    name: &'static str,
}

/// The programs of new nodes.
#[derive(Debug, Clone)]
pub struct Supplies {
    wanted: Wanted,
    kind: EngineKind,
    agent: Program,
    engine: Program,
    witness: Option<Program>,
}

impl Supplies {
    /// Finds and checks them: as the command line says, else as configured, else beside morpheus and in PATH.
    ///
    /// # Errors
    /// [`Failure`] naming what is missing, or does not run on such machines.
    pub fn find(
        args: &args::Programs,
        engine: &Engine,
        wanted: Wanted,
        env: &Environment,
    ) -> Result<Self, Failure> {
        let find = |name, given: Option<(&Path, &str)>| -> Result<Program, Failure> {
            let path = match given {
                Some((path, by)) => named(path, by)?,
                None => search(name, &wanted, env)?,
            };
            Program::of_file(name, path, &wanted)
        };
        let agent = find("forest-agent", args.agent_binary.as_deref().map(|path| (path, "--agent-binary")))?;
        let nats = |by: Option<(&Path, &str)>| find("nats-server", by);
        let (kind, program) = match (&args.forest_binary, &args.engine_binary) {
            (Some(path), _) => (EngineKind::Nimsforest, find("forest", Some((path, "--forest-binary")))?),
            (None, Some(path)) => (EngineKind::NatsServer, nats(Some((path, "--engine-binary")))?),
            (None, None) => {
                let kind = kind(engine);
                let name = program_name(kind);
                match (&engine.download, &engine.binary, kind) {
                    (Some(download), _, _) => (kind, Program::of_url(name, download, &wanted)),
                    (None, Some(path), _) => (kind, find(name, Some((path, "engine.binary")))?),
                    (None, None, EngineKind::NatsServer) => (kind, nats(None)?),
                    (None, None, EngineKind::Nimsforest) => {
                        let message = "engine.kind is nimsforest, and nothing says where it is: set engine.binary or \
                                       engine.download_url, or give --forest-binary";
                        return Err(Failure::new(Reason::ProgramMissing, message));
                    }
                }
            }
        };
        let witness = match kind {
            EngineKind::NatsServer => None,
            EngineKind::Nimsforest => Some(nats(None)?),
        };
        Ok(Self { kind, agent, engine: program, witness, wanted })
    }

    /// Those that are to take the place of `before`: these files, checked, and the rest as it was.
    ///
    /// # Errors
    /// [`Failure`] naming what does not run on such machines.
    pub fn newer(
        before: &Programs,
        agent: Option<&Path>,
        engine: Option<&Path>,
        wanted: Wanted,
    ) -> Result<Self, Failure> {
        let program = |name, file: Option<&Path>, by, known: &Shelved| match file {
            Some(file) => Program::of_file(name, named(file, by)?, &wanted),
            // It lies on the share already.
            None => Ok(Program::known(name, known)),
        };
        let kind = before.engine_kind;
        Ok(Self {
            kind,
            agent: program("forest-agent", agent, "--agent", &before.agent)?,
            engine: program(program_name(kind), engine, "--engine", &before.engine)?,
            witness: before.witness.as_ref().map(|known| Program::known("nats-server", known)),
            wanted,
        })
    }

    /// As they are recorded.
    #[must_use]
    pub fn record(&self) -> Programs {
        Programs {
            architecture: self.wanted.architecture.name().to_owned(),
            agent: self.agent.shelved.clone(),
            engine_kind: self.kind,
            engine: self.engine.shelved.clone(),
            witness: self.witness.as_ref().map(|program| program.shelved.clone()),
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Program> {
        [&self.agent, &self.engine].into_iter().chain(&self.witness)
    }

    /// The bytes of the program that is recorded so, fetched and looked into if need be.
    ///
    /// # Errors
    /// [`Failure`] where this laptop has no such program, or cannot fetch it.
    pub async fn bytes(&self, due: &Shelved, progress: &mut Progress) -> Result<Arc<Vec<u8>>, Failure> {
        let Some(program) = self.all().find(|program| program.shelved == *due) else {
            let message = format!(
                "{} is not on the share yet, and the programs of this laptop are others: finish on the laptop that \
                 began, or tear the forest down",
                due.file
            );
            return Err(Failure::new(Reason::ProgramMissing, message));
        };
        match (&program.bytes, &program.source) {
            (Some(bytes), _) => Ok(Arc::clone(bytes)),
            (None, Source::File(path)) => read(path).map(Arc::new),
            (None, Source::Share) => {
                let message = format!("{} went away from the share", due.file);
                Err(Failure::new(Reason::ProgramMissing, message))
            }
            (None, Source::Url(download)) => {
                let bytes = fetch::fetch(program.name, download, progress).await?;
                check(program.name, &download.url, &bytes, &self.wanted)?;
                Ok(Arc::new(bytes))
            }
        }
    }
}

impl Program {
    fn of_file(name: &'static str, path: PathBuf, wanted: &Wanted) -> Result<Self, Failure> {
        let bytes = read(&path)?;
        check(name, &path.display().to_string(), &bytes, wanted)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok(Self {
            shelved: shelved(name, wanted, &sha256),
            bytes: Some(Arc::new(bytes)),
            source: Source::File(path),
            name,
        })
    }

    fn known(name: &'static str, known: &Shelved) -> Self {
        Self { shelved: known.clone(), bytes: None, source: Source::Share, name }
    }

    fn of_url(name: &'static str, download: &Download, wanted: &Wanted) -> Self {
        let shelved = shelved(name, wanted, &download.sha256.to_ascii_lowercase());
        Self { shelved, bytes: None, source: Source::Url(download.clone()), name }
    }

    /// Where it comes from, for people.
    #[must_use]
    pub fn from(&self) -> String {
        match &self.source {
            Source::File(path) => path.display().to_string(),
            Source::Share => "the share".to_owned(),
            // The rest of a URL may be a token.
            Source::Url(download) => download.url.split(['?', '#']).next().unwrap_or_default().to_owned(),
        }
    }
}

/// What `engine` of the configuration is about.
fn kind(engine: &Engine) -> EngineKind {
    let named = engine
        .binary
        .as_ref()
        .and_then(|path| path.file_name())
        .map(|name| name.to_string_lossy().into_owned());
    let url =
        engine.download.as_ref().and_then(|download| download.url.rsplit('/').next().map(str::to_owned));
    let name = named.or(url);
    engine.kind.unwrap_or(match name {
        Some(name) if !name.starts_with("nats-server") => EngineKind::Nimsforest,
        _ => EngineKind::NatsServer,
    })
}

fn program_name(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::NatsServer => "nats-server",
        EngineKind::Nimsforest => "forest",
    }
}

fn shelved(name: &str, wanted: &Wanted, sha256: &str) -> Shelved {
    Shelved {
        file: format!("{name}-{}-{}", wanted.architecture, &sha256[..PREFIX]),
        sha256: sha256.to_owned(),
    }
}

/// A file that somebody named.
fn named(path: &Path, by: &str) -> Result<PathBuf, Failure> {
    let full = std::path::absolute(path).map_err(|err| Failure::state("find", path, &err))?;
    match full.is_file() {
        true => Ok(full),
        false => {
            let message = format!("{} is no file: {by} has to name a program", full.display());
            Err(Failure::new(Reason::ProgramMissing, message))
        }
    }
}

/// Beside morpheus, then in PATH; one that is named after the architecture goes before the plain name, and what is
/// for other machines is passed over.
fn search(name: &str, wanted: &Wanted, env: &Environment) -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let path = std::env::split_paths(env.get("PATH").unwrap_or_default()).collect::<Vec<_>>();
    let dirs: Vec<PathBuf> = beside.into_iter().chain(path).chain(MORE_DIRS.map(PathBuf::from)).collect();
    let mut others = Vec::new();
    for dir in dirs.iter().filter(|dir| dir.is_absolute()) {
        for file in [format!("{name}-{}", wanted.architecture), name.to_owned()] {
            let path = dir.join(file);
            let is_executable =
                path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
            if !is_executable {
                continue;
            }
            match elf::needs(&read(&path)?) {
                Ok(needs) if needs.architecture == wanted.architecture => return Ok(path),
                Ok(needs) => others.push(format!("{} is for {}", path.display(), needs.architecture)),
                Err(err) => others.push(format!("{} {err}", path.display())),
            }
        }
    }
    Err(missing(name, wanted, &others))
}

fn missing(name: &str, wanted: &Wanted, others: &[String]) -> Failure {
    let arch = wanted.architecture;
    let seen = if others.is_empty() { String::new() } else { format!(" ({})", others.join("; ")) };
    let way = match name {
        "nats-server" => format!(
            "install it (Debian, Ubuntu: sudo apt-get install nats-server), put one for {arch} into PATH as \
             nats-server-{arch}, name it with --engine-binary, or set engine.download_url and engine.sha256"
        ),
        _ => format!(
            "build it (cargo build --release --target {arch}-unknown-linux-gnu) and put it beside morpheus as \
             {name}-{arch}, or name it with --agent-binary"
        ),
    };
    let reason = if others.is_empty() { Reason::ProgramMissing } else { Reason::ProgramArchitecture };
    Failure::new(
        reason,
        format!("the nodes are {arch} machines, and there is no {name} for them here{seen}: {way}"),
    )
}

/// Would it run on such machines?
fn check(name: &str, from: &str, bytes: &[u8], wanted: &Wanted) -> Result<(), Failure> {
    let needs = elf::needs(bytes)
        .map_err(|err| Failure::new(Reason::ProgramArchitecture, format!("{name}: {from} {err}")))?;
    if needs.architecture != wanted.architecture {
        let message = format!(
            "{name}: {from} is for {}, and the nodes are {} machines; {}",
            needs.architecture,
            wanted.architecture,
            Reason::ProgramArchitecture.remedy()
        );
        return Err(Failure::new(Reason::ProgramArchitecture, message));
    }
    match (needs.glibc, elf::glibc_of_image(&wanted.image)) {
        (Some(due), Some(there)) if due > there => {
            let message = format!(
                "{name}: {from} needs glibc {due}, and {} has {there}; {}",
                wanted.image,
                Reason::ProgramGlibc.remedy()
            );
            Err(Failure::new(Reason::ProgramGlibc, message))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|err| Failure::state("read", path, &err))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
