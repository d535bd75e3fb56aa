//! Single values of agent.yaml: what each has to look like, and what to write instead.

use std::net::{IpAddr, SocketAddr};
use std::path::{Component, PathBuf};
use std::time::Duration;

use forest_core::address::Address;
use forest_core::yaml::{Field, Problem};
use ipnet::IpNet;
use jiff::SignedDuration;
use url::Url;

/// The default of `poll_interval`.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// An absolute path without `..`, so that "below" is a question about text alone.
pub(super) fn path(field: &Field<'_>) -> Result<PathBuf, Problem> {
    let text = field.text()?;
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(field.problem(format!("`{text}` is not an absolute path"), "begin it with a slash"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(field.problem(format!("`{text}` goes upwards"), "write the path without `..`"));
    }
    Ok(path)
}

/// A time between two looks, 100 ms to 10 min.
pub(super) fn interval(field: &Field<'_>) -> Result<Duration, Problem> {
    let text = field.text()?;
    let remedy = "write a number and its unit, like 500ms, 5s or 1m";
    let wrong = || field.problem(format!("`{text}` is not a duration"), remedy);
    let interval: SignedDuration = text.parse().map_err(|_| wrong())?;
    let interval = Duration::try_from(interval).map_err(|_| wrong())?;
    if !(Duration::from_millis(100)..=Duration::from_secs(600)).contains(&interval) {
        return Err(field.problem(format!("`{text}` is out of bounds"), "choose from 100ms to 10m"));
    }
    Ok(interval)
}

/// An address and a port to listen on.
pub(super) fn socket(field: &Field<'_>) -> Result<SocketAddr, Problem> {
    let text = field.text()?;
    let address: SocketAddr = text.parse().map_err(|_| {
        field.problem(
            format!("`{text}` is not an IP address and a port"),
            "write it like \"127.0.0.1:4222\" or \"[::]:4222\"",
        )
    })?;
    if address.port() == 0 {
        return Err(
            field.problem("port 0 is any port, which no peer could find", "give a port from 1 to 65535")
        );
    }
    Ok(address)
}

/// Who may reach a port: an address or a network, without the bits behind its prefix; `None` for `any`.
pub(super) fn network(field: &Field<'_>) -> Result<Option<IpNet>, Problem> {
    let text = field.text()?;
    let remedy = "write any, an address, or a network like 10.0.0.0/8";
    if text == "any" {
        return Ok(None);
    }
    let Some((ip, prefix)) = text.split_once('/') else {
        return Ok(Some(field.parse::<Address>(remedy)?.ip().into()));
    };
    let ip: IpAddr = ip.parse().map_err(|_| field.problem(format!("`{text}` is not a network"), remedy))?;
    let net = prefix.parse().ok().and_then(|bits| IpNet::new(ip, bits).ok());
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let wrong = || field.problem(format!("`{text}` has no prefix length of 0 to {most}"), remedy);
    Ok(Some(net.ok_or_else(wrong)?.trunc()))
}

/// Where to download from. The URL is never shown: it may bear a token.
pub(super) fn url(field: &Field<'_>) -> Result<Url, Problem> {
    let url: Url = field.text()?.parse().map_err(|err| {
        field.problem(format!("is not a URL: {err}"), "write https://host/path or file:///path")
    })?;
    if !matches!(url.scheme(), "https" | "http" | "file") {
        return Err(field.problem("the URL's scheme is not supported", "use https, http or file"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(field.problem(
            "the URL holds a user name or a password, which would end up in logs",
            "use a URL without them, or put the file on the share and write file:///path",
        ));
    }
    if url.scheme() == "file" && url.host().is_some() {
        return Err(field.problem("the file URL names a host", "write file:///path, with three slashes"));
    }
    Ok(url)
}

/// 32 bytes in hexadecimal.
pub(super) fn sha256(field: &Field<'_>) -> Result<[u8; 32], Problem> {
    let text = field.text()?;
    let wrong = |what| field.problem(what, "write what `sha256sum FILE` prints");
    if text.len() != 64 {
        return Err(wrong(format!("has {} characters, and a sha256 has 64", text.chars().count())));
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let (Some(high), Some(low)) = (hex(pair[0]), hex(pair[1])) else {
            return Err(wrong("holds a character other than 0-9 and a-f".to_owned()));
        };
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
