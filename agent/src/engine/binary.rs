//! The engine's executable, looked at: is it there, and can this machine run it?

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use forest_core::reason::Reason;
use rustix::fs::Access;
use sha2::{Digest, Sha256};

use crate::fault::Fault;

/// How an executable was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is there and can be run.
    Present,
    /// There is nothing at its path.
    Missing,
    /// There is something else: a directory, a device; said in words.
    NotAFile(&'static str),
    /// No permission to execute it: its mode, or a file system mounted noexec.
    NotExecutable,
    /// Neither an ELF file nor a script.
    NotAProgram,
    /// An ELF file for another kind of machine, said in words.
    WrongMachine(String),
    /// Its digest is another than the configured one.
    OtherDigest(Sha256Digest),
    /// It cannot be read.
    Unreadable(String),
}

impl State {
    /// What is wrong with the executable at `path`; `None` where it can be run.
    #[must_use]
    pub fn fault(&self, path: &Path) -> Option<Fault> {
        let path = path.display();
        let (reason, message) = match self {
            Self::Present => return None,
            Self::Missing => (Reason::EngineMissing, format!("there is no {path}")),
            Self::NotAFile(what) => (Reason::EngineNotExecutable, format!("{path} is {what}, not a file")),
            Self::NotExecutable => (Reason::EngineNotExecutable, format!("{path} may not be executed")),
            Self::NotAProgram => (
                Reason::EngineNotExecutable,
                format!("{path} is neither an executable (ELF) nor a script; is it an archive?"),
            ),
            Self::WrongMachine(found) => (
                Reason::EngineNotExecutable,
                format!("{path} is for {found}, and this machine is {}", std::env::consts::ARCH),
            ),
            Self::OtherDigest(found) => (
                Reason::DownloadSha256,
                format!("{path} has sha256 {found}, which is not the configured one"),
            ),
            Self::Unreadable(why) => (Reason::EngineNotExecutable, format!("cannot read {path}: {why}")),
        };
        Some(Fault::new(reason, message))
    }
}

/// A sha256 digest; `Display` is 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256Digest(pub [u8; 32]);

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Looks at executables, and hashes one again only when it has changed.
#[derive(Debug, Default)]
pub struct Inspector {
    hashed: Option<(Identity, Sha256Digest)>,
}

/// What changes whenever a file is replaced or written to.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    dev: u64,
    ino: u64,
    size: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Inspector {
    /// Looks at `path`; where a digest is configured, it must be `expected`. Blocks while a changed file is hashed.
    pub fn look(&mut self, path: &Path, expected: Option<[u8; 32]>) -> State {
        match self.inspect(path, expected) {
            Ok(state) => state,
            Err(err) if err.kind() == io::ErrorKind::NotFound => State::Missing,
            Err(err) => State::Unreadable(err.to_string()),
        }
    }

    fn inspect(&mut self, path: &Path, expected: Option<[u8; 32]>) -> io::Result<State> {
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            return Ok(State::NotAFile("a directory"));
        }
        if !metadata.is_file() {
            return Ok(State::NotAFile("a device, socket or pipe"));
        }
        if rustix::fs::access(path, Access::EXEC_OK).is_err() {
            return Ok(State::NotExecutable);
        }
        let mut head = Vec::with_capacity(HEAD);
        File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
        match program(&head) {
            Program::Unknown => return Ok(State::NotAProgram),
            Program::Elf(machine) if Some(machine) != NATIVE => {
                return Ok(State::WrongMachine(name(machine)));
            }
            Program::Elf(_) | Program::Script => {}
        }
        let Some(expected) = expected else {
            return Ok(State::Present);
        };
        let found = self.digest(path, &metadata)?;
        Ok(if found.0 == expected { State::Present } else { State::OtherDigest(found) })
    }

    fn digest(&mut self, path: &Path, metadata: &Metadata) -> io::Result<Sha256Digest> {
        let identity = Identity::of(metadata);
        if let Some((hashed, digest)) = &self.hashed
            && *hashed == identity
        {
            return Ok(*digest);
        }
        let mut hasher = Sha256::new();
        io::copy(&mut File::open(path)?, &mut hasher)?;
        let digest = Sha256Digest(hasher.finalize().into());
        self.hashed = Some((identity, digest));
        Ok(digest)
    }
}

/// Bytes of a file that tell what kind of program it is.
const HEAD: usize = 20;

/// e_machine of this machine; `None` where we do not know it, and then refuse nothing but what is foreign.
const NATIVE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(62)
} else if cfg!(target_arch = "aarch64") {
    Some(183)
} else {
    None
};

#[derive(Debug, PartialEq, Eq)]
enum Program {
    /// With its e_machine.
    Elf(u16),
    Script,
    Unknown,
}

fn program(head: &[u8]) -> Program {
    match head {
        [b'#', b'!', ..] => Program::Script,
        [0x7f, b'E', b'L', b'F', _, order, ..] if head.len() >= HEAD => {
            let machine = [head[18], head[19]];
            Program::Elf(if *order == 2 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) })
        }
        _ => Program::Unknown,
    }
}

fn name(machine: u16) -> String {
    match machine {
        3 => "x86".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv64".to_owned(),
        other => format!("machine type {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn elf(machine: u16) -> Vec<u8> {
        let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
        head.resize(18, 0);
        head.extend(machine.to_le_bytes());
        head
    }

    fn look(content: &[u8], mode: u32, expected: Option<[u8; 32]>) -> State {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Inspector::default().look(&path, expected)
    }

    #[test]
    fn tells_the_states_apart() {
        let mut inspector = Inspector::default();
        assert_eq!(inspector.look(Path::new("/nowhere"), None), State::Missing);
        assert_eq!(inspector.look(Path::new("/"), None), State::NotAFile("a directory"));
        assert!(matches!(inspector.look(Path::new("/dev/null"), None), State::NotAFile(_)));
        assert_eq!(inspector.look(&std::env::current_exe().unwrap(), None), State::Present);
        assert_eq!(look(b"#!/bin/sh\n", 0o644, None), State::NotExecutable);
        assert_eq!(look(b"#!/bin/sh\n", 0o755, None), State::Present);
        assert_eq!(look(b"\x1f\x8b a tarball", 0o755, None), State::NotAProgram);
        assert_eq!(look(b"", 0o755, None), State::NotAProgram);
        assert_eq!(look(&elf(8), 0o755, None), State::WrongMachine("machine type 8".to_owned()));
    }

    #[test]
    fn every_state_but_present_names_the_path() {
        for state in [
            State::Missing,
            State::NotAFile("a directory"),
            State::NotExecutable,
            State::NotAProgram,
            State::WrongMachine("arm".to_owned()),
            State::OtherDigest(Sha256Digest([7; 32])),
            State::Unreadable("input/output error".to_owned()),
        ] {
            let fault = state.fault(Path::new("/opt/forest")).unwrap();
            assert!(fault.message.contains("/opt/forest"), "{fault}");
        }
        assert_eq!(State::Present.fault(Path::new("/opt/forest")), None);
    }

    #[test]
    fn the_digest_is_compared_and_follows_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine");
        let mut inspector = Inspector::default();
        for content in ["#!one", "#!two"] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            let digest: [u8; 32] = Sha256::digest(content).into();
            assert_eq!(inspector.look(&path, Some(digest)), State::Present);
            assert_eq!(inspector.look(&path, Some([0; 32])), State::OtherDigest(Sha256Digest(digest)));
        }
    }

    #[test]
    fn reads_both_byte_orders() {
        let mut head = elf(62);
        assert_eq!(program(&head), Program::Elf(62));
        head[5] = 2;
        head[18..20].copy_from_slice(&183u16.to_be_bytes());
        assert_eq!(program(&head), Program::Elf(183));
        assert_eq!(program(&head[..19]), Program::Unknown);
    }
}
