//! A real WebDAV server: Apache with mod_dav on a directory of the test's own, by basic authentication, on a
//! loopback address of its own, ended with the test.
//!
//! Its files belong to the tester, as a share's files belong to one account whichever door they came by. Apache
//! refuses to serve as root, so for root it runs in a user namespace in which root has another number.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use morpheus::webdav::{Client, Http, Login, Place, WebDav};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::process;
use crate::wait::until;

/// The program; `make tools` installs it.
const PROGRAM: &str = "/usr/sbin/apache2";
const MODULES: &str = "/usr/lib/apache2/modules";
const PORT: u16 = 8480;

/// The one user.
pub const USER: &str = "u12345";
/// Its password: to be found nowhere but where it belongs.
pub const PASSWORD: &str = "canary-of-webdav";
/// The password's line for Apache: its SHA-1.
const PASSWORD_SHA: &str = "{SHA}aSQqg2F/5OUQVap1ehIEG0+ymBc=";

/// How the server is set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Setup {
    /// TLS with a certificate that nobody knows; it lies at [`Apache::certificate`].
    pub tls: bool,
    /// If-Match and If-None-Match are ignored.
    pub ignores_conditions: bool,
}

/// A server; dropped, it is ended.
#[derive(Debug)]
pub struct Apache {
    dir: TempDir,
    address: SocketAddr,
    setup: Setup,
    /// The network namespace that it runs in; `None`: this one.
    host: Option<String>,
    child: Option<Child>,
}

impl Apache {
    /// A server, and its directory in memory where that can be had.
    ///
    /// # Panics
    /// If there is no Apache, or it does not come up.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let ip = Ipv4Addr::new(127, rand::random_range(100..120), rand::random(), rand::random_range(1..255));
        Self::start_at((ip, PORT).into(), None, setup)
    }

    /// A server of a host of a test's own.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_on(host: &str, ip: Ipv6Addr, setup: Setup) -> Self {
        Self::start_at((ip, PORT).into(), Some(host.to_owned()), setup)
    }

    fn start_at(address: SocketAddr, host: Option<String>, setup: Setup) -> Self {
        assert!(Path::new(PROGRAM).exists(), "no Apache to test against: run make test-tools");
        let dir = tempfile::Builder::new()
            .prefix("apache.")
            .tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir());
        let mut apache = Self { dir: dir.expect("a directory"), address, setup, host, child: None };
        apache.write_files().expect("its files are written");
        apache.run();
        apache
    }

    /// The directory that it serves.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The URL of a path below its directory.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}/{path}", if self.setup.tls { "https" } else { "http" }, self.address)
    }

    /// The certificate in use, as PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// What it complained of.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default()
    }

    /// A place below its directory.
    ///
    /// # Panics
    /// If `path` names no document.
    #[must_use]
    pub fn place(&self, path: &str) -> Place {
        Place::parse(&self.url(path)).expect("a place")
    }

    /// The real client of its one user.
    ///
    /// # Panics
    /// If the system gives none.
    #[must_use]
    pub fn client(&self) -> Client {
        morpheus::install_tls();
        let login = Login { username: USER.to_owned(), password: PASSWORD.into() };
        Client::new(&self.place("registry.json"), login).expect("a client")
    }

    /// A door to the directory of the document at `path`, over `http`.
    #[must_use]
    pub fn door_over(&self, path: &str, http: impl Http + 'static) -> WebDav {
        WebDav::new(self.place(path), Box::new(http))
    }

    /// A door to the directory of the document at `path`.
    #[must_use]
    pub fn door(&self, path: &str) -> WebDav {
        self.door_over(path, self.client())
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Starts it again.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn run(&mut self) {
        // It ends with the thread that started it, also where the test is killed.
        let with_its_parent = ["setpriv", "--pdeathsig", "TERM", PROGRAM];
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = match &self.host {
                None => Command::new("unshare"),
                Some(host) => {
                    let mut command = Command::new("ip");
                    command.args(["netns", "exec", host, "unshare"]);
                    command
                }
            };
            command.args(["--user", "--map-user=1000", "--map-group=1000"]).args(with_its_parent);
            command
        } else {
            let mut command = Command::new(with_its_parent[0]);
            command.args(&with_its_parent[1..]);
            command
        };
        command.arg("-f").arg(self.dir.path().join("apache.conf")).arg("-DFOREGROUND");
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("Apache can be started");
        until("Apache listens", || {
            let ended = child.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "Apache ended with {ended:?}: {}", self.log());
            match &self.host {
                None => TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok(),
                // It writes its number once it listens.
                Some(_) => self.dir.path().join("pid").exists(),
            }
            .then_some(())
        });
        self.child = Some(child);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        // It may be gone already.
        let _ = kill_process_group(group, signal);
        let _ = child.wait();
        let of_mine = || process::of_directory(self.dir.path()).is_empty().then_some(());
        until("all of Apache is gone", || {
            let _ = kill_process_group(group, Signal::KILL);
            of_mine()
        });
    }

    fn write_files(&self) -> std::io::Result<()> {
        let dir = self.dir.path();
        fs::create_dir(self.root())?;
        fs::write(dir.join("users"), format!("{USER}:{PASSWORD_SHA}\n"))?;
        if self.setup.tls {
            let names = vec![self.address.ip().to_string()];
            let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
            fs::write(self.certificate(), made.cert.pem())?;
            fs::write(dir.join("key.pem"), made.signing_key.serialize_pem())?;
        }
        fs::write(dir.join("apache.conf"), self.config())
    }

    fn config(&self) -> String {
        let dir = self.dir.path().display();
        let mut modules =
            "mpm_event authn_core authn_file authz_core authz_user auth_basic dav dav_fs headers".to_owned();
        let mut more = String::new();
        if self.setup.tls {
            modules.push_str(" ssl");
            more.push_str("SSLEngine on\nSSLCertificateFile cert.pem\nSSLCertificateKeyFile key.pem\n");
        }
        if self.setup.ignores_conditions {
            more.push_str("RequestHeader unset If-Match early\nRequestHeader unset If-None-Match early\n");
        }
        let mut text = format!("ServerRoot {dir}\nDefaultRuntimeDir {dir}\n");
        for module in modules.split(' ') {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "LoadModule {module}_module {MODULES}/mod_{module}.so");
        }
        text + &format!(
            "ServerName localhost\nListen {address}\nPidFile pid\nErrorLog error.log\nMutex file:{dir}\n\
             StartServers 1\nServerLimit 1\nThreadsPerChild 40\nMaxRequestWorkers 40\n\
             KeepAliveTimeout 60\nMaxKeepAliveRequests 0\n\
             DocumentRoot {dir}/root\nDavLockDB {dir}/locks\n{more}\
             <Directory {dir}/root>\nDav on\nAuthType Basic\nAuthName share\nAuthUserFile users\n\
             Require valid-user\n</Directory>\n",
            address = self.address,
        )
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        self.end(Signal::TERM);
    }
}
