//! The registry's directory itself, which a new share does not have yet.

use forest_core::registry::{Door as _, DoorError, Kind};
use url::Url;

use super::door::WebDav;

/// Makes the door's directory, and those above it that are missing. What stands is left alone.
///
/// # Errors
/// [`DoorError`] where the server refuses, or something that is no directory stands in the way.
pub fn make(door: &WebDav) -> Result<(), DoorError> {
    make_at(door, door.place().dir())?;
    // A server may say of a file, too, that it cannot be made again.
    door.list("").map(drop)
}

fn make_at(door: &WebDav, dir: &Url) -> Result<(), DoorError> {
    let made = door.mkcol(dir);
    match (made, above(dir)) {
        (Err(err), Some(above)) if err.kind == Kind::NotFound => {
            make_at(door, &above)?;
            or_there(door.mkcol(dir))
        }
        (made, _) => or_there(made),
    }
}

fn or_there(made: Result<(), DoorError>) -> Result<(), DoorError> {
    match made {
        Err(err) if err.kind == Kind::Exists => Ok(()),
        made => made,
    }
}

fn above(dir: &Url) -> Option<Url> {
    let above = dir.join("..").ok()?;
    (above != *dir).then_some(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_up_ends_at_the_top() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert_eq!(above(&url("https://h/a/b/")), Some(url("https://h/a/")));
        assert_eq!(above(&url("https://h/a/")), Some(url("https://h/")));
        assert_eq!(above(&url("https://h/")), None);
    }
}
