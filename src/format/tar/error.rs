//! Why an archive was refused, and where.
//!
//! Lives here: the texts. May not live here: the decision.

use core::fmt;

use crate::format::escape::Escaped;

/// Where in an archive something was found.
///
/// ```
/// use qubes_fsm::format::tar::Place;
/// let entry = Some(b"vm1/\x1b.img".as_slice().into());
/// let place = Place { offset: 512, entry };
/// assert_eq!(place.to_string(), r#"tar byte 512, entry "vm1/\u{1b}.img""#);
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// Bytes of the stream before it.
    pub offset: u64,
    /// The path of the member, if it is known there. Shown escaped.
    pub entry: Option<Box<[u8]>>,
}

impl Place {
    /// The same member, `bytes` further on.
    pub(super) fn after(&self, bytes: usize) -> Self {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let offset = self.offset.saturating_add(bytes);
        Self { offset, entry: self.entry.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "tar byte {}", self.offset)?;
        match &self.entry {
            Some(path) => write!(out, ", entry \"{}\"", Escaped(path)),
            None => Ok(()),
        }
    }
}

/// Why an archive was refused. People search for these texts.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The archive ends before it is complete.
    #[error(
        "{at}: the archive ends in {inside}, at least {missing} more \
             bytes expected"
    )]
    Truncated {
        /// The end of the stream.
        at: Place,
        /// What is incomplete.
        inside: &'static str,
        /// How many bytes would complete just that.
        missing: u64,
    },
    /// Something is larger than the caller allows.
    #[error("{at}: {what} {found}, at most {limit} allowed")]
    Limit {
        /// The header or the map.
        at: Place,
        /// What is limited, with its unit.
        what: &'static str,
        /// What was asked for, or the part of it that was too much.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A header is damaged, or is none.
    #[error("{at}: header checksum {found}, expected {expected}")]
    Checksum {
        /// The header.
        at: Place,
        /// As stored.
        found: u64,
        /// The sum of the header's bytes.
        expected: u64,
    },
    /// Neither GNU nor POSIX.
    #[error("{at}: header magic \"{}\", expected \"ustar  \\0\" (GNU) or \
             \"ustar\\000\" (POSIX)", found.escape_ascii())]
    Magic {
        /// The header.
        at: Place,
        /// Magic and version as stored.
        found: [u8; 8],
    },
    /// A kind of member that does not belong into a backup.
    #[error("{at}: member type '{}' ({name}), expected {expected}",
            found.escape_ascii())]
    Type {
        /// The header.
        at: Place,
        /// The type flag.
        found: u8,
        /// What it stands for.
        name: &'static str,
        /// What this archive may hold.
        expected: &'static str,
    },
    /// A field that is no number, or not one that is allowed there.
    #[error("{at}: {field} \"{}\", expected {expected}",
            found.escape_ascii())]
    Number {
        /// The header or record.
        at: Place,
        /// Which number.
        field: &'static str,
        /// As stored, cut after 64 bytes.
        found: Box<[u8]>,
        /// What it must look like.
        expected: &'static str,
    },
    /// A path or a target that cannot be one.
    #[error("{at}: {field} {fault}")]
    Name {
        /// The header.
        at: Place,
        /// Path or target.
        field: &'static str,
        /// What is wrong, and what is wanted.
        fault: &'static str,
    },
    /// A link or directory with data: readers disagree where it ends.
    #[error("{at}: size {found} of a {kind}, expected 0")]
    SizeOfKind {
        /// The header.
        at: Place,
        /// The kind.
        kind: &'static str,
        /// Its size.
        found: u64,
    },
    /// Something is said twice about one member: readers disagree which of
    /// them counts.
    #[error("{at}: {what} given twice for one member, expected once")]
    Twice {
        /// The second.
        at: Place,
        /// What was repeated.
        what: &'static str,
    },
    /// Headers that contradict each other, or that no writer combines.
    #[error("{at}: {found}, expected {expected}")]
    Structure {
        /// The header or block.
        at: Place,
        /// What is there.
        found: &'static str,
        /// What should be.
        expected: &'static str,
    },
    /// A PAX header that does not consist of records.
    #[error("{at}: PAX record {fault}")]
    Record {
        /// The record.
        at: Place,
        /// What is wrong, and what is wanted.
        fault: &'static str,
    },
    /// A key twice in one PAX header.
    #[error(
        "{at}: PAX key \"{}\" twice in one header, expected once",
        Escaped(key)
    )]
    RepeatedKey {
        /// The second record.
        at: Place,
        /// The key, cut after 64 bytes.
        key: Box<[u8]>,
    },
    /// A PAX key that changes what the member is, in a way not known here.
    #[error(
        "{at}: PAX key \"{}\", expected none that changes the data, or \
             a known GNU.sparse one",
        Escaped(key)
    )]
    Key {
        /// The record.
        at: Place,
        /// The key, cut after 64 bytes.
        key: Box<[u8]>,
    },
    /// A sparse format that is not known here.
    #[error(
        "{at}: PAX sparse format {major}.{minor}, expected 0.0, 0.1 or \
             1.0"
    )]
    SparseVersion {
        /// The header of the member.
        at: Place,
        /// `GNU.sparse.major`.
        major: u64,
        /// `GNU.sparse.minor`.
        minor: u64,
    },
    /// A sparse map out of order, or with overlaps.
    #[error(
        "{at}: sparse segment {index} begins at {offset}, expected at \
             least {expected}"
    )]
    SparseOrder {
        /// The header or block with the map.
        at: Place,
        /// Number of the segment, from 0.
        index: u64,
        /// Where it begins.
        offset: u64,
        /// The end of the segment before.
        expected: u64,
    },
    /// A sparse segment that ends behind the file.
    #[error(
        "{at}: sparse segment {index} of {length} bytes at {offset}, \
             expected to end within {size}"
    )]
    SparseEnd {
        /// The header or block with the map.
        at: Place,
        /// Number of the segment, from 0.
        index: u64,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
        /// The size of the real file.
        size: u64,
    },
    /// A sparse segment that does not begin in a block of its own: readers
    /// disagree where its data is.
    #[error(
        "{at}: sparse segment {index} after {found} bytes of data, \
             expected whole blocks of 512"
    )]
    SparseAlignment {
        /// The header or block with the map.
        at: Place,
        /// Number of the segment, from 0.
        index: u64,
        /// Length of all segments before it.
        found: u64,
    },
    /// A sparse map without a segment at the end of the file, even an empty
    /// one: readers disagree how long the file is.
    #[error(
        "{at}: sparse map up to {end}, expected up to {size}, the end of \
             the file"
    )]
    SparseShort {
        /// The header, or the end of the map.
        at: Place,
        /// Where the last segment ends.
        end: u64,
        /// The size of the real file.
        size: u64,
    },
    /// A sparse map that does not account for the data that is stored.
    #[error(
        "{at}: sparse map of {found} bytes, expected {expected} as \
             stored"
    )]
    SparseSum {
        /// The header, or the end of the map.
        at: Place,
        /// The sum of the segments.
        found: u64,
        /// What is stored.
        expected: u64,
    },
    /// Not zero after the end-of-archive mark.
    #[error(
        "{at}: byte {found:#04x} after the end of the archive, expected \
             zeros only"
    )]
    AfterEnd {
        /// The byte.
        at: Place,
        /// Its value.
        found: u8,
    },
}

/// What an error quotes: no more than anyone wants to read.
pub(super) fn quoted(untrusted_bytes: &[u8]) -> Box<[u8]> {
    untrusted_bytes.get(..64).unwrap_or(untrusted_bytes).into()
}
