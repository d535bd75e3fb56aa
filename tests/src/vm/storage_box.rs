//! A StorageBox: one directory on a small file system of its own, shown by Samba and by Apache's WebDAV.
//!
//! Both serve as the same user, like the real one does, and ask for the same name and password. What can happen to a
//! real one can be done to it: dead, silent, full, read-only, another password.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv6Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal};

use super::lab::BOX;
use super::run;
use crate::wait::until;

/// The user of both doors.
pub const USER: &str = "u12345";
/// Its password, unlike anything else that is written anywhere.
pub const PASSWORD: &str = "Zq7'\"$x #: battery";
/// A part of it that no quoting changes: what a search for it looks for.
pub const NEEDLE: &str = "#: battery";
/// The account that owns the files, as Samba and Apache see it.
const OWNER: &str = "www-data";
/// Room on the share, in MB: for the programs and a registry.
const ROOM: u32 = 192;

/// The StorageBox. Dropped, its servers end.
#[derive(Debug)]
pub struct StorageBox {
    dir: PathBuf,
    samba: Option<Child>,
    apache: Option<Child>,
}

impl StorageBox {
    pub(super) fn start(dir: &Path, image: &Path) -> anyhow::Result<Self> {
        for folder in ["share", "samba", "apache"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let share = dir.join("share");
        let share = share.to_str().context("a path that is not UTF-8")?;
        run("mount", &["-t", "tmpfs", "-o", &format!("size={ROOM}M,mode=0755"), "tmpfs", share])?;
        let mut this = Self { dir: dir.to_owned(), samba: None, apache: None };
        this.empty()?;
        this.password(PASSWORD)?;
        this.start_samba(false)?;
        this.start_apache(image)?;
        Ok(this)
    }

    /// The directory which a forest mounts, and which the laptop sees as /morpheus.
    #[must_use]
    pub fn forest(&self) -> PathBuf {
        self.dir.join("share/morpheus")
    }

    /// As new: nothing on it, writable, with the first password, reachable.
    ///
    /// # Errors
    /// Something of it does not work.
    pub fn renew(&mut self) -> anyhow::Result<()> {
        self.reachable(true)?;
        self.empty()?;
        self.password(PASSWORD)?;
        self.kill_samba();
        self.start_samba(false)
    }

    fn empty(&self) -> anyhow::Result<()> {
        let share = self.dir.join("share");
        for entry in fs::read_dir(&share)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
        fs::create_dir_all(self.forest().join("bin"))?;
        self.hand_over()
    }

    /// Puts a file below the forest's directory.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.forest().join(name);
        fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
        self.hand_over()
    }

    fn hand_over(&self) -> anyhow::Result<()> {
        let share = self.dir.join("share");
        run("chown", &["-R", &format!("{OWNER}:"), &share.to_string_lossy()]).map(drop)
    }

    /// Both doors ask for this password from now on; who is inside stays until Samba is killed.
    ///
    /// # Errors
    /// Samba's or Apache's tools refuse it.
    pub fn password(&self, password: &str) -> anyhow::Result<()> {
        self.samba_password(password)?;
        let users = self.dir.join("apache/users");
        piped("htpasswd", &["-ciB", &users.to_string_lossy(), USER], password)
    }

    /// Samba alone asks for this password from now on.
    ///
    /// # Errors
    /// Samba's tools refuse it.
    pub fn samba_password(&self, password: &str) -> anyhow::Result<()> {
        let config = self.samba_config(false)?;
        piped("smbpasswd", &["-c", &config, "-s", "-a", OWNER], &format!("{password}\n{password}\n"))
    }

    /// Starts Samba; `read_only`: nobody may write.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_samba(&mut self, read_only: bool) -> anyhow::Result<()> {
        let config = self.samba_config(read_only)?;
        let log = self.dir.join("samba/out.log");
        self.samba = Some(serve("smbd", &["-F", "--no-process-group", "-s", &config], &log)?);
        listening("Samba", 445);
        Ok(())
    }

    /// Kills Samba and all its connections with signal 9.
    pub fn kill_samba(&mut self) {
        end(&mut self.samba);
    }

    /// Lets packets to port 445 through, or drops them in silence.
    ///
    /// # Errors
    /// What nft says.
    pub fn reachable(&self, reachable: bool) -> anyhow::Result<()> {
        run("nft", &["add", "table", "inet", "box"])?;
        run("nft", &["delete", "table", "inet", "box"])?;
        if reachable { Ok(()) } else { drop_packets("tcp dport 445") }
    }

    /// Drops packets to port 445 that come from `guest`, until [`Self::reachable`] says otherwise.
    ///
    /// # Errors
    /// What nft says.
    pub fn unreachable_from(&self, guest: Ipv6Addr) -> anyhow::Result<()> {
        drop_packets(&format!("ip6 saddr {guest} tcp dport 445"))
    }

    /// Replaces a file of the forest's directory in one step, as its other door would.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn replace(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let (new, path) = (self.forest().join("replacement"), self.forest().join(name));
        fs::write(&new, content).with_context(|| format!("failed to write {}", new.display()))?;
        run("chown", &[&format!("{OWNER}:"), &new.to_string_lossy()])?;
        fs::rename(&new, &path).with_context(|| format!("failed to replace {}", path.display()))
    }

    /// Fills the share to its last byte; what is there already can be filled up.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.filling())?;
        let block = vec![0; 1 << 16];
        while file.write_all(&block).is_ok() {}
        self.hand_over()
    }

    /// Makes room for `bytes` on a share that was filled.
    ///
    /// # Errors
    /// It was not.
    pub fn room(&self, bytes: u64) -> anyhow::Result<()> {
        let file = File::options().write(true).open(self.filling())?;
        Ok(file.set_len(file.metadata()?.len().saturating_sub(bytes))?)
    }

    /// Makes room again.
    ///
    /// # Errors
    /// The file that filled it cannot be removed.
    pub fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.filling())?)
    }

    fn filling(&self) -> PathBuf {
        self.dir.join("share/filling")
    }

    pub(super) fn keep(&self, dir: &Path) -> anyhow::Result<()> {
        for log in ["samba/log.smbd", "apache/error.log", "apache/access.log"] {
            // One that was never written is not missed.
            let _ = fs::copy(self.dir.join(log), dir.join(log.replace('/', "-")));
        }
        let _ = fs::copy(self.forest().join("registry.json"), dir.join("registry.json"));
        Ok(())
    }

    fn samba_config(&self, read_only: bool) -> anyhow::Result<String> {
        let path = self.dir.join("samba/smb.conf");
        let dir = self.dir.join("samba");
        let (dir, share) = (dir.display(), self.dir.join("share"));
        let users = self.dir.join("samba/users");
        fs::write(&users, format!("{OWNER} = {USER}\n"))?;
        let private =
            ["private dir", "lock directory", "state directory", "cache directory", "pid directory"];
        let private = private.map(|key| format!("{key} = {dir}\n")).concat();
        let text = format!(
            "[global]\n\
             server role = standalone server\nserver min protocol = SMB3_11\nsmb ports = 445\n\
             interfaces = br0\nbind interfaces only = yes\ndisable netbios = yes\nmap to guest = never\n\
             {private}ncalrpc dir = {dir}/ncalrpc\npassdb backend = tdbsam:{dir}/passdb.tdb\n\
             username map = {users}\nlog file = {dir}/log.smbd\nlog level = 1\nload printers = no\n\
             disable spoolss = yes\nstore dos attributes = no\n\
             [backup]\npath = {share}\nread only = {read_only}\nforce user = {OWNER}\n",
            users = users.display(),
            share = share.display(),
            read_only = if read_only { "yes" } else { "no" },
        );
        fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn start_apache(&mut self, image: &Path) -> anyhow::Result<()> {
        let path = self.dir.join("apache/apache.conf");
        let dir = self.dir.join("apache");
        run("chown", &[OWNER, &dir.to_string_lossy()])?;
        let modules = [
            "mpm_event",
            "authn_core",
            "authn_file",
            "authz_core",
            "authz_user",
            "auth_basic",
            "dav",
            "dav_fs",
            "socache_shmcb",
            "ssl",
        ];
        let modules = modules
            .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
            .concat();
        let text = format!(
            "{modules}ServerName box.test\nServerRoot {dir}\nPidFile {dir}/pid\nUser {OWNER}\nGroup {OWNER}\n\
             Mutex file:{dir} default\nErrorLog {dir}/error.log\nCustomLog {dir}/access.log \"%h %u %m %U %>s %b\"\n\
             Listen [{BOX}]:443\nSSLEngine on\nSSLCertificateFile {image}/box.crt\nSSLCertificateKeyFile {image}/box.key\n\
             DavLockDB {dir}/locks\nDocumentRoot {share}\n\
             <Directory />\nRequire all denied\n</Directory>\n\
             <Directory {share}>\nDav On\nAuthType Basic\nAuthName box\nAuthUserFile {dir}/users\nRequire valid-user\n\
             </Directory>\n",
            dir = dir.display(),
            image = image.display(),
            share = self.dir.join("share").display(),
        );
        fs::write(&path, text.replace("CustomLog", "#CustomLog"))?;
        let log = dir.join("out.log");
        self.apache = Some(serve("apache2", &["-f", &path.to_string_lossy(), "-D", "FOREGROUND"], &log)?);
        listening("Apache", 443);
        Ok(())
    }
}

impl Drop for StorageBox {
    fn drop(&mut self) {
        end(&mut self.samba);
        end(&mut self.apache);
    }
}

fn drop_packets(which: &str) -> anyhow::Result<()> {
    let rules =
        format!("table inet box {{ chain input {{ type filter hook input priority 0; {which} drop; }}; }}");
    run("nft", &[&rules]).map(drop)
}

/// A server in a process group of its own, its output in `log`.
fn serve(program: &str, args: &[&str], log: &Path) -> anyhow::Result<Child> {
    let out = File::options().create(true).append(true).open(log)?;
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .process_group(0)
        .spawn()
        .with_context(|| format!("failed to start {program}"))
}

fn end(server: &mut Option<Child>) {
    let Some(mut child) = server.take() else { return };
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

fn listening(what: &str, port: u16) {
    let address = format!("[{BOX}]:{port}");
    until(&format!("{what} listens"), || std::net::TcpStream::connect(&address).ok());
}

fn piped(program: &str, args: &[&str], input: &str) -> anyhow::Result<()> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run {program}"))?;
    child.stdin.take().context("a pipe")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
