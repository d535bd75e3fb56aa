//! Finding the programs that local nodes run.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use forest_core::reason::Reason;

use super::record::{ONE_NIMSFOREST, Programs};
use crate::args;
use crate::config::{Engine, EngineKind};
use crate::environment::Environment;
use crate::failure::Failure;

/// The programs of a new forest of `count` nodes: as the command line says, else as configured, else found.
///
/// # Errors
/// [`Failure`] naming what is missing and how to get it.
pub fn find(
    args: &args::Programs,
    engine: &Engine,
    count: u8,
    env: &Environment,
) -> Result<Programs, Failure> {
    let agent = agent(args, env)?;
    let (kind, binary, download) = if let Some(path) = &args.forest_binary {
        (EngineKind::Nimsforest, Some(given(path, "--forest-binary")?), None)
    } else if let Some(path) = &args.engine_binary {
        (EngineKind::NatsServer, Some(given(path, "--engine-binary")?), None)
    } else {
        configured(engine, env)?
    };
    if kind == EngineKind::Nimsforest && count > 1 {
        return Err(Failure::new(Reason::NotSupported, ONE_NIMSFOREST));
    }
    Ok(Programs { agent, engine: kind, binary, download })
}

type Chosen = (EngineKind, Option<PathBuf>, Option<crate::config::Download>);

fn configured(engine: &Engine, env: &Environment) -> Result<Chosen, Failure> {
    let kind = engine.kind.unwrap_or(EngineKind::NatsServer);
    match (&engine.binary, &engine.download, kind) {
        (Some(path), None, _) => Ok((kind, Some(given(path, "engine.binary")?), None)),
        (binary, Some(download), _) => Ok((kind, binary.clone(), Some(download.clone()))),
        (None, None, EngineKind::NatsServer) => Ok((kind, Some(nats_server(env, &MORE_DIRS)?), None)),
        (None, None, EngineKind::Nimsforest) => Err(Failure::new(
            Reason::ProgramMissing,
            "engine.kind is nimsforest, and nothing says where it is: set engine.binary, or give --forest-binary",
        )),
    }
}

/// Where nats-server is looked for after PATH: distributions put it where PATH leads administrators only.
const MORE_DIRS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/opt/nimsforest/bin"];

fn nats_server(env: &Environment, more: &[&str]) -> Result<PathBuf, Failure> {
    in_path("nats-server", env, more).ok_or_else(|| {
        Failure::new(
            Reason::ProgramMissing,
            "nats-server is not in PATH: install it (Debian, Ubuntu: sudo apt-get install nats-server; macOS: \
             brew install nats-server), or name its file with --engine-binary",
        )
    })
}

fn agent(args: &args::Programs, env: &Environment) -> Result<PathBuf, Failure> {
    if let Some(path) = &args.agent_binary {
        return given(path, "--agent-binary");
    }
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("forest-agent"));
    let found = beside.filter(|path| is_executable(path)).or_else(|| in_path("forest-agent", env, &[]));
    found.ok_or_else(|| {
        Failure::new(
            Reason::ProgramMissing,
            "forest-agent is neither beside morpheus nor in PATH: put it there, or name its file with --agent-binary",
        )
    })
}

/// An executable that somebody named, by `by`.
///
/// # Errors
/// [`Failure`] where it is none.
pub fn given(path: &Path, by: &str) -> Result<PathBuf, Failure> {
    let full = std::path::absolute(path).map_err(|err| Failure::state("find", path, &err))?;
    if is_executable(&full) {
        return Ok(full);
    }
    let what = if full.exists() { "is not executable" } else { "does not exist" };
    let message = format!("{} {what}: {by} has to name a program", full.display());
    Err(Failure::new(Reason::ProgramMissing, message))
}

/// Relative directories in PATH are passed over: what is found is run later, from elsewhere.
fn in_path(name: &str, env: &Environment, more: &[&str]) -> Option<PathBuf> {
    std::env::split_paths(env.get("PATH").unwrap_or_default())
        .chain(more.iter().map(PathBuf::from))
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent_is_true() -> args::Programs {
        args::Programs { agent_binary: Some("/bin/true".into()), ..args::Programs::default() }
    }

    #[test]
    fn what_is_missing_is_named_with_a_way_to_get_it() {
        let env = Environment::from([("PATH", "/nonexistent:relative")]);
        let err = nats_server(&env, &["/nonexistent"]).unwrap_err();
        assert!(err.reason == Reason::ProgramMissing && err.message.contains("apt-get install nats-server"));
        let args =
            args::Programs { agent_binary: Some("/nonexistent/a".into()), ..args::Programs::default() };
        let err = find(&args, &Engine::default(), 1, &env).unwrap_err();
        assert!(err.message.starts_with("/nonexistent/a does not exist"), "{err}");
    }

    #[test]
    fn the_command_line_goes_before_the_configuration() {
        let env = Environment::default();
        let engine =
            Engine { kind: Some(EngineKind::Nimsforest), binary: Some("/bin/true".into()), download: None };
        assert_eq!(find(&agent_is_true(), &engine, 1, &env).unwrap().engine, EngineKind::Nimsforest);
        assert_eq!(find(&agent_is_true(), &engine, 3, &env).unwrap_err().reason, Reason::NotSupported);
        let args = args::Programs { engine_binary: Some("/bin/sh".into()), ..agent_is_true() };
        let found = find(&args, &engine, 3, &env).unwrap();
        assert_eq!((found.engine, found.binary), (EngineKind::NatsServer, Some("/bin/sh".into())));
    }
}
