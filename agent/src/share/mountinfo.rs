//! What is mounted where: a pure parser of /proc/self/mountinfo, and the question which mount one sees at a path.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The mount's id, the same as statx(2) gives for a descriptor on it; may be used again after an unmount.
    pub id: u64,
    /// Id of the mount it lies on.
    pub parent: u64,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Type of the file system, `cifs` for one.
    pub fstype: String,
    /// What is mounted: a device, `//host/share`, or any word.
    pub source: String,
    /// Options of this mount, comma-separated.
    pub options: String,
    /// Options of the file system, comma-separated; cifs leaves its password out.
    pub super_options: String,
}

/// All mounts that `text`, the contents of a mountinfo file, tells of; a line of another shape is passed over.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// The mount that a process sees at exactly `path`, of several the topmost; `None`: no mount begins there.
#[must_use]
pub fn topmost<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let here = || mounts.iter().filter(|mount| mount.mountpoint == path);
    here().rfind(|lower| !here().any(|upper| upper.parent == lower.id && upper.id != lower.id))
}

/// `36 35 98:0 /root /mountpoint options [tags…] - type source super_options`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let mut fields = fields.skip(2);
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    let options = text(fields.next()?);
    fields.find(|&field| field == b"-")?;
    Some(Mount {
        id,
        parent,
        mountpoint,
        fstype: text(fields.next()?),
        source: text(fields.next()?),
        options,
        super_options: text(fields.next()?),
    })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// The kernel writes space, tab, newline, backslash and `#` as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, tail) = match tail.split_first_chunk::<3>() {
            Some((digits, after)) if first == b'\\' => match octal(*digits) {
                Some(byte) => (byte, after),
                None => (first, tail),
            },
            _ => (first, tail),
        };
        plain.push(byte);
        rest = tail;
    }
    plain
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit - b'0'),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
40 22 0:35 / /mnt/my\\040forest rw,nosuid - cifs //box.example/back\\134up rw,vers=3.1.1,username=u1\n\
nonsense\n\
41 22 0:36 / /mnt/forest rw master:1 propagate_from:2 - tmpfs  rw\n\
44 42 0:38 / /mnt/forest rw - fuse upper rw\n\
42 41 0:37 / /mnt/forest rw - tmpfs middle rw";

    #[test]
    fn reads_lines_with_escapes_tags_and_an_empty_source() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 5);
        assert_eq!(
            mounts[1],
            Mount {
                id: 40,
                parent: 22,
                mountpoint: "/mnt/my forest".into(),
                fstype: "cifs".into(),
                source: "//box.example/back\\up".into(),
                options: "rw,nosuid".into(),
                super_options: "rw,vers=3.1.1,username=u1".into(),
            }
        );
        assert_eq!((mounts[2].source.as_str(), mounts[2].super_options.as_str()), ("", "rw"));
    }

    #[test]
    fn the_topmost_of_stacked_mounts_is_seen() {
        let mounts = parse(TEXT);
        let id = |path: &str| topmost(&mounts, Path::new(path)).map(|mount| mount.id);
        assert_eq!(id("/mnt/forest"), Some(44));
        assert_eq!(id("/"), Some(22));
        assert_eq!(id("/mnt"), None);
        assert_eq!(id("/mnt/forest/bin"), None);
    }

    #[test]
    fn reads_this_machine() {
        let mounts = parse(&std::fs::read("/proc/self/mountinfo").unwrap());
        let proc = topmost(&mounts, Path::new("/proc")).unwrap();
        assert_eq!(proc.fstype, "proc");
    }

    proptest! {
        #[test]
        fn any_path_survives_the_kernels_escaping(name in prop::collection::vec(1_u8..=255, 1..40)) {
            let mut escaped = String::new();
            let mut line = b"9 1 0:1 / /".to_vec();
            for &byte in &name {
                if matches!(byte, b' ' | b'\t' | b'\n' | b'\\' | b'#') {
                    escaped.clear();
                    write!(escaped, "\\{byte:03o}").unwrap();
                    line.extend_from_slice(escaped.as_bytes());
                } else {
                    line.push(byte);
                }
            }
            line.extend_from_slice(b" rw - cifs s rw");
            let mounts = parse(&line);
            prop_assert_eq!(mounts.len(), 1);
            prop_assert_eq!(&mounts[0].mountpoint.as_os_str().as_bytes()[1..], &name[..]);
        }

        #[test]
        fn never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&text).len() <= 200);
        }
    }
}
