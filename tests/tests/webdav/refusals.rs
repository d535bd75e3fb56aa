//! What the door makes of the server's answers: each call's kinds, and messages that a person can act on, without
//! a password in them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Barrier;

use forest_core::reason::Reason;
use forest_core::registry::{
    Base, Door, DoorError, Files, Kind, Limits, Owner, Publish, SystemClock, UpdateOptions, read, update,
};
use forest_core::registry::{Document as _, Registry, Tag};
use forest_core::secrets::{self, Secrets};
use forest_tests::apache::{Apache, PASSWORD, Setup, USER};
use jiff::Timestamp;
use morpheus::webdav::{Client, Login, Place, WebDav, dirs};

/// Those who make the same directory.
const MAKERS: usize = 8;
/// How often they do; before the second look at a refusal one of the first few failed.
const ROUNDS: usize = 40;

fn start() -> (Apache, WebDav) {
    let apache = Apache::start(Setup::default());
    let door = apache.door("registry.json");
    (apache, door)
}

fn told(err: &DoorError) -> String {
    let text = format!("{err}: {}", err.source);
    assert!(!text.contains(PASSWORD) && !format!("{err:?}").contains(PASSWORD), "{text}");
    text
}

fn put(door: &WebDav, base: &Base) -> Result<(), DoorError> {
    door.publish(&Publish { staged: "staged", target: "x.json", bytes: b"{}", base })
}

#[test]
fn nothing_is_overwritten_and_no_full_directory_removed() {
    let (_apache, door) = start();
    door.mkdir("a").unwrap();
    door.mkdir("b").unwrap();
    assert_eq!(door.mkdir("a").unwrap_err().kind, Kind::Exists);
    door.write_new("a/x y%", b"1").unwrap();
    door.write_new("b/x", b"2").unwrap();
    assert_eq!(door.write_new("b/x", b"3").unwrap_err().kind, Kind::Exists);
    assert_eq!(door.move_new("a", "b").unwrap_err().kind, Kind::Exists);
    assert_eq!(door.move_new("a/x y%", "b/x").unwrap_err().kind, Kind::Exists);
    assert_eq!(door.move_new("c", "d").unwrap_err().kind, Kind::NotFound);
    assert_eq!(door.rmdir("a").unwrap_err().kind, Kind::NotEmpty);
    assert_eq!(door.list("a").unwrap(), ["x y%"]);
    assert_eq!(door.read("b/x").unwrap().0, b"2");
    assert_eq!(door.list("b/x").unwrap_err().kind, Kind::Other, "a file");
    assert!(door.modified("b/x").unwrap() > Timestamp::now() - jiff::SignedDuration::from_mins(10));
    door.remove("a/x y%").unwrap();
    door.rmdir("a").unwrap();
    let mut left = door.list("").unwrap();
    left.sort();
    assert_eq!(left, ["b"]);
    for missing in [door.read("a").map(drop), door.list("a").map(drop), door.rmdir("a"), door.remove("a")] {
        assert_eq!(missing.unwrap_err().kind, Kind::NotFound);
    }
}

#[test]
fn a_whole_directory_goes_only_with_the_name_it_should_hold() {
    let (_apache, door) = start();
    door.mkdir("a").unwrap();
    door.write_new("a/mine", b"").unwrap();
    door.remove_whole("a", "another").unwrap().unwrap();
    assert_eq!(door.list("a").unwrap(), ["mine"]);
    door.remove_whole("a", "mine").unwrap().unwrap();
    assert_eq!(door.list("").unwrap(), [""; 0]);
}

#[test]
fn staging_creates_nothing_and_finds_out_what_the_server_honours() {
    for ignores_conditions in [false, true] {
        let apache = Apache::start(Setup { ignores_conditions, ..Setup::default() });
        let door = apache.door("registry.json");
        door.mkdir("lease").unwrap();
        door.write_new("lease/x", b"").unwrap();
        door.stage("lease/x", b"one").unwrap();
        assert_eq!(door.read("lease/x").unwrap().0, b"one");
        // A file that was never there: the directory is, as that of a successor.
        assert_eq!(door.stage("lease/y", b"two").unwrap_err().kind, Kind::NotFound);
        assert_eq!(door.stage("gone/x", b"two").unwrap_err().kind, Kind::NotFound);
        assert_eq!(door.list("lease").unwrap(), ["x"]);
    }
}

/// Right after a change the server's ETag is weak, which no If-Match ever matches; a while later it is strong.
#[test]
fn a_file_that_changed_is_not_replaced_whatever_its_etag_is() {
    for ignores_conditions in [false, true] {
        let apache = Apache::start(Setup { ignores_conditions, ..Setup::default() });
        let door = apache.door("registry.json");
        door.write_new("staged", b"").unwrap();
        door.stage("staged", b"").unwrap();
        put(&door, &Base::Absent).unwrap();
        if !ignores_conditions {
            assert_eq!(put(&door, &Base::Absent).unwrap_err().kind, Kind::Changed);
        }
        let tag = || door.read("x.json").unwrap().1;
        let is_weak = |tag: &Tag| tag.0.as_deref().unwrap().starts_with("W/");
        let weak = tag();
        assert!(is_weak(&weak), "{weak:?}");
        put(&door, &Base::Tag(weak)).unwrap();

        let aged = |seconds| {
            let file = fs::File::open(apache.root().join("x.json")).unwrap();
            file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(seconds))
                .unwrap();
        };
        aged(3600);
        let strong = tag();
        assert!(!is_weak(&strong), "{strong:?}");
        put(&door, &Base::Tag(strong.clone())).unwrap();
        assert_eq!(
            put(&door, &Base::Tag(strong.clone())).unwrap_err().kind,
            Kind::Changed,
            "it has changed since"
        );
        // A weak one, and a change long after it.
        let old = Tag(strong.0.map(|strong| format!("W/{strong}")));
        assert_eq!(put(&door, &Base::Tag(old)).unwrap_err().kind, Kind::Changed);
        put(&door, &Base::Tag(Tag(None))).expect("where the server tells no state there is no condition");
    }
}

#[test]
fn the_directory_is_made_with_those_above_it() {
    let (apache, _) = start();
    let door = apache.door("a b/c/d/registry.json");
    assert_eq!(door.list("").unwrap_err().kind, Kind::NotFound);
    for _ in 0..2 {
        dirs::make(&door).unwrap();
        assert_eq!(door.list("").unwrap(), [""; 0]);
    }
    assert!(apache.root().join("a b/c/d").is_dir());
    fs::write(apache.root().join("file"), "").unwrap();
    let err = dirs::make(&apache.door("file/registry.json")).unwrap_err();
    assert!(told(&err).contains("/file/"), "{err}");
}

/// Two laptops that plant the first forests of a new share.
#[test]
fn those_who_make_it_at_the_same_moment_all_find_it() {
    let (apache, _) = start();
    let barrier = Barrier::new(MAKERS);
    std::thread::scope(|scope| {
        for _ in 0..MAKERS {
            let (apache, barrier) = (&apache, &barrier);
            scope.spawn(move || {
                let made = (0..ROUNDS).map(|round| {
                    let door = apache.door(&format!("{round}/below/registry.json"));
                    barrier.wait();
                    dirs::make(&door)
                });
                made.collect::<Vec<_>>().into_iter().for_each(|made| made.unwrap());
            });
        }
    });
}

/// Where nobody may write, it stays so however often one asks.
#[test]
fn a_directory_that_may_not_be_made_is_said() {
    let (apache, _) = start();
    let closed = apache.root().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let err = dirs::make(&apache.door("closed/below/registry.json")).unwrap_err();
    assert_eq!(err.kind, Kind::Denied, "{err}");
    assert!(told(&err).contains("/closed/below/"), "{err}");
}

#[test]
fn a_wrong_password_is_said_and_not_shown() {
    let (apache, _) = start();
    let place = apache.place("registry.json");
    let login = Login { username: USER.to_owned(), password: format!("{PASSWORD}-2").into() };
    let client = Client::new(&place, login).unwrap();
    assert!(!format!("{client:?}").contains(PASSWORD));
    let err = WebDav::new(place, Box::new(client)).read("registry.json").unwrap_err();
    assert_eq!((err.kind, err.reason()), (Kind::Unauthorized, Reason::RegistryWrongPassword));
    let url = apache.url("registry.json");
    let due = format!(
        "cannot read {url}: the server answers 401: user name or password is wrong: check registry.username and \
         registry.password"
    );
    assert_eq!(told(&err), due);
}

#[test]
fn a_server_that_is_not_there_is_told_from_one_that_went_away() {
    let (mut apache, door) = start();
    door.list("").unwrap();
    apache.kill();
    assert_eq!(door.list("").unwrap_err().kind, Kind::Ambiguous, "it has answered before");
    let err = apache.door("registry.json").list("").unwrap_err();
    assert_eq!((err.kind, err.reason()), (Kind::Unreachable, Reason::RegistryUnreachable));
    assert!(told(&err).contains("no connection"), "{}", told(&err));
    apache.run();
    door.list("").unwrap();
    let place = Place::parse("https://no-such-host.invalid/registry.json").unwrap();
    let client = Client::new(&place, Login { username: USER.to_owned(), password: PASSWORD.into() }).unwrap();
    let err = WebDav::new(place, Box::new(client)).list("").unwrap_err();
    assert_eq!(err.kind, Kind::Unreachable);
    assert!(told(&err).contains("the host name is not resolved"), "{}", told(&err));
}

#[test]
fn an_unknown_certificate_is_refused_before_the_password_is_sent() {
    let apache = Apache::start(Setup { tls: true, ..Setup::default() });
    let err = apache.door("registry.json").list("").unwrap_err();
    assert_eq!(err.kind, Kind::Unreachable);
    let said = told(&err);
    assert!(said.contains("TLS failed") && said.contains("SSL_CERT_FILE"), "{said}");
}

/// A forest's secrets are a document like the registry, and lie in a directory below it.
#[test]
fn secrets_are_updated_as_the_registry_is() {
    let (apache, door) = start();
    door.mkdir(secrets::DIR).unwrap();
    let forest = "grove".parse().unwrap();
    let options = UpdateOptions { files: secrets::files(&forest), create_missing: true };
    let founder = "grove-node-1".parse().unwrap();
    let (owner, limits) = (Owner::current("test"), Limits::default());
    for _ in 0..2 {
        update(&door, &SystemClock, &owner, &limits, &options, |secrets: &Secrets| {
            Ok::<_, std::convert::Infallible>(secrets.found(&founder, "mark", Timestamp::now()))
        })
        .unwrap();
    }
    let found = read::<Secrets>(&door, &SystemClock, &limits, &options.files).unwrap();
    assert_eq!(found.doc.record().unwrap().founder, "grove-node-1");
    let names = fs::read_dir(apache.root().join("secrets")).unwrap().count();
    assert_eq!(names, 2, "the document and its last good copy");
    assert!(read::<Registry>(&door, &SystemClock, &limits, &Files::default()).is_err());
    assert!(Registry::parse(b"{}").is_ok());
}
