//! ssh to nodes: which key, which host keys are known, and what is run. The addresses of deleted servers are given to
//! others, so each planting has host keys of its own.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use forest_core::reason::Reason;

use super::labels::Mark;
use crate::config::Machine;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::files;

/// The agent on a node.
pub const AGENT: &str = "/usr/local/bin/forest-agent";

/// Who logs in: Hetzner's images have no other.
const USER: &str = "root";

/// How nodes of a forest are logged in to.
#[derive(Debug, Clone)]
pub struct Ssh {
    key: Option<PathBuf>,
    known_hosts: PathBuf,
}

impl Ssh {
    /// For the nodes of a planting.
    ///
    /// # Errors
    /// [`Failure`] where there is no place for host keys.
    pub fn new(machine: &Machine, mark: &Mark, env: &Environment) -> Result<Self, Failure> {
        let dir = known_hosts_dir(env)?;
        files::make_dir(&dir)?;
        Ok(Self { key: private_key(machine), known_hosts: dir.join(known_hosts(mark)) })
    }

    /// The arguments of ssh that log in to `ip` and run `command`; `more` options go before.
    #[must_use]
    pub fn arguments(&self, ip: IpAddr, more: &[&str], command: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut option = |text: String| all.extend(["-o".to_owned(), text]);
        option("BatchMode=yes".to_owned());
        option("ConnectTimeout=10".to_owned());
        option("ServerAliveInterval=15".to_owned());
        option("StrictHostKeyChecking=accept-new".to_owned());
        // A connection that the user's own configuration shares may lead to whoever had the address before.
        option("ControlMaster=no".to_owned());
        option("ControlPath=none".to_owned());
        // Else the key of one address could not be forgotten.
        option("HashKnownHosts=no".to_owned());
        option(format!("UserKnownHostsFile={}", quoted(&self.known_hosts)));
        if let Some(key) = &self.key {
            all.extend(["-i".to_owned(), key.display().to_string()]);
        }
        all.extend(more.iter().map(|text| (*text).to_owned()));
        all.extend(["-l".to_owned(), USER.to_owned(), "--".to_owned(), ip.to_string()]);
        all.extend(command.iter().map(|text| (*text).to_owned()));
        all
    }
}

impl Ssh {
    /// Forgets the host key of a machine that is gone: its address may come to the next one.
    pub fn forget(&self, ip: IpAddr) {
        let Ok(text) = std::fs::read_to_string(&self.known_hosts) else { return };
        let is_its = |line: &&str| line.split([' ', ',']).next() == Some(&ip.to_string());
        let rest: String =
            text.lines().filter(|line| !is_its(line)).map(|line| format!("{line}\n")).collect();
        if rest != text {
            // What stays costs no more than a message of ssh, which names the file.
            let _ = std::fs::write(&self.known_hosts, rest);
        }
    }
}

/// A path as one word of an option of ssh that takes several, and in which `%` begins a token.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{text}\"")
}

/// Forgets the host keys of a planting.
pub fn forget(mark: &Mark, env: &Environment) {
    if let Ok(dir) = known_hosts_dir(env) {
        // There may never have been any.
        let _ = std::fs::remove_file(dir.join(known_hosts(mark)));
    }
}

fn known_hosts_dir(env: &Environment) -> Result<PathBuf, Failure> {
    let state = env.xdg("XDG_STATE_HOME", ".local/state");
    state.map(|state| state.join("morpheus/known_hosts")).ok_or_else(|| {
        Failure::new(Reason::LocalState, "neither HOME nor XDG_STATE_HOME is set: set one of them")
    })
}

fn known_hosts(mark: &Mark) -> String {
    format!("{}-{}", mark.forest, mark.planting)
}

/// The other half of the configured public key, if it lies beside it.
#[must_use]
pub fn private_key(machine: &Machine) -> Option<PathBuf> {
    let public = machine.key_path.as_ref()?;
    let private = public.with_extension("");
    (private != *public && private.exists()).then_some(private)
}

/// A program of this name in PATH.
#[must_use]
pub fn in_path(name: &str, env: &Environment) -> Option<PathBuf> {
    let dirs = std::env::split_paths(env.get("PATH").unwrap_or_default());
    dirs.filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|path: &PathBuf| Path::is_file(path))
}

/// ssh itself.
///
/// # Errors
/// [`Failure`] where it is not installed.
pub fn program(env: &Environment) -> Result<PathBuf, Failure> {
    in_path("ssh", env).ok_or_else(|| {
        let message = "ssh is not in PATH: install it (Debian, Ubuntu: sudo apt-get install openssh-client)";
        Failure::new(Reason::ProgramMissing, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_blanks_is_one_file_of_host_keys() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join(r#"my "own" 100%d\state"#);
        let env = Environment::from([("XDG_STATE_HOME", state.to_str().unwrap())]);
        let mark = Mark { forest: "grove".parse().unwrap(), planting: "p1".to_owned() };
        let ssh = Ssh::new(&Machine::default(), &mark, &env).unwrap();
        let line = ssh.arguments("2001:db8::1".parse().unwrap(), &[], &[]);
        let option = line.iter().find_map(|word| word.strip_prefix("UserKnownHostsFile=")).unwrap();
        let home = home.path().display();
        let due = format!(r#""{home}/my \"own\" 100%%d\\state/morpheus/known_hosts/grove-p1""#);
        assert_eq!(option, due);
    }

    #[test]
    fn host_keys_are_a_plantings_own_and_nothing_is_asked() {
        let home = tempfile::tempdir().unwrap();
        let env = Environment::from([("HOME", home.path().to_str().unwrap())]);
        let key = home.path().join("id_ed25519");
        std::fs::write(&key, "").unwrap();
        let machine = Machine { key_path: Some(key.with_extension("pub")), ..Machine::default() };
        let mark = Mark { forest: "grove".parse().unwrap(), planting: "p1".to_owned() };
        let ssh = Ssh::new(&machine, &mark, &env).unwrap();
        let line = ssh.arguments("2001:db8::1".parse().unwrap(), &["-N"], &["true"]).join(" ");
        assert!(line.contains("BatchMode=yes") && line.contains("known_hosts/grove-p1"), "{line}");
        assert!(line.contains(&format!("-i {}", key.display())), "{line}");
        assert!(line.ends_with("-N -l root -- 2001:db8::1 true"), "{line}");
        let known = home.path().join(".local/state/morpheus/known_hosts/grove-p1");
        std::fs::write(&known, "2001:db8::1 ssh-ed25519 A\n2001:db8::11 ssh-ed25519 B\n").unwrap();
        ssh.forget("2001:db8::1".parse().unwrap());
        assert_eq!(std::fs::read_to_string(&known).unwrap(), "2001:db8::11 ssh-ed25519 B\n");
        forget(&mark, &env);
        assert_eq!(home.path().join(".local/state/morpheus/known_hosts").read_dir().unwrap().count(), 0);
    }
}
