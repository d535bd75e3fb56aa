//! A server of the command's own on a standalone store, for as long as the streams are read from it: heard on loopback
//! alone, at a port that the kernel picks, by a password that nobody else knows.
//!
//! It goes on if its command is killed; the next one finds it by its configuration's path, and ends it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use forest_core::reason::Reason;
use forest_core::secrets::Credentials;
use serde::Deserialize;
use tokio::time::sleep;

use crate::cluster::take_over::others::{self, Other};
use crate::engine::nats_config::quote;
use crate::fault::{Fault, chain};
use crate::files;
use crate::settings::Settings;

const CONFIG: &str = "take-over.conf";
/// A large store takes long to be read through.
const START: Duration = Duration::from_secs(600);
const STOP: Duration = Duration::from_secs(120);
const CONNECT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// What streams may reserve is asked later, of the server that takes them over.
const ANY_AMOUNT: u64 = 1 << 60;

/// The server, which ends with this.
#[derive(Debug)]
pub struct StoreServer {
    child: Child,
    log: PathBuf,
    /// Where its configuration lies, and it writes its ports.
    dir: PathBuf,
}

impl StoreServer {
    /// Starts `binary` on the engine's store, and connects.
    ///
    /// # Errors
    /// `engine_missing` or `engine_not_executable` where it cannot be run, `engine_store` with its last words where
    /// it does not serve, `state_dir` where its configuration cannot be written.
    pub async fn start(settings: &Settings, binary: &Path) -> Result<(Self, Client), Fault> {
        let config = path(settings);
        let login = Credentials::generate("take-over");
        let log = settings.state_dir.join("log/take-over.log");
        let unwritable = |err: files::FileError| Fault::new(Reason::StateDir, chain(&err));
        files::parent_dir(&log).map_err(unwritable)?;
        let text = render(settings, &login, &log);
        files::put(&config, text.as_bytes(), 0o600).map_err(unwritable)?;
        // Of an earlier life.
        let _ = fs::remove_file(&log);
        let child = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|err| cannot_run(binary, &err))?;
        let mut server = Self { child, log, dir: settings.runtime_dir.clone() };
        let at = server.until_it_listens().await?;
        let options = ConnectOptions::with_user_and_password(login.user, login.password.expose().to_owned())
            .name("forest-agent take-over")
            .connection_timeout(CONNECT)
            .ignore_discovered_servers();
        let client = options.connect(format!("nats://{at}")).await;
        let client =
            client.map_err(|err| server.ill(&format!("cannot be reached at {at}: {}", chain(&err))))?;
        Ok((server, client))
    }

    /// The file in which it tells of its ports: named by its executable, whatever that is called, and its pid.
    fn ports(&self) -> Option<PathBuf> {
        let end = format!("_{}.ports", self.child.id());
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.path());
        files.into_iter().find(|path| path.to_string_lossy().ends_with(&end))
    }

    async fn until_it_listens(&mut self) -> Result<SocketAddr, Fault> {
        #[derive(Deserialize)]
        struct Ports {
            nats: Vec<String>,
        }
        let until = Instant::now() + START;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.ill(&format!("ended with {}", how(status))));
            }
            let text = self.ports().and_then(|path| fs::read(path).ok());
            let told: Option<Ports> = text.and_then(|text| serde_json::from_slice(&text).ok());
            let at = told.and_then(|ports| ports.nats.first()?.strip_prefix("nats://")?.parse().ok());
            if let Some(at) = at {
                return Ok(at);
            }
            sleep(PAUSE).await;
        }
        Err(self.ill(&format!("does not serve after {} s", START.as_secs())))
    }

    fn ill(&self, what: &str) -> Fault {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(3).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        let message = format!(
            "the server on the old store {what}; its log, {}, ends: {}",
            self.log.display(),
            last.join(" / ")
        );
        Fault::new(Reason::EngineStore, message)
    }

    /// Ends it, and waits until it has put away its store.
    ///
    /// # Errors
    /// `engine_store` where it does not end.
    pub async fn stop(mut self) -> Result<(), Fault> {
        crate::engine::lame_duck::end(self.child.id());
        let until = Instant::now() + STOP;
        while Instant::now() < until {
            // 2.9 ends with code 1 when it was asked to, and all is well.
            if let Ok(Some(_)) = self.child.try_wait() {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        Err(self.ill(&format!("does not end within {} s", STOP.as_secs())))
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Nothing was asked of it but reading.
            let _ = self.child.kill().and_then(|()| self.child.wait());
        }
        let config = Some(self.dir.join(CONFIG));
        for file in config.into_iter().chain(self.ports()) {
            let _ = fs::remove_file(file);
        }
    }
}

fn path(settings: &Settings) -> PathBuf {
    settings.runtime_dir.join(CONFIG)
}

fn cannot_run(binary: &Path, err: &std::io::Error) -> Fault {
    let missing = err.kind() == std::io::ErrorKind::NotFound;
    let reason = if missing { Reason::EngineMissing } else { Reason::EngineNotExecutable };
    Fault::new(reason, format!("cannot run {}: {err}", binary.display()))
}

fn how(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("code {code}"))
}

fn render(settings: &Settings, login: &Credentials, log: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let quoted = |path: &Path| quote(path.as_os_str().as_bytes());
    let (user, password) = (quote(login.user.as_bytes()), quote(login.password.expose().as_bytes()));
    format!(
        "# written by forest-agent take-over\nserver_name: \"take-over\"\nlisten: \"{listen}:-1\"\nlog_file: {log}\n\
         ports_file_dir: {dir}\nauthorization {{ user: {user}, password: {password} }}\njetstream {{ store_dir: {store}, \
         max_memory_store: {ANY_AMOUNT}, max_file_store: {ANY_AMOUNT} }}\n",
        listen = Ipv4Addr::LOCALHOST,
        log = quoted(log),
        dir = quoted(&settings.runtime_dir),
        store = quoted(&settings.engine.data_dir),
    )
}

/// The servers that run on the engine's store and are not this command's own; of those, what an earlier command left
/// behind is ended first.
///
/// # Errors
/// `engine_store` where one of those does not end.
pub async fn others(settings: &Settings) -> Result<Vec<Other>, Fault> {
    let config = path(settings);
    let until = Instant::now() + STOP;
    loop {
        let found = others::on(&settings.engine.data_dir);
        let ours = |other: &Other| other.command.ends_with(&format!("-c {}", config.display()));
        let (left, foreign): (Vec<Other>, Vec<Other>) = found.into_iter().partition(ours);
        if left.is_empty() {
            return Ok(foreign);
        }
        if Instant::now() >= until {
            let message = format!("process {} ({}) does not end", left[0].pid, left[0].command);
            return Err(Fault::new(Reason::EngineStore, message));
        }
        for other in left {
            crate::engine::lame_duck::end(other.pid);
        }
        sleep(PAUSE).await;
    }
}
