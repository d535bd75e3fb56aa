//! nats-server: its configuration file, the test of it, and its command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use forest_core::reason::Reason;
use tokio::process::Command as Process;
use tokio::time::timeout;

use crate::child::Command;
use crate::engine::nats_config::NatsConfig;
use crate::fault::{Fault, chain};
use crate::files;

/// Name of the configuration, in runtime_dir.
pub const FILE_NAME: &str = "nats-server.conf";

/// How long `nats-server -t` may take; it answers within milliseconds unless the machine is in trouble.
const CHECK_DEADLINE: Duration = Duration::from_secs(10);

/// Writes the configuration into `dir`, 0600, and returns its path. A file that says the same already stays
/// untouched.
///
/// # Errors
/// [`Reason::StateDir`] where the file cannot be written.
pub fn write_config(dir: &Path, config: &NatsConfig<'_>) -> Result<PathBuf, Fault> {
    let path = dir.join(FILE_NAME);
    let text = config.render();
    if fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(path);
    }
    files::put(&path, text.as_bytes(), 0o600).map_err(|err| Fault::new(Reason::StateDir, chain(&err)))?;
    Ok(path)
}

/// Lets `binary` test the configuration at `path`. Nothing is started.
///
/// # Errors
/// [`Reason::EngineConfigRefused`] with nats-server's own words, [`Reason::EngineMissing`] or
/// [`Reason::EngineNotExecutable`] where it cannot be run.
pub async fn check_config(binary: &Path, path: &Path) -> Result<(), Fault> {
    let refused = |message| {
        // nats-server's words may name addresses of other nodes.
        let fault = Fault::new(Reason::EngineConfigRefused, message);
        Err(fault.withhold(Reason::EngineConfigRefused.meaning().trim()))
    };
    let child = Process::new(binary)
        .arg("-t")
        .arg("-c")
        .arg(path)
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match timeout(CHECK_DEADLINE, child).await {
        Ok(Ok(output)) => output,
        Ok(Err(err)) => return Err(cannot_run(binary, &err)),
        Err(_) => {
            let seconds = CHECK_DEADLINE.as_secs();
            return refused(format!(
                "{} -t -c {} did not answer within {seconds} s",
                binary.display(),
                path.display()
            ));
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("nats-server: ");
    refused(format!("{} refuses {}: {said}", binary.display(), path.display()))
}

fn cannot_run(binary: &Path, err: &io::Error) -> Fault {
    let reason = match err.kind() {
        io::ErrorKind::NotFound => Reason::EngineMissing,
        _ => Reason::EngineNotExecutable,
    };
    Fault::new(reason, format!("cannot run {}: {err}", binary.display()))
}

/// How nats-server is started with the configuration at `config`; `data_dir` must exist.
#[must_use]
pub fn command(binary: &Path, config: &Path, data_dir: &Path) -> Command {
    Command {
        program: binary.to_owned(),
        args: vec!["-c".into(), config.into()],
        env: Vec::new(),
        cwd: data_dir.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::engine::limits::Limits;
    use crate::engine::nats_config::Role;

    #[test]
    fn the_file_is_private_and_written_only_when_it_differs() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = NatsConfig {
            name: "grove-node-1",
            role: Role::Engine { monitor: "127.0.0.1:8222".parse().unwrap(), takes_streams: true },
            client: "127.0.0.1:4222".parse().unwrap(),
            store_dir: Path::new("/x"),
            limits: Limits::derive(0, 0),
            cluster: None,
        };
        let path = write_config(dir.path(), &config).unwrap();
        let first = fs::metadata(&path).unwrap();
        assert_eq!(first.permissions().mode() & 0o777, 0o600);
        write_config(dir.path(), &config).unwrap();
        assert_eq!(inode(&path), inode_of(&first));
        config.store_dir = Path::new("/y");
        write_config(dir.path(), &config).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("\"/y\""));
    }

    fn inode(path: &Path) -> u64 {
        inode_of(&fs::metadata(path).unwrap())
    }

    fn inode_of(metadata: &fs::Metadata) -> u64 {
        std::os::unix::fs::MetadataExt::ino(metadata)
    }

    #[tokio::test]
    async fn a_missing_program_is_told_from_one_that_cannot_run() {
        let config = Path::new("/dev/null");
        let fault = check_config(Path::new("/nowhere/nats-server"), config).await.unwrap_err();
        assert_eq!(fault.reason, Reason::EngineMissing);
        assert!(fault.message.contains("/nowhere/nats-server"), "{fault}");
        let fault = check_config(Path::new("/dev/null"), config).await.unwrap_err();
        assert_eq!(fault.reason, Reason::EngineNotExecutable);
    }
}
