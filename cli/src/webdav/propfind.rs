//! Listings: the multistatus document that answers a PROPFIND, read by what it means whatever prefixes it uses.
//! Pure.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use quick_xml::NsReader;
use quick_xml::escape::unescape;
use quick_xml::events::Event;
use quick_xml::name::{QName, ResolveResult};
use url::Url;

use super::place::parts;

/// What is asked for: whether it is a directory, and when it was changed.
pub const QUERY: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?><propfind xmlns=\"DAV:\"><prop>\
                         <resourcetype/><getlastmodified/></prop></propfind>";

/// Why an answer is no listing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// Not the XML it should be.
    #[error("the server's listing cannot be read: {0}")]
    Xml(String),
    /// About something else.
    #[error("the server's listing is not of what was asked for")]
    Foreign,
    /// A file.
    #[error("it is a file and no directory")]
    NoDirectory,
    /// Without the time of the last change.
    #[error("the server does not say when it was changed")]
    NoTime,
}

/// One `<response>`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Member {
    parts: Vec<String>,
    is_dir: bool,
    modified: Option<Timestamp>,
}

/// The names in the directory at `url`. The directory itself has to be in its listing, and be one: an empty
/// answer to another question must never pass for an empty directory.
///
/// # Errors
/// [`ListingError`].
pub fn names(xml: &[u8], url: &Url) -> Result<Vec<String>, ListingError> {
    let here = parts(url);
    let members = members(xml, url)?;
    let own = members.iter().find(|member| member.parts == here).ok_or(ListingError::Foreign)?;
    if !own.is_dir {
        return Err(ListingError::NoDirectory);
    }
    let inside = |member: &&Member| member.parts.len() == here.len() + 1 && member.parts.starts_with(&here);
    Ok(members.iter().filter(inside).filter_map(|member| member.parts.last().cloned()).collect())
}

/// When what is at `url` was last changed, by the server's clock.
///
/// # Errors
/// [`ListingError`].
pub fn modified(xml: &[u8], url: &Url) -> Result<Timestamp, ListingError> {
    let here = parts(url);
    let members = members(xml, url)?;
    let own = members.into_iter().find(|member| member.parts == here).ok_or(ListingError::Foreign)?;
    own.modified.ok_or(ListingError::NoTime)
}

fn members(xml: &[u8], base: &Url) -> Result<Vec<Member>, ListingError> {
    let bad = |what: &dyn std::fmt::Display| ListingError::Xml(what.to_string());
    let text = std::str::from_utf8(xml).map_err(|err| bad(&err))?;
    let mut reader = NsReader::from_str(text);
    let (mut members, mut current, mut content) = (Vec::new(), Member::default(), String::new());
    let mut whole = false;
    loop {
        let event = reader.read_event().map_err(|err| bad(&err))?;
        match &event {
            Event::Start(start) | Event::Empty(start) => {
                content.clear();
                match dav(&reader, start.name()) {
                    Some("response") => current = Member::default(),
                    Some("collection") => current.is_dir = true,
                    _ => {}
                }
            }
            Event::Text(text) => content.push_str(text),
            Event::CData(data) => content.push_str(data),
            Event::GeneralRef(name) => {
                let reference = format!("&{};", &**name);
                content.push_str(&unescape(&reference).map_err(|err| bad(&err))?);
            }
            Event::End(end) => match dav(&reader, end.name()) {
                // Relative to what was asked, or with its own host: only the path counts.
                Some("href") => {
                    current.parts = parts(&base.join(content.trim()).map_err(|err| bad(&err))?);
                }
                Some("getlastmodified") => current.modified = time(content.trim()),
                Some("response") => members.push(std::mem::take(&mut current)),
                Some("multistatus") => whole = true,
                _ => {}
            },
            Event::Eof if whole => return Ok(members),
            // What was cut off may have named more.
            Event::Eof => return Err(bad(&"it has no end")),
            _ => {}
        }
    }
}

/// The local name of an element of WebDAV's own.
fn dav<'n>(reader: &NsReader<&[u8]>, name: QName<'n>) -> Option<&'n str> {
    let (namespace, local) = reader.resolver().resolve_element(name);
    matches!(namespace, ResolveResult::Bound(space) if space.as_ref() == "DAV:").then(|| local.into_inner())
}

fn time(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const APACHE: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<D:multistatus xmlns:D="DAV:">
<D:response xmlns:lp1="DAV:" xmlns:lp2="http://apache.org/dav/props/">
<D:href>/a%20b/</D:href><D:propstat><D:prop>
<lp1:resourcetype><D:collection/></lp1:resourcetype>
<lp1:getlastmodified>Mon, 23 Nov 2026 00:09:42 GMT</lp1:getlastmodified>
</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
<D:response xmlns:lp1="DAV:"><D:href>/a%20b/x&amp;y.json</D:href><D:propstat><D:prop>
<lp1:resourcetype/></D:prop></D:propstat></D:response>
</D:multistatus>"#;

    fn url(path: &str) -> Url {
        Url::parse("https://h/").unwrap().join(path).unwrap()
    }

    #[test]
    fn a_listing_names_what_is_in_the_directory() {
        assert_eq!(names(APACHE.as_bytes(), &url("a%20b/")).unwrap(), ["x&y.json"]);
        let time = modified(APACHE.as_bytes(), &url("a%20b")).unwrap();
        assert_eq!(time.to_string(), "2026-11-23T00:09:42Z");
    }

    #[test]
    fn prefixes_hosts_and_a_default_namespace_make_no_difference() {
        let xml = APACHE.replace("<D:", "<").replace("</D:", "</").replace("xmlns:D=", "xmlns=");
        let xml = xml.replace("<href>/", "<href>http://other:80/");
        assert_eq!(names(xml.as_bytes(), &url("a%20b")).unwrap(), ["x&y.json"]);
    }

    #[test]
    fn another_answer_is_no_empty_directory() {
        let of = |xml: &str, path: &str| names(xml.as_bytes(), &url(path)).unwrap_err();
        assert_eq!(of(APACHE, "c/"), ListingError::Foreign);
        assert_eq!(of(APACHE, "a%20b/x&y.json"), ListingError::NoDirectory);
        let empty = "<multistatus xmlns=\"DAV:\"></multistatus>";
        assert_eq!(of(empty, "a/"), ListingError::Foreign);
        for junk in ["", "<html><body></body></html>", &APACHE.replace("\"DAV:\"", "\"x\"")] {
            assert!(matches!(of(junk, "a%20b/"), ListingError::Xml(_)), "{junk}");
        }
        assert_eq!(modified(APACHE.as_bytes(), &url("a%20b/x&y.json")).unwrap_err(), ListingError::NoTime);
    }

    proptest! {
        #[test]
        fn a_listing_that_was_cut_or_garbled_is_no_other_listing(
            cut in 0..APACHE.len(), junk in "\\PC{0,40}",
        ) {
            for text in [&APACHE[..cut], &junk] {
                if let Ok(names) = names(text.as_bytes(), &url("a%20b/")) {
                    prop_assert_eq!(names, ["x&y.json"]);
                }
            }
        }
    }
}
