//! The names of the members of a format 3 archive, and their order.
//!
//! Lives here: what a name says, which names are refused, which chunk may
//! follow which. May not live here: what is in a member, the order of chunk
//! and `.hmac` (the restoring machine), headers of tar.
//! Source: FORMAT.md, "Outer archive" and "Streams"; core-admin-client 4.4.0
//! `restore.py`, core-admin `backup.py`.

use std::collections::BTreeSet;

use super::limits::{FILES_MAX, OUTER_NAME_BYTES_MAX};
use super::quote::Quoted;

/// The name of the header.
pub const HEADER_NAME: &[u8] = b"backup-header";

/// What comes behind the name of a member in the name of its mac.
pub const MAC_SUFFIX: &[u8] = b".hmac";

/// What a member of the outer archive is, by its name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Member<'a> {
    /// `backup-header`.
    Header,
    /// `backup-header.hmac`.
    HeaderMac,
    /// `FILE.NNN`.
    Chunk(Chunk<'a>),
    /// `FILE.NNN.hmac`, the mac of this chunk.
    ChunkMac(Chunk<'a>),
}

/// One piece of the stored stream of a file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Chunk<'a> {
    file: &'a [u8],
    number: u32,
}

/// Whether a chunk begins a file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Step {
    /// Chunk 000 of a file that was not there yet: the one before is over.
    NewFile,
    /// The next chunk of the same file.
    NextChunk,
}

/// The chunks seen so far: every file is one run from 000, and comes once.
#[derive(Clone, Debug, Default)]
pub struct Order {
    files: BTreeSet<Vec<u8>>,
    /// The file of the last chunk, and the number that it has.
    last: Option<(Vec<u8>, u32)>,
}

/// Why the name of a member, or of a file, was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkNameError {
    /// More than an outer header can hold.
    #[error(
        "member name {}: {found} bytes; wanted {limit} at most", Quoted(.name)
    )]
    TooLong {
        /// The whole name.
        name: Vec<u8>,
        /// Its length in bytes.
        found: usize,
        /// [`OUTER_NAME_BYTES_MAX`].
        limit: usize,
    },
    /// A byte that ends names for others.
    #[error("member name {}: a NUL at byte {at}; wanted none", Quoted(.name))]
    Nul {
        /// The whole name.
        name: Vec<u8>,
        /// Where, from 0.
        at: usize,
    },
    /// Neither a header nor a chunk.
    #[error(
        "member name {}: no number after the last \".\"; wanted FILE.NNN",
        Quoted(.name)
    )]
    NoNumber {
        /// The whole name.
        name: Vec<u8>,
    },
    /// A number that no writer makes.
    #[error(
        "member name {}: number \"{found}\"; wanted \"{expected}\"",
        Quoted(.name)
    )]
    NotCanonical {
        /// The whole name.
        name: Vec<u8>,
        /// The number as it is written, digits only.
        found: String,
        /// The number as it must be written.
        expected: String,
    },
    /// A number beyond 4,294,967,295.
    #[error(
        "member name {}: the number is too large; wanted {limit} at most",
        Quoted(.name)
    )]
    NumberTooLarge {
        /// The whole name.
        name: Vec<u8>,
        /// The largest number.
        limit: u32,
    },
    /// The name begins at the root of the system.
    #[error(
        "member name {}: an absolute path; wanted a relative one",
        Quoted(.name)
    )]
    Absolute {
        /// The whole name.
        name: Vec<u8>,
    },
    /// A name that does not name one file inside of the archive.
    #[error(
        "member name {}: component {} of the path; wanted the name of a file",
        Quoted(.name), Quoted(.component)
    )]
    Component {
        /// The whole name.
        name: Vec<u8>,
        /// Empty, `.` or `..`.
        component: Vec<u8>,
    },
}

/// Why a chunk was refused where it stands.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The first chunk of a file is missing.
    #[error("chunk {}: first of its file; wanted number 000", Quoted(.name))]
    NotFirst {
        /// The name of the chunk.
        name: Vec<u8>,
    },
    /// The number does not follow.
    #[error(
        "chunk {}: it follows number {last:03}; wanted number {expected:03} \
         or another file", Quoted(.name)
    )]
    Gap {
        /// The name of the chunk.
        name: Vec<u8>,
        /// The number of the chunk before it.
        last: u32,
        /// The number after that one.
        expected: u64,
    },
    /// A file that was there before.
    #[error(
        "chunk {}: its file was there before; wanted every file once",
        Quoted(.name)
    )]
    FileTwice {
        /// The name of the chunk.
        name: Vec<u8>,
    },
    /// More files than a backup has.
    #[error("chunk {}: more than {limit} files; wanted fewer", Quoted(.name))]
    TooManyFiles {
        /// The name of the chunk.
        name: Vec<u8>,
        /// [`FILES_MAX`].
        limit: usize,
    },
}

impl<'a> Member<'a> {
    /// Reads the name of a member, bytes of any encoding.
    ///
    /// # Errors
    /// In this order: `TooLong`, `Nul`; `NoNumber` for `private.img`,
    /// `NumberTooLarge`, `NotCanonical` for `private.img.1`; `Absolute`,
    /// `Component`.
    pub fn parse(untrusted_name: &'a [u8]) -> Result<Self, ChunkNameError> {
        check_bytes(untrusted_name)?;
        let (stem, is_mac) = match untrusted_name.strip_suffix(MAC_SUFFIX) {
            Some(stem) => (stem, true),
            None => (untrusted_name, false),
        };
        if stem == HEADER_NAME {
            return Ok(if is_mac { Self::HeaderMac } else { Self::Header });
        }
        let (file, number) = split(stem, untrusted_name)?;
        check_file(file, untrusted_name)?;
        let chunk = Chunk { file, number };
        Ok(if is_mac { Self::ChunkMac(chunk) } else { Self::Chunk(chunk) })
    }

    /// The mac that comes next, or `None` for a mac.
    #[must_use]
    pub fn mac(self) -> Option<Self> {
        match self {
            Self::Header => Some(Self::HeaderMac),
            Self::Chunk(chunk) => Some(Self::ChunkMac(chunk)),
            Self::HeaderMac | Self::ChunkMac(_) => None,
        }
    }

    /// The name in the archive: what [`Member::parse`] reads.
    #[must_use]
    pub fn name(self) -> Vec<u8> {
        match self {
            Self::Header => HEADER_NAME.to_vec(),
            Self::HeaderMac => [HEADER_NAME, MAC_SUFFIX].concat(),
            Self::Chunk(chunk) => chunk.name(),
            Self::ChunkMac(chunk) => [&chunk.name(), MAC_SUFFIX].concat(),
        }
    }
}

impl<'a> Chunk<'a> {
    /// A chunk to write; `file` is relative, such as `vm5/private.img`.
    ///
    /// # Errors
    /// As [`Member::parse`]; `TooLong` already if the name of its mac is.
    pub fn new(file: &'a [u8], number: u32) -> Result<Self, ChunkNameError> {
        let chunk = Self { file, number };
        let name = Member::ChunkMac(chunk).name();
        check_bytes(&name)?;
        check_file(file, &chunk.name())?;
        Ok(chunk)
    }

    /// The file it is a piece of; `.` at its end stands for a directory.
    ///
    /// Templates are stored as one file `.`, so chunk `vm1/..000` is the first
    /// of file `vm1/.`.
    #[must_use]
    pub fn file(self) -> &'a [u8] {
        self.file
    }

    /// Which piece, counted from 0.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    /// Its name: the number has three decimal digits or more.
    #[must_use]
    pub fn name(self) -> Vec<u8> {
        [self.file, format!(".{:03}", self.number).as_bytes()].concat()
    }

    /// The chunk after this one, to write.
    ///
    /// # Errors
    /// `NumberTooLarge`; `TooLong` if a digit more is one too many.
    pub fn next(self) -> Result<Self, ChunkNameError> {
        let Some(number) = self.number.checked_add(1) else {
            let name = self.name();
            return Err(ChunkNameError::NumberTooLarge {
                name,
                limit: u32::MAX,
            });
        };
        Self::new(self.file, number)
    }
}

impl Order {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next chunk of the archive.
    ///
    /// Only 000 begins a file; a file may go on for any number of chunks,
    /// and whether its last one was there is not seen here.
    ///
    /// # Errors
    /// `Gap` within a file, `NotFirst` for another; `FileTwice`;
    /// `TooManyFiles`. What was seen before is kept.
    pub fn accept(&mut self, chunk: Chunk<'_>) -> Result<Step, OrderError> {
        let name = || chunk.name();
        if let Some((file, last)) = &mut self.last
            && file == chunk.file
        {
            let expected = u64::from(*last) + 1;
            if u64::from(chunk.number) != expected {
                let last = *last;
                return Err(OrderError::Gap { name: name(), last, expected });
            }
            *last = chunk.number;
            return Ok(Step::NextChunk);
        }
        if self.files.contains(chunk.file) {
            return Err(OrderError::FileTwice { name: name() });
        }
        if chunk.number != 0 {
            return Err(OrderError::NotFirst { name: name() });
        }
        if self.files.len() >= FILES_MAX {
            let limit = FILES_MAX;
            return Err(OrderError::TooManyFiles { name: name(), limit });
        }
        self.files.insert(chunk.file.to_vec());
        self.last = Some((chunk.file.to_vec(), 0));
        Ok(Step::NewFile)
    }
}

/// What holds for every name, whatever it names.
fn check_bytes(name: &[u8]) -> Result<(), ChunkNameError> {
    let (found, limit) = (name.len(), OUTER_NAME_BYTES_MAX);
    if found > limit {
        let name = name.to_vec();
        return Err(ChunkNameError::TooLong { name, found, limit });
    }
    match name.iter().position(|byte| *byte == 0) {
        Some(at) => Err(ChunkNameError::Nul { name: name.to_vec(), at }),
        None => Ok(()),
    }
}

/// Splits `FILE.NNN` at its last dot; `name` is the whole, for errors.
//= spec/format3.md#names-of-chunks
fn split<'a>(
    stem: &'a [u8],
    name: &[u8],
) -> Result<(&'a [u8], u32), ChunkNameError> {
    let name = || name.to_vec();
    let dot = stem.iter().rposition(|byte| *byte == b'.');
    let (file, digits) = dot
        .and_then(|dot| stem.split_at_checked(dot))
        .ok_or_else(|| ChunkNameError::NoNumber { name: name() })?;
    let digits = digits.strip_prefix(b".").unwrap_or(digits);
    let found = core::str::from_utf8(digits)
        .ok()
        .filter(|text| !text.is_empty())
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| ChunkNameError::NoNumber { name: name() })?;
    // Digits only, so what cannot be read is too large.
    let number = found.parse::<u32>().map_err(|_| {
        ChunkNameError::NumberTooLarge { name: name(), limit: u32::MAX }
    })?;
    let expected = format!("{number:03}");
    if found != expected {
        let found = found.to_owned();
        return Err(ChunkNameError::NotCanonical {
            name: name(),
            found,
            expected,
        });
    }
    Ok((file, number))
}

/// Whether a file stays below the directory that it is extracted to.
fn check_file(file: &[u8], name: &[u8]) -> Result<(), ChunkNameError> {
    if file.first() == Some(&b'/') {
        return Err(ChunkNameError::Absolute { name: name.to_vec() });
    }
    let mut rest = file.split(|byte| *byte == b'/').enumerate().peekable();
    while let Some((index, component)) = rest.next() {
        let is_whole_directory = index > 0 && rest.peek().is_none();
        let is_refused = match component {
            b"" | b".." => true,
            b"." => !is_whole_directory,
            _ => false,
        };
        if is_refused {
            let (name, component) = (name.to_vec(), component.to_vec());
            return Err(ChunkNameError::Component { name, component });
        }
    }
    Ok(())
}
