//! The person's public key: found, and known to be one. A private key is never read further than its first line.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use forest_core::reason::Reason;

use super::plan::PublicKey;
use crate::config::Machine;
use crate::environment::Environment;
use crate::failure::Failure;

/// Where keys usually lie, below the home.
const USUAL: [&str; 3] = [".ssh/id_ed25519.pub", ".ssh/id_ecdsa.pub", ".ssh/id_rsa.pub"];
/// No public key is longer, in bytes.
const LONGEST: u64 = 16_384;

/// The configured key, else the first of the usual ones; `None`: there is none.
///
/// # Errors
/// [`Failure`] where the configured file cannot be read, or holds no public key.
pub fn find(machine: &Machine, env: &Environment) -> Result<Option<PublicKey>, Failure> {
    let home = env.get("HOME").map(PathBuf::from);
    let path = match &machine.key_path {
        Some(path) => Some(path.clone()),
        None => home.and_then(|home| USUAL.iter().map(|name| home.join(name)).find(|path| path.exists())),
    };
    let Some(path) = path else { return Ok(None) };
    let text = read(&path)?;
    let name = machine.key_name.clone().unwrap_or_else(|| name(&text, env));
    Ok(Some(PublicKey { name, text }))
}

fn read(path: &Path) -> Result<String, Failure> {
    let wrong = |what: &str| {
        let message = format!("machine.ssh.key_path: {} {what}", path.display());
        Failure::new(Reason::ConfigInvalid, message)
    };
    let file = std::fs::File::open(path).map_err(|err| wrong(&format!("cannot be read: {err}")))?;
    let mut text = String::new();
    let read = file.take(LONGEST).read_to_string(&mut text);
    read.map_err(|err| wrong(&format!("is no public key: {err}")))?;
    if text.starts_with("-----BEGIN") {
        return Err(wrong("is a private key: name the file beside it that ends in .pub"));
    }
    let line = text.trim();
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let known = ["ssh-", "ecdsa-", "sk-"].iter().any(|begin| kind.starts_with(begin));
    match words.next() {
        Some(_) if known && !line.contains('\n') => Ok(line.to_owned()),
        _ => Err(wrong("is no public key: its line begins with ssh-ed25519, ssh-rsa or ecdsa-…")),
    }
}

/// What the key is called in the project: its comment, else the user.
fn name(key: &str, env: &Environment) -> String {
    let comment = key.split_whitespace().nth(2).or(env.get("USER")).unwrap_or("laptop");
    let plain: String =
        comment.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.@".contains(*c)).collect();
    format!("morpheus-{plain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_home(file: &str, text: &str, machine: &Machine) -> Result<Option<PublicKey>, Failure> {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        std::fs::write(home.path().join(file), text).unwrap();
        let key_path = machine.key_path.as_ref().map(|path| home.path().join(path));
        let machine = Machine { key_path, ..machine.clone() };
        find(&machine, &Environment::from([("HOME", home.path().to_str().unwrap())]))
    }

    #[test]
    fn the_usual_key_is_found_and_named() {
        let key = in_home(".ssh/id_rsa.pub", "ssh-rsa AAAA me@here\n", &Machine::default()).unwrap().unwrap();
        assert_eq!((key.name.as_str(), key.text.as_str()), ("morpheus-me@here", "ssh-rsa AAAA me@here"));
        assert_eq!(in_home(".ssh/other", "x", &Machine::default()), Ok(None));
    }

    #[test]
    fn what_is_no_public_key_is_refused_and_not_shown() {
        let machine = Machine { key_path: Some("key".into()), ..Machine::default() };
        for (text, part) in [
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2", "is a private key"),
            ("hunter2", "is no public key"),
            ("ssh-rsa", "is no public key"),
            ("ssh-rsa AAAA\nssh-rsa hunter2", "is no public key"),
        ] {
            let err = in_home("key", text, &machine).unwrap_err();
            assert!(err.message.contains(part) && !err.message.contains("hunter2"), "{err}");
        }
        let err = in_home("other", "", &machine).unwrap_err();
        assert!(err.message.contains("cannot be read"), "{err}");
    }
}
