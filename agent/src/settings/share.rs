//! `share:` of agent.yaml: what will go to mount(2), checked so that nothing in it can change its meaning there.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use forest_core::yaml::{Field, Problem};

use super::Share;
use super::validate::path_or;
use super::value;

/// The mount options if the file gives none. `nolease`: of a file that one node has under a lease, and that another
/// one replaces at the right moment, Samba never answers a third one's open; measured with two nodes, whose
/// reads then hung for good.
const OPTIONS: [&str; 8] = [
    "seal",
    "vers=3.1.1",
    "soft",
    "echo_interval=5",
    "closetimeo=0",
    "nolease",
    "file_mode=0600",
    "dir_mode=0700",
];

/// Options that the agent sets itself, and the key that they come from.
const OWN: [(&str, &str); 15] = [
    ("username", "share.username"),
    ("user", "share.username"),
    ("password", "share.password_file"),
    ("password2", "share.password_file"),
    ("pass", "share.password_file"),
    ("credentials", "share.password_file"),
    ("cred", "share.password_file"),
    ("ip", "share.source"),
    ("addr", "share.source"),
    ("unc", "share.source"),
    ("source", "share.source"),
    ("target", "share.source"),
    ("path", "share.source"),
    ("prefixpath", "share.source"),
    ("prefix", "share.source"),
];

/// Judges the section.
pub(super) fn settings(field: Field<'_>) -> Result<Share, Problem> {
    let table = field.table()?;
    let (host, path) = source(&table.require("source", "//host/share")?)?;
    Ok(Share {
        host,
        path,
        mountpoint: table
            .get("mountpoint")
            .map_or_else(|| Ok(PathBuf::from("/mnt/forest")), |field| mountpoint(&field))?,
        username: username(&table.require("username", "u12345")?)?,
        password_file: path_or(&table, "password_file", "/etc/morpheus/storagebox.password")?,
        options: match table.get("options") {
            Some(field) => field.list()?.iter().map(option).collect::<Result<_, _>>()?,
            None => OPTIONS.map(str::to_owned).to_vec(),
        },
    })
}

fn mountpoint(field: &Field<'_>) -> Result<PathBuf, Problem> {
    let path = value::path(field)?;
    match path.parent() {
        Some(_) => Ok(path),
        None => {
            Err(field.problem("is the root directory", "choose a directory of its own, like /mnt/forest"))
        }
    }
}

/// `//host/share[/directory…]` in two halves. What is refused is not shown: it may hold a password.
fn source(field: &Field<'_>) -> Result<(String, String), Problem> {
    let wrong = |what: &str| field.problem(what, "write it like //host/share or //host/share/directory");
    let text = field.text()?;
    if text.contains('\\') {
        return Err(wrong("has backslashes"));
    }
    let rest = text.strip_prefix("//").ok_or_else(|| wrong("does not begin with two slashes"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.strip_suffix('/').unwrap_or(path);
    if host.contains('@') {
        return Err(wrong("holds a user name, which belongs into share.username"));
    }
    if path.is_empty() {
        return Err(wrong("names no share"));
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(wrong("has an empty part, `.` or `..` in its path"));
    }
    let host = self::host(host).ok_or_else(|| wrong("names neither a host nor an IP address"))?;
    Ok((host, path.to_owned()))
}

/// A name, or an IP literal with its brackets taken off.
fn host(text: &str) -> Option<String> {
    let literal = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'))?;
    if literal.contains(':') || literal.len() != text.len() {
        return literal.parse::<Ipv6Addr>().ok().map(|ip| ip.to_string());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    ((1..=253).contains(&text.len()) && text.chars().all(plain)).then(|| text.to_owned())
}

/// The name goes into the mount options as it is, and the kernel knows no way to quote a comma in it.
fn username(field: &Field<'_>) -> Result<String, Problem> {
    let text = field.text()?;
    if text.contains([',', '%']) {
        return Err(field.problem(
            "holds a comma or a percent sign, which no mount option carries",
            "write the user's name alone; the password belongs into share.password_file",
        ));
    }
    Ok(text.to_owned())
}

/// `name` or `name=value`. The value is not shown.
fn option(field: &Field<'_>) -> Result<String, Problem> {
    let text = field.text()?;
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    if let Some((own, key)) = OWN.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)) {
        return Err(field.problem(
            format!("the option `{own}` is set by the agent itself, from {key}"),
            "take it out of the list",
        ));
    }
    if text.contains(',') {
        return Err(field.problem("an option with a comma in it", "write each option as an item of its own"));
    }
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(field.problem("an option without a plain name", "write name or name=value"));
    }
    Ok(text.to_owned())
}
