//! Tar archives of a Qubes backup of format 3, decoded and encoded without
//! reading or writing.
//!
//! Lives here: what a member is, how large it may be, what the decoder says,
//! what the encoder is told. May not live here: files, descriptors, a
//! judgement whether a path is safe beyond [`safe_components`].
//!
//! Two profiles. The *outer* archive is the backup itself: regular files, one
//! tar after the other, zeros between them. An *inner* archive holds what was
//! backed up: files (often sparse), directories and links.
//!
//! **Where readers of tar disagree, the archive is refused.** GNU tar, Python
//! and others take the same bytes for different members when something is
//! said twice, when a link has a size, when a number is followed by more: who
//! checks a backup with one program and restores it with another must not see
//! two archives. What is accepted means the same to all of them, as far as the
//! thousands of damaged archives of `tests/tar_readers.rs` could show. Two
//! things that writers of backups do are accepted all the same, as GNU tar
//! reads them, though Python loses its way: a PAX `size` beside a sparse map
//! (more than 8 GiB stored), and `path` beside `GNU.sparse.name` (long names;
//! the latter counts). See `tests/tar_readers.rs`.
//!
//! **What is written, all of them read**: [`outer_header`] makes members of an
//! outer archive, pure ustar; [`encode`] those of an inner one. Data passes by.
//! It writes **two dialects, by need, member by member**:
//!
//! | need | whole seconds: GNU | a fraction of one: PAX |
//! |---|---|---|
//! | magic | `ustar  \0` | `x`, then `ustar\0` `00` |
//! | time | the header, base-256 if out of range | `mtime` |
//! | long path | `L` | prefix and name, or `path` |
//! | long target | `K` | `linkpath` |
//! | holes | `S`, continuation blocks | 1.0: the map before the data |
//! | large size, owner | base-256 | base-256 |
//!
//! GNU is what backups have always been written in, and its names are bytes
//! that no reader converts; but it has no room for nanoseconds. Who writes an
//! image and does not need them gives a whole second. In PAX a name goes into
//! the header if it fits, since GNU tar takes one in a record for UTF-8 and
//! converts it where the locale is another one (C and UTF-8 leave it alone).
//! There, base-256 stands where POSIX has `size`, `uid` and `gid`: Python
//! loses its way when `size` stands beside a sparse map.
//!
//! A decoder's memory is bounded by [`Limits`] and never by the archive: data
//! passes through as slices of the caller's buffer, and beside it there are
//! one block, the headers before one member, and its sparse map.
//!
//! Sources: POSIX.1-2017 `pax`, "ustar Interchange Format" and "pax Extended
//! Header"; GNU tar 1.35 manual, "Tar Internals" (the GNU and the four sparse
//! formats); the project's notes on the formats, "Outer archive", "Streams".

use super::limits::PADDING_BYTES_MAX;

mod decoder;
mod encoder;
mod error;
mod header;
mod member;
mod path;
mod pax;
mod sparse;
mod state;

pub use decoder::Decoder;
pub use encoder::{
    EncodeError, NewEntry, NewKind, encode, encoded_size, end, end_size,
    outer_header,
};
pub use error::{Place, TarError};
pub use path::{PathError, safe_components};
pub use sparse::Segment;

/// What the decoder found.
///
/// The order is always `Entry`, any number of `Data`, `EndOfEntry`; only for
/// a file of which something is stored there is `Data`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event<'a> {
    /// A member begins. Its headers and its sparse map are already checked.
    Entry(Entry),
    /// Bytes of the file, in ascending order; what is skipped is a hole.
    Data {
        /// Where in the real file they belong.
        offset: u64,
        /// The bytes: a slice of the input, never empty.
        bytes: &'a [u8],
    },
    /// All data of the member, and its padding, were there.
    EndOfEntry,
    /// The mark at the end of an inner archive. Only zeros may follow. An
    /// outer archive has no such mark: [`Decoder::finish`] is its end.
    EndOfArchive,
}

/// What an archive says about a member, from all of its headers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The path as stored: not empty, no NUL, not yet judged for safety.
    pub path: Vec<u8>,
    /// What it is, with the target of a link.
    pub kind: Kind,
    /// Permissions, with set-user-ID, set-group-ID and sticky: 12 bits.
    pub mode: u16,
    /// When the content was changed last.
    pub mtime: Mtime,
    /// Size of the real file, holes included. 0 for all but files.
    pub size: u64,
    /// Bytes in the archive, a sparse map in the data included (PAX 1.0).
    pub stored_size: u64,
    /// Whether a sparse map was given, even one without a hole.
    pub sparse: bool,
}

/// The kinds of members that are accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A regular file, the only kind in an outer archive.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it leads, as stored: not empty, no NUL, anything else.
        target: Vec<u8>,
    },
    /// Another name of an earlier member.
    HardLink {
        /// The path of that member, as stored.
        target: Vec<u8>,
    },
}

/// A point in time, relative to the epoch; earlier ones are rounded down.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Mtime {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after that second, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What an archive may ask for; more is [`TarError::Limit`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Longest path of a member or target of a link.
    pub path_bytes_max: u64,
    /// Largest PAX header; it is held in memory.
    pub pax_bytes_max: u64,
    /// Most entries of a sparse map, empty ones included. An entry that is
    /// neither empty nor joined to the one before takes 16 bytes.
    pub segments_max: u64,
    /// Sum of the real sizes of all members, holes included.
    pub decoded_bytes_max: u64,
    /// Most zeros behind the end of an inner archive.
    pub padding_bytes_max: u64,
}

impl Limits {
    /// For an outer archive: paths of 255 bytes, since a name there is a
    /// directory, a file and a number; the rest as [`Limits::INNER`].
    pub const OUTER: Self = Self { path_bytes_max: 255, ..Self::INNER };

    /// For an inner archive: paths of 4,096 bytes (`PATH_MAX` of Linux), PAX
    /// headers of 1 MiB (xattrs of 64 KiB fit many times), 4 million segments
    /// (64 MiB of memory; an image of 2 TiB in pieces of 512 bytes is
    /// refused, a real fragmented one is not), 16 TiB of files (the largest
    /// file of ext4). Who knows the expected size sets it instead.
    pub const INNER: Self = Self {
        path_bytes_max: 4096,
        pax_bytes_max: 1 << 20,
        segments_max: 4_000_000,
        decoded_bytes_max: 16 << 40,
        padding_bytes_max: PADDING_BYTES_MAX,
    };
}

impl Default for Limits {
    /// Those of an inner archive.
    fn default() -> Self {
        Self::INNER
    }
}

/// Which of the two archives is decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Profile {
    /// Concatenated tars of regular files.
    Outer,
    /// One tar of files, directories and links.
    Inner,
}

/// Everything in a tar archive is in blocks of this many bytes.
const BLOCK: usize = 512;

/// How many zeros follow data of that size, up to the next whole block.
///
/// ```
/// use qubes_fsm::format::tar::padding;
/// assert_eq!([0, 1, 512, 513].map(padding), [0, 511, 0, 511]);
/// ```
pub fn padding(size: u64) -> usize {
    (size.wrapping_neg() % 512) as usize
}
