//! qfile: how files go from one qube to another, decoded and encoded without
//! reading or writing.
//!
//! Lives here: what an entry is, how much may come, which names may. May not
//! live here: pipes, who answers when (`backup::read`), what a file is for.
//!
//! One side sends entries and an end; the other answers with a [`Reply`],
//! which may come before that end. A service `qubes.Restore` sends the members
//! of a backup so: regular files, each directory once before them.
//!
//! An entry is a header of 32 bytes, a name with its NUL, and data; there is no
//! magic, no version, no padding. All numbers are little endian:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the name, its NUL included; 0: the end |
//! | 4 | mode: kind and permissions |
//! | 8 | length of the data: a file's, a link's target, 0 for a directory |
//! | 4, 4 | access time: seconds, nanoseconds |
//! | 4, 4 | modification time: seconds, nanoseconds |
//!
//! Of an end nothing but the first number is looked at: old senders leave in
//! the rest what happened to be in memory.
//! Source: qubes-linux-utils, `qrexec-lib`: `libqubes-rpc-filecopy.h`,
//! `pack.c`, `unpack.c`; qubes-core-agent-linux, `tar2qfile.c`.

mod decoder;
mod encoder;
mod error;
mod reply;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use error::{Place, QfileError};
pub use reply::{Code, Reply, ReplyDecoder, ReplyError};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 32;

/// Length of a name, its NUL included, and of the target of a link.
///
/// The receiver of Qubes has room for 16,384 bytes and takes one less.
/// Source: `unpack.c`, `process_one_file`.
pub const NAME_BYTES_MAX: u64 = 16_383;

/// Bytes of all files, as they are announced.
///
/// 16 TiB: the largest file of ext4, and more than a backup has.
pub const BYTES_MAX: u64 = 16 << 40;

/// Entries, directories included.
///
/// 16 TiB in chunks of 100 MiB are some 340,000 with their codes.
pub const ENTRIES_MAX: u64 = 1_000_000;

/// What the decoder found.
///
/// The order is always `Entry`, any number of `Data`, `EndOfEntry`; at last
/// `End`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event<'a> {
    /// A file, directory or link begins; its name and header are checked.
    Entry(Entry),
    /// Bytes of it, in order: a slice of the input, never empty.
    Data(&'a [u8]),
    /// Its last byte was there.
    EndOfEntry,
    /// The sender has sent everything, and waits for a reply.
    End,
}

/// What an entry says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// A relative path without `.`, `..` or empty components; no NUL.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions: 12 bits.
    pub mode: u16,
    /// Bytes of data.
    pub size: u64,
    /// When it was read last.
    pub accessed: Time,
    /// When it was written last.
    pub modified: Time,
}

/// What may be sent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory; it may come again, behind what is in it.
    Directory,
    /// A symbolic link: its data is the target, which nobody has judged.
    Symlink,
}

/// A point in time since the epoch.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time {
    /// Whole seconds.
    pub seconds: u32,
    /// Nanoseconds after that second, at most 999,999,999.
    pub nanoseconds: u32,
}

/// What a sender may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Longest name, its NUL included, and longest target of a link.
    pub name_bytes_max: u64,
    /// Sum of the lengths of all data.
    pub bytes_max: u64,
    /// Most entries.
    pub entries_max: u64,
    /// Whether symbolic links may come.
    pub links: bool,
}

impl Default for Limits {
    /// [`NAME_BYTES_MAX`], [`BYTES_MAX`], [`ENTRIES_MAX`]; no links.
    fn default() -> Self {
        Self {
            name_bytes_max: NAME_BYTES_MAX,
            bytes_max: BYTES_MAX,
            entries_max: ENTRIES_MAX,
            links: false,
        }
    }
}

impl Kind {
    /// Its bits of a mode.
    fn bits(self) -> u32 {
        match self {
            Self::File => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
        }
    }
}

/// Which bits of a mode are permissions.
const PERMISSIONS: u32 = 0o7777;
const NANOSECONDS_MAX: u32 = 999_999_999;

/// The rules for one name: what is wrong with it, if anything is.
fn wrong_with(untrusted_name: &[u8]) -> Option<&'static str> {
    if untrusted_name.is_empty() {
        return Some("an empty name");
    }
    if untrusted_name.contains(&0) {
        return Some("a NUL within the name");
    }
    if untrusted_name.starts_with(b"/") {
        return Some("an absolute name");
    }
    untrusted_name.split(|byte| *byte == b'/').find_map(|component| {
        match component {
            b"" => Some("an empty component"),
            b"." => Some("a component \".\""),
            b".." => Some("a component \"..\""),
            _ => None,
        }
    })
}

/// What can be said of an entry before its name is there.
fn check(entry: &Entry, limits: &Limits, at: &Place) -> Result<(), QfileError> {
    for (what, time) in
        [("access", entry.accessed), ("modification", entry.modified)]
    {
        let found = time.nanoseconds;
        if found > NANOSECONDS_MAX {
            let at = at.clone();
            return Err(QfileError::Nanoseconds { at, what, found });
        }
    }
    let found = entry.size;
    match entry.kind {
        Kind::Directory if found > 0 => {
            Err(QfileError::DirectorySize { at: at.clone(), found })
        }
        Kind::Symlink if found > limits.name_bytes_max => {
            let (at, limit) = (at.clone(), limits.name_bytes_max);
            let what = "the target of a link";
            Err(QfileError::TooLong { at, what, found, limit })
        }
        Kind::File | Kind::Directory | Kind::Symlink => Ok(()),
    }
}
