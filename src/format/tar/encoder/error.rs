//! Why something cannot be written.
//!
//! Lives here: the texts. May not live here: the decision.

use crate::format::quote::Quoted;
use crate::format::tar::PathError;

/// Why a member was not written. Nothing of it was.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A path or name that no reader of ours would restore.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A path, name or target longer than readers take.
    #[error(
        "entry {}: {field} of {found} bytes; wanted {limit} at most",
        Quoted(.path)
    )]
    TooLong {
        /// The whole path.
        path: Vec<u8>,
        /// Path, name or link target.
        field: &'static str,
        /// Its length in bytes.
        found: usize,
        /// `PATH_BYTES_MAX` or `OUTER_NAME_BYTES_MAX`.
        limit: usize,
    },
    /// What would be a directory to GNU tar.
    #[error(
        "entry {}: \"/\" at its end; wanted that for a directory only",
        Quoted(.path)
    )]
    Slash {
        /// The path.
        path: Vec<u8>,
    },
    /// A link that leads nowhere.
    #[error(
        "entry {}: link target of 0 bytes; wanted 1 at least", Quoted(.path)
    )]
    EmptyTarget {
        /// The path of the link.
        path: Vec<u8>,
    },
    /// A target that readers would cut.
    #[error("entry {}: link target with a NUL at byte {at}; wanted none",
        Quoted(.path))]
    TargetNul {
        /// The path of the link.
        path: Vec<u8>,
        /// Where, from 0.
        at: usize,
    },
    /// A hard link to what cannot be a member.
    #[error("entry {}: hard link target: {fault}", Quoted(.path))]
    HardLinkTarget {
        /// The path of the link.
        path: Vec<u8>,
        /// What is wrong with the other path.
        #[source]
        fault: PathError,
    },
    /// More than permissions.
    #[error("entry {}: mode {found:#o}; wanted 0o7777 at most", Quoted(.path))]
    Mode {
        /// The path.
        path: Vec<u8>,
        /// The mode.
        found: u16,
    },
    /// A fraction of a second that is none.
    #[error(
        "entry {}: {found} nanoseconds; wanted 999999999 at most",
        Quoted(.path)
    )]
    Nanoseconds {
        /// The path.
        path: Vec<u8>,
        /// The nanoseconds.
        found: u32,
    },
    /// A size with which readers cannot count.
    #[error(
        "entry {}: {found} bytes; wanted {limit} at most", Quoted(.path)
    )]
    Size {
        /// The path.
        path: Vec<u8>,
        /// The size of the file, or of the data with its map.
        found: u64,
        /// 2^63 - 1.
        limit: u64,
    },
    /// A map that no reader of ours would hold.
    #[error(
        "entry {}: sparse map of {found} segments; wanted {limit} at most",
        Quoted(.path)
    )]
    SegmentCount {
        /// The path.
        path: Vec<u8>,
        /// How many would be written, with an empty one at the end of the
        /// file if it ends in a hole.
        found: usize,
        /// `SPARSE_SEGMENTS_MAX`.
        limit: usize,
    },
    /// A map out of order, or with overlaps.
    #[error(
        "entry {}: sparse segment {index} begins at {offset}; wanted \
         {expected} at least", Quoted(.path)
    )]
    SegmentOrder {
        /// The path.
        path: Vec<u8>,
        /// Number of the segment, from 0.
        index: u64,
        /// Where it begins.
        offset: u64,
        /// The end of the segment before.
        expected: u64,
    },
    /// A segment that ends behind the file.
    #[error(
        "entry {}: sparse segment {index} of {length} bytes at {offset}; \
         wanted to end within {size}", Quoted(.path)
    )]
    SegmentEnd {
        /// The path.
        path: Vec<u8>,
        /// Number of the segment, from 0.
        index: u64,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
        /// The size of the file.
        size: u64,
    },
    /// A segment whose data would not begin in a block of its own.
    #[error(
        "entry {}: sparse segment {index} after {found} bytes of data; \
         wanted whole blocks of 512", Quoted(.path)
    )]
    SegmentAlignment {
        /// The path.
        path: Vec<u8>,
        /// Number of the segment, from 0.
        index: u64,
        /// Length of all segments before it.
        found: u64,
    },
    /// A name for an outer member that does not fit its header.
    #[error(
        "member {}: {found} bytes without a slash to cut it at; wanted 100 \
         at most, or 155, a slash and 100", Quoted(.path)
    )]
    Uncut {
        /// The name.
        path: Vec<u8>,
        /// Its length in bytes.
        found: usize,
    },
    /// An outer member with a size that octal digits cannot say.
    #[error("member {}: {found} bytes; wanted {limit} at most", Quoted(.path))]
    OuterSize {
        /// The name.
        path: Vec<u8>,
        /// Its size.
        found: u64,
        /// 8 GiB - 1.
        limit: u64,
    },
    /// An outer member with a time that octal digits cannot say.
    #[error(
        "member {}: {found} seconds since 1970; wanted {limit} at most",
        Quoted(.path)
    )]
    OuterTime {
        /// The name.
        path: Vec<u8>,
        /// Its time.
        found: u64,
        /// 2^33 - 1, in the year 2242.
        limit: u64,
    },
}
