use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::registry::door::Base;

fn door() -> (tempfile::TempDir, FsDoor) {
    let dir = tempfile::tempdir().unwrap();
    let door = FsDoor::open(dir.path(), None).unwrap();
    (dir, door)
}

fn publish(door: &FsDoor, staged: &str, target: &str) -> Result<(), DoorError> {
    door.publish(&Publish { staged, target, bytes: b"", base: &Base::Any })
}

#[test]
fn nothing_is_overwritten_and_no_full_directory_removed() {
    let (_dir, door) = door();
    door.mkdir("a").unwrap();
    door.mkdir("b").unwrap();
    door.write_new("a/x", b"1").unwrap();
    door.write_new("b/x", b"2").unwrap();
    assert_eq!(door.write_new("a/x", b"3").unwrap_err().kind, Kind::Exists);
    assert!(matches!(door.move_new("a", "b").unwrap_err().kind, Kind::Exists | Kind::NotEmpty));
    assert_eq!(door.move_new("a/x", "b/x").unwrap_err().kind, Kind::Exists);
    assert_eq!(door.rmdir("a").unwrap_err().kind, Kind::NotEmpty);
    assert_eq!(door.read("b/x").unwrap().0, b"2");
    assert_eq!(door.list("a").unwrap(), ["x"]);
}

#[test]
fn staging_creates_nothing() {
    let (_dir, door) = door();
    assert_eq!(door.stage("x", b"1").unwrap_err().kind, Kind::NotFound);
    assert_eq!(publish(&door, "x", "y").unwrap_err().kind, Kind::NotFound);
    assert_eq!(door.list("").unwrap(), [""; 0]);
}

#[test]
fn a_replaced_file_keeps_its_mode_and_a_new_one_is_private() {
    let (dir, door) = door();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    for due in [0o600, 0o644] {
        door.write_new("staged", b"1").unwrap();
        publish(&door, "staged", "file").unwrap();
        assert_eq!(mode("file"), due);
        fs::set_permissions(dir.path().join("file"), fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[test]
fn in_two_steps_as_in_one() {
    let (dir, door) = door();
    let door = door.as_on_cifs();
    let content = || fs::read(dir.path().join("file")).ok();
    door.write_new("staged", b"1").unwrap();
    publish(&door, "staged", "file").unwrap();
    assert_eq!(content().as_deref(), Some(&b"1"[..]));
    // Without a lease nothing is moved.
    assert_eq!(publish(&door, "staged", "file").unwrap_err().kind, Kind::NotFound);
    assert_eq!(content().as_deref(), Some(&b"1"[..]));
    door.mkdir("lease").unwrap();
    door.write_new("lease/n.json", b"2").unwrap();
    publish(&door, "lease/n.json", "file").unwrap();
    assert_eq!(content().as_deref(), Some(&b"2"[..]));
    // What cannot be put there leaves what stood there.
    door.write_new("staged", b"3").unwrap();
    assert!(publish(&door, "staged", "file/below").is_err());
    assert_eq!(content().as_deref(), Some(&b"2"[..]));
    let mut names = door.list("").unwrap();
    names.sort();
    assert_eq!(names, ["file", "lease", "staged"]);
}

#[test]
fn cifs_is_known_by_its_number() {
    assert!(is_cifs(0xff53_4d42_u32) && is_cifs(0xfe53_4d42_i64) && is_cifs(-11_317_950_i32));
    assert!(!is_cifs(0xef53_u32) && !is_cifs(0_i64));
}

/// Another user's can be made by root alone; to anybody else the file stays one's own.
#[test]
fn a_replaced_file_keeps_its_owner_and_group_where_that_is_allowed() {
    let (dir, door) = door();
    let path = dir.path().join("file");
    door.write_new("file", b"1").unwrap();
    let _ = std::os::unix::fs::chown(&path, Some(12345), Some(23456));
    let owner = || fs::metadata(&path).map(|file| (file.uid(), file.gid())).unwrap();
    let due = owner();
    door.write_new("staged", b"2").unwrap();
    publish(&door, "staged", "file").unwrap();
    assert_eq!((owner(), fs::read(&path).unwrap()), (due, b"2".to_vec()));
}

#[test]
fn the_directory_is_the_one_that_was_opened() {
    let (dir, door) = door();
    let (here, moved) = (dir.path().join("here"), dir.path().join("moved"));
    door.mkdir("here").unwrap();
    let inner = FsDoor::open(&here, None).unwrap();
    fs::rename(&here, &moved).unwrap();
    fs::create_dir(&here).unwrap();
    inner.write_new("x", b"1").unwrap();
    assert!(moved.join("x").exists() && !here.join("x").exists());
}

#[test]
fn errors_name_call_and_path() {
    let (dir, door) = door();
    let err = door.read("x").unwrap_err();
    assert_eq!(err.to_string(), format!("cannot read {}", dir.path().join("x").display()));
    assert_eq!(err.reason().code(), "registry_unreadable");
}
