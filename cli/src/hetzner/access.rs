//! Where the API is and what opens it: HCLOUD_ENDPOINT and HCLOUD_TOKEN as in Hetzner's own command line tool,
//! else the configuration.

use std::time::Duration;

use forest_core::reason::Reason;
use secrecy::SecretString;
use url::{Host, Url};

use super::transport::Timing;
use crate::environment::Environment;
use crate::failure::Failure;

/// The API of everybody.
const ENDPOINT: &str = "https://api.hetzner.cloud/v1";

/// The API's address and the key to it.
#[derive(Debug, Clone)]
pub struct Access {
    /// Without a slash at its end.
    pub(super) endpoint: String,
    /// Is the endpoint on this machine?
    pub(super) loopback: bool,
    /// Is it spoken to without TLS?
    pub(super) plain: bool,
    pub(super) token: SecretString,
}

impl Access {
    /// What the environment says, else `configured`, the token of the configuration.
    ///
    /// # Errors
    /// [`Failure`] where there is no token, it cannot be one, or the endpoint would send it in the clear.
    pub fn find(env: &Environment, configured: Option<SecretString>) -> Result<Self, Failure> {
        let token = env.get("HCLOUD_TOKEN").map(|token| SecretString::from(token.trim())).or(configured);
        let Some(token) = token else {
            let message = "no API token of Hetzner Cloud: make one in the console (Security, API tokens, Read & \
                           Write) and export HCLOUD_TOKEN, or set secrets.hetzner_api_token";
            return Err(Failure::new(Reason::HetznerNoToken, message));
        };
        Self::new(env.get("HCLOUD_ENDPOINT").unwrap_or(ENDPOINT), token)
    }

    /// The API at `endpoint`.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn new(endpoint: &str, token: SecretString) -> Result<Self, Failure> {
        let refused = |what: &str| {
            let shown = endpoint.escape_default();
            Failure::new(Reason::ConfigInvalid, format!("HCLOUD_ENDPOINT {shown} {what}; write {ENDPOINT}"))
        };
        let url = Url::parse(endpoint).map_err(|_| refused("is no URL"))?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            // Not shown: whatever stands there may be a secret.
            let message = "HCLOUD_ENDPOINT holds more than scheme, host and path: leave the rest out";
            return Err(Failure::new(Reason::ConfigInvalid, message));
        }
        let loopback = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => return Err(refused("names no host")),
        };
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => return Err(refused("would send the token in the clear")),
        }
        if !is_token(&token) {
            let message =
                "the API token of Hetzner Cloud is not one line of plain characters: copy it once more";
            return Err(Failure::new(Reason::HetznerUnauthorized, message));
        }
        let plain = url.scheme() == "http";
        Ok(Self { endpoint: url.as_str().trim_end_matches('/').to_owned(), loopback, plain, token })
    }
}

/// How long things take, with what HCLOUD_POLL_INTERVAL says, as in Hetzner's own command line tool: `500ms`, `2s`.
///
/// # Errors
/// [`Failure`] where it is no such time.
pub fn timing(env: &Environment) -> Result<Timing, Failure> {
    let Some(text) = env.get("HCLOUD_POLL_INTERVAL") else {
        return Ok(Timing::default());
    };
    let parsed = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => number.parse().ok().map(Duration::from_millis),
        (None, Some(number)) => number.parse().ok().map(Duration::from_secs),
        (None, None) => None,
    };
    let valid = parsed.filter(|poll| (Duration::from_millis(1)..=Duration::from_secs(60)).contains(poll));
    valid.map(Timing::of_poll).ok_or_else(|| {
        let message =
            format!("HCLOUD_POLL_INTERVAL {} is no time from 1ms to 60s; write 500ms", text.escape_default());
        Failure::new(Reason::ConfigInvalid, message)
    })
}

/// Can it stand in a header?
fn is_token(token: &SecretString) -> bool {
    use secrecy::ExposeSecret as _;
    let text = token.expose_secret();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pairs: [(&str, &str); 2], configured: Option<&str>) -> Result<Access, Failure> {
        Access::find(&Environment::from(pairs), configured.map(SecretString::from))
    }

    #[test]
    fn the_environment_goes_before_the_configuration() {
        use secrecy::ExposeSecret as _;
        let both = find([("HCLOUD_TOKEN", "env"), ("X", "")], Some("file")).unwrap();
        assert_eq!((both.endpoint.as_str(), both.token.expose_secret()), (ENDPOINT, "env"));
        let file = find([("HCLOUD_TOKEN", ""), ("HCLOUD_ENDPOINT", "http://127.0.0.1:9/v1/")], Some("file"));
        let file = file.unwrap();
        assert_eq!(
            (file.endpoint.as_str(), file.token.expose_secret(), file.loopback),
            ("http://127.0.0.1:9/v1", "file", true)
        );
        assert_eq!(find([("X", ""), ("Y", "")], None).unwrap_err().reason, Reason::HetznerNoToken);
    }

    #[test]
    fn the_poll_interval_scales_every_wait() {
        let of = |text: &str| timing(&Environment::from([("HCLOUD_POLL_INTERVAL", text)]));
        let brisk = of("5ms").unwrap();
        assert_eq!((brisk.poll.as_millis(), brisk.wait.as_millis()), (5, 10));
        assert_eq!(of("2s").unwrap().poll.as_secs(), 2);
        for wrong in ["0ms", "5", "soon", "61s", "-1s"] {
            assert_eq!(of(wrong).unwrap_err().reason, Reason::ConfigInvalid, "{wrong}");
        }
    }

    #[test]
    fn a_token_goes_nowhere_in_the_clear_and_is_never_shown() {
        for endpoint in
            ["http://api.hetzner.cloud/v1", "ftp://127.0.0.1", "nonsense", "https://me:s3cret@x/v1"]
        {
            let err = find([("HCLOUD_TOKEN", "s3cret"), ("HCLOUD_ENDPOINT", endpoint)], None).unwrap_err();
            assert!(err.reason == Reason::ConfigInvalid && !err.message.contains("s3cret"), "{err}");
        }
        let err = find([("HCLOUD_TOKEN", "s3cret\nx"), ("X", "")], None).unwrap_err();
        assert!(err.reason == Reason::HetznerUnauthorized && !err.message.contains("s3cret"), "{err}");
        let access = find([("HCLOUD_TOKEN", "s3cret"), ("X", "")], None).unwrap();
        assert!(!format!("{access:?}").contains("s3cret"));
    }
}
