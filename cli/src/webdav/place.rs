//! Where the registry lies: one URL, taken apart into a directory and a file. Pure.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// The URL of a document, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory, with a slash at its end.
    dir: Url,
    file: String,
}

/// Why a URL cannot be the registry's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct PlaceError {
    /// What is wrong; the URL itself is not shown, it may hold a password.
    pub what: &'static str,
    /// What to write instead.
    pub remedy: &'static str,
}

const EXAMPLE: &str = "write https://HOST/DIRECTORY/registry.json";

impl Place {
    /// Takes the URL of the document apart.
    ///
    /// # Errors
    /// [`PlaceError`]: no URL of a file, a password in it, or no TLS to another machine.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let refuse = |what, remedy| Err(PlaceError { what, remedy });
        let Ok(mut dir) = Url::parse(text) else {
            return refuse("is no URL", EXAMPLE);
        };
        if !matches!(dir.scheme(), "https" | "http") {
            return refuse("is no https URL", EXAMPLE);
        }
        if !dir.username().is_empty() || dir.password().is_some() {
            let remedy = "write it without them, and set registry.username and registry.password";
            return refuse("holds a user name or a password, which would end up in logs", remedy);
        }
        if dir.scheme() == "http" && !is_loopback(&dir) {
            return refuse("would send the password without TLS", "write https://");
        }
        if dir.query().is_some() || dir.fragment().is_some() {
            return refuse("has a `?` or a `#`", EXAMPLE);
        }
        let file = dir.path_segments().and_then(|mut parts| parts.next_back()).map(decoded);
        let Some(file) = file.filter(|file| file.len() > ".json".len() && file.ends_with(".json")) else {
            return refuse("does not end in the name of a file, like registry.json", EXAMPLE);
        };
        if let Ok(mut parts) = dir.path_segments_mut() {
            parts.pop().push("");
        }
        Ok(Self { dir, file })
    }

    /// The document's file name.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Url {
        &self.dir
    }

    /// The names of the directories on the way to it, the outermost first.
    #[must_use]
    pub fn folders(&self) -> Vec<String> {
        parts(&self.dir)
    }

    /// The host, as written.
    #[must_use]
    pub fn host(&self) -> &str {
        self.dir.host_str().unwrap_or_default()
    }

    /// Is it this machine?
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_loopback(&self.dir)
    }

    /// A file by its path relative to the directory, which is the empty path.
    #[must_use]
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.dir.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(path.split('/').filter(|part| !part.is_empty()));
        }
        url
    }

    /// A directory by its path: with a slash at its end, else servers answer with a redirect.
    #[must_use]
    pub fn url_of_dir(&self, path: &str) -> Url {
        let mut url = self.url(path);
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push("");
        }
        url
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The parts of a URL's path, decoded; a slash at its end makes none.
pub(super) fn parts(url: &Url) -> Vec<String> {
    url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).map(decoded).collect()
}

fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_directory_and_a_file() {
        let place = Place::parse("https://u1.example.org/morpheus/registry.json").unwrap();
        assert_eq!(
            (place.dir().as_str(), place.file()),
            ("https://u1.example.org/morpheus/", "registry.json")
        );
        assert_eq!(place.url("").as_str(), "https://u1.example.org/morpheus");
        assert_eq!(place.url("a/b c%").as_str(), "https://u1.example.org/morpheus/a/b%20c%25");
        assert_eq!(place.url_of_dir("a").as_str(), "https://u1.example.org/morpheus/a/");
        assert_eq!(place.url_of_dir("").as_str(), "https://u1.example.org/morpheus/");
        let top = Place::parse("https://[fd00::1]:8443/registry.json").unwrap();
        assert_eq!(
            (top.dir().as_str(), top.url_of_dir("").as_str()),
            ("https://[fd00::1]:8443/", top.dir().as_str())
        );
        assert_eq!(top.url("x.json").as_str(), "https://[fd00::1]:8443/x.json");
    }

    #[test]
    fn what_cannot_be_is_refused_without_showing_it() {
        for (url, part) in [
            ("registry.json", "no URL"),
            ("ftp://h/registry.json", "no https URL"),
            ("https://me:hunter2@h/registry.json", "user name or a password"),
            ("http://h/registry.json", "without TLS"),
            ("http://[fd00::1]/registry.json", "without TLS"),
            ("https://h/morpheus/", "name of a file"),
            ("https://h/.json", "name of a file"),
            ("https://h/registry.json?x", "a `?`"),
        ] {
            let err = Place::parse(url).unwrap_err();
            assert!(err.what.contains(part) && !format!("{err:?}").contains("hunter2"), "{url}: {err:?}");
        }
        for local in ["http://127.1.2.3:80/r.json", "http://[::1]/r.json", "http://localhost/r.json"] {
            assert!(Place::parse(local).unwrap().is_local());
        }
    }
}
