//! What an executable needs of a machine: its architecture, and the C library. Pure.

use std::fmt;

use object::Endianness;
use object::elf::{EM_AARCH64, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64};
use object::read::elf::{FileHeader as _, SectionHeader as _};

/// The architectures of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// The API's `x86`.
    X86,
    /// The API's `arm`.
    Arm,
}

impl Architecture {
    /// The one that the API calls so.
    #[must_use]
    pub fn of_api(word: &str) -> Option<Self> {
        match word {
            "x86" => Some(Self::X86),
            "arm" => Some(Self::Arm),
            _ => None,
        }
    }

    /// The one that compilers call so.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::X86, Self::Arm].into_iter().find(|architecture| architecture.name() == name)
    }

    /// What compilers call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A version of the GNU C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc(pub u32, pub u32);

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What an executable needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Which machines.
    pub architecture: Architecture,
    /// The oldest GNU C library that will do; `None`: none at all.
    pub glibc: Option<Glibc>,
}

/// Why there is no telling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// No ELF file of 64 bits, or one that is damaged.
    #[error("is no executable of Linux: {0}")]
    NotElf(String),
    /// For other machines.
    #[error("is for machines that are not known here (ELF machine {0})")]
    Machine(u16),
}

impl From<object::read::Error> for ElfError {
    fn from(err: object::read::Error) -> Self {
        Self::NotElf(err.to_string())
    }
}

/// Looks into the bytes of an executable.
///
/// # Errors
/// [`ElfError`]
pub fn needs(bytes: &[u8]) -> Result<Needs, ElfError> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let kind = header.e_type(endian);
    if kind != ET_EXEC && kind != ET_DYN {
        return Err(ElfError::NotElf("it is an object file, or a core".to_owned()));
    }
    let architecture = match header.e_machine(endian) {
        EM_X86_64 => Architecture::X86,
        EM_AARCH64 => Architecture::Arm,
        other => return Err(ElfError::Machine(other)),
    };
    let sections = header.sections(endian, bytes)?;
    let mut glibc = None;
    for section in sections.iter() {
        let Some((mut libraries, strings)) = section.gnu_verneed(endian, bytes)? else { continue };
        let strings = sections.strings(endian, bytes, strings)?;
        while let Some((_, mut versions)) = libraries.next()? {
            while let Some(version) = versions.next()? {
                let name = version.name(endian, strings)?;
                glibc = glibc.max(std::str::from_utf8(name).ok().and_then(glibc_of));
            }
        }
    }
    Ok(Needs { architecture, glibc })
}

/// `GLIBC_2.34`, or `GLIBC_2.2.5`, whose last number tells nothing.
fn glibc_of(name: &str) -> Option<Glibc> {
    let mut numbers = name.strip_prefix("GLIBC_")?.split('.');
    Some(Glibc(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The C library of an image of the provider's; `None`: it is not known here.
#[must_use]
pub fn glibc_of_image(image: &str) -> Option<Glibc> {
    // What these releases shipped with, and keep.
    let minor = match image {
        "debian-11" => 31,
        "ubuntu-22.04" => 35,
        "debian-12" => 36,
        "ubuntu-24.04" => 39,
        "debian-13" => 41,
        _ => return None,
    };
    Some(Glibc(2, minor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_very_test_needs_this_machine() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = needs(&own).unwrap();
        assert_eq!(needs.architecture.name(), std::env::consts::ARCH);
        assert!(needs.glibc.is_none_or(|glibc| glibc >= Glibc(2, 2)), "{needs:?}");
    }

    #[test]
    fn what_is_no_executable_is_told() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF", b"MZ"] {
            assert!(matches!(needs(bytes), Err(ElfError::NotElf(_))));
        }
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(glibc_of("GLIBC_2.2.5"), Some(Glibc(2, 2)));
        assert!(glibc_of("GLIBC_2.9") < glibc_of("GLIBC_2.34"));
        assert_eq!((glibc_of("GLIBC_PRIVATE"), glibc_of("GCC_3.0")), (None, None));
        assert!(glibc_of_image("debian-12") < glibc_of_image("ubuntu-24.04"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, elf: bool) {
            if elf {
                bytes.splice(0..0, *b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00");
            }
            let _ = needs(&bytes);
        }
    }
}
