//! Members of an inner archive, written as blocks.
//!
//! Lives here: what a member needs, its headers and its map, exact sizes.
//! May not live here: files, the data itself, the outer archive
//! ([`outer`]), what a name of a backup must look like.
//!
//! Which dialect is for which member is told in [`super`].
//!
//! Sources: POSIX.1-2017 `pax`, "ustar Interchange Format" and "pax Extended
//! Header"; GNU tar 1.35 manual, "Tar Internals" (the standard format, GNU
//! extensions, "Storing Sparse Files": old GNU format and PAX 1.0); FORMAT,
//! "Streams".

mod block;
mod error;
mod map;
mod outer;
mod records;

use block::Block;
pub use error::EncodeError;
use map::Shape;
pub use outer::{end, end_size, outer_header};

use super::header::{
    CHECKSUM, Flavor, GID, LINK, MODE, MTIME, NAME, PREFIX, SIZE, UID,
};
use super::{BLOCK, Mtime, Segment, padding, safe_components};
use crate::format::limits::PATH_BYTES_MAX;

/// A member to be written. Nothing in it is changed on the way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NewEntry<'a> {
    /// The path, one that [`safe_components`] takes; at most
    /// [`PATH_BYTES_MAX`] bytes.
    pub path: &'a [u8],
    /// What it is.
    pub kind: NewKind<'a>,
    /// Permissions, with set-user-ID, set-group-ID and sticky: 12 bits.
    pub mode: u16,
    /// Owner, as a number: names mean nothing in another system.
    pub uid: u32,
    /// Group, as a number.
    pub gid: u32,
    /// When the content was changed last. With a fraction the member is
    /// written as PAX, without one as GNU.
    pub mtime: Mtime,
}

/// What a member is, with what only this kind has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NewKind<'a> {
    /// A regular file.
    File {
        /// Its size, holes included: below 2^63.
        size: u64,
        /// Where its data is, in ascending order; the rest are holes. `None`
        /// is a file without a hole, and a map without one is the same.
        ///
        /// Stored is what the segments hold, one after the other. Each but
        /// the last must be whole blocks of 512 bytes, as every file system
        /// has them: where the next one begins otherwise, readers disagree.
        map: Option<&'a [Segment]>,
    },
    /// A directory. Its path may end in `/`, and need not.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it leads: any bytes but NUL, at least one.
        target: &'a [u8],
    },
    /// Another name of a file that was written before.
    HardLink {
        /// The path of that file.
        target: &'a [u8],
    },
}

/// Appends the headers of a member, and its sparse map.
///
/// Gives how many bytes of data must follow: those of the map's segments in
/// order, or the whole file. Then come zeros, as many as [`padding`] says, and
/// the next member or the [`end`].
///
/// A map of 4 million segments makes up to 110 MB of headers, all of them
/// reserved at once.
///
/// ```
/// use qubes_fsm::format::tar::{
///     EncodeError, Mtime, NewEntry, NewKind, Segment, encode, encoded_size,
///     end, end_size, padding,
/// };
///
/// let map = [Segment { offset: 4096, length: 4 }];
/// let image = NewEntry {
///     path: b"vm1/private.img",
///     kind: NewKind::File { size: 1 << 30, map: Some(&map) },
///     mode: 0o660,
///     uid: 0,
///     gid: 98,
///     mtime: Mtime { seconds: 1_400_000_000, nanoseconds: 0 },
/// };
/// let mut archive = Vec::new();
/// let data = encode(&image, &mut archive)?;
/// assert_eq!(data, 4);
/// archive.extend(b"data");
/// archive.extend(vec![0; padding(data)]);
/// let size = archive.len() as u64;
/// assert_eq!(size, encoded_size(&image)?);
/// end(size, &mut archive);
/// assert_eq!(archive.len() as u64, size + end_size(size) as u64);
/// # Ok::<(), EncodeError>(())
/// ```
///
/// # Errors
/// Any [`EncodeError`] but those of [`outer_header`]; then nothing was
/// appended.
pub fn encode(
    entry: &NewEntry<'_>,
    out: &mut Vec<u8>,
) -> Result<u64, EncodeError> {
    let plan = Plan::new(entry)?;
    // Exactly, once: a large map would else be moved, and held twice.
    out.reserve(usize::try_from(plan.headers_size()).unwrap_or_default());
    plan.write(out);
    Ok(plan.data)
}

/// How many bytes of the archive a member takes: what [`encode`] appends, the
/// data and its padding.
///
/// ```
/// use qubes_fsm::format::tar::{Mtime, NewEntry, NewKind, encoded_size};
///
/// let mut entry = NewEntry {
///     path: b"dom0-home/user",
///     kind: NewKind::Directory,
///     mode: 0o700,
///     uid: 1000,
///     gid: 1000,
///     mtime: Mtime::default(),
/// };
/// assert_eq!(encoded_size(&entry), Ok(512));
/// // A PAX header: its own block, and one of records.
/// entry.mtime.nanoseconds = 1;
/// assert_eq!(encoded_size(&entry), Ok(1536));
/// ```
///
/// # Errors
/// Those of [`encode`].
pub fn encoded_size(entry: &NewEntry<'_>) -> Result<u64, EncodeError> {
    let plan = Plan::new(entry)?;
    Ok(plan.headers_size() + plan.data + padding(plan.data) as u64)
}

/// What will be written for a member that was checked.
struct Plan<'a> {
    entry: &'a NewEntry<'a>,
    dialect: Dialect,
    flag: u8,
    /// Where a link leads; empty for all else.
    target: &'a [u8],
    /// The size of the real file.
    size: u64,
    /// The size that the header says: the data, with the map of PAX 1.0.
    stored: u64,
    /// Bytes of data.
    data: u64,
    sparse: Option<(Shape, &'a [Segment])>,
}

/// How what does not fit one header is said.
enum Dialect {
    /// With `L`, `K` and `S`.
    Gnu,
    /// With these records in an `x` header.
    Pax(Vec<u8>),
}

impl<'a> Plan<'a> {
    fn new(entry: &'a NewEntry<'a>) -> Result<Self, EncodeError> {
        check(entry)?;
        let none: &[u8] = &[];
        let (flag, target, size, map) = match entry.kind {
            NewKind::File { size, map } => (b'0', none, size, map),
            NewKind::Directory => (b'5', none, 0, None),
            NewKind::Symlink { target } => (b'2', target, 0, None),
            NewKind::HardLink { target } => (b'1', target, 0, None),
        };
        let sparse = match map {
            Some(map) => Some((Shape::check(map, size, entry.path)?, map)),
            None => None,
        };
        // A file without a hole is sparse for no reader.
        let sparse = sparse.filter(|(shape, _)| shape.data < size);
        let data = sparse.map_or(size, |(shape, _)| shape.data);
        let dialect = match entry.mtime.nanoseconds {
            0 => Dialect::Gnu,
            _ => {
                let real_size = sparse.map(|_| size);
                Dialect::Pax(records::body(entry, target, real_size))
            }
        };
        let (flag, stored) = match (&dialect, &sparse) {
            (Dialect::Gnu, Some(_)) => (b'S', data),
            (Dialect::Pax(_), Some((shape, _))) => {
                (flag, data.saturating_add(shape.text_size()))
            }
            (_, None) => (flag, data),
        };
        for found in [size, stored] {
            if found > SIZE_MAX {
                let (path, limit) = (entry.path.to_vec(), SIZE_MAX);
                return Err(EncodeError::Size { path, found, limit });
            }
        }
        Ok(Self { entry, dialect, flag, target, size, stored, data, sparse })
    }

    /// How many bytes come before the data.
    fn headers_size(&self) -> u64 {
        let shape = self.sparse.map(|(shape, _)| shape);
        let (before, map) = match &self.dialect {
            Dialect::Gnu => (
                long_name_size(self.entry.path) + long_name_size(self.target),
                shape.map_or(0, Shape::continuations_size),
            ),
            Dialect::Pax(body) => {
                (meta_size(body.len()), shape.map_or(0, Shape::text_size))
            }
        };
        before + BLOCK as u64 + map
    }

    fn write(&self, out: &mut Vec<u8>) {
        let path = self.entry.path;
        match &self.dialect {
            Dialect::Gnu => {
                write_long_name(b'K', self.target, out);
                write_long_name(b'L', path, out);
                let mut block = self.header(Flavor::Gnu);
                block.text(NAME, path);
                match self.sparse {
                    None => block.seal(out),
                    Some((_, map)) => {
                        map::write_slots(block, map, self.size, out);
                    }
                }
            }
            Dialect::Pax(body) => {
                let block = Block::new(Flavor::Posix, b'x');
                write_meta(block, b"././@PaxHeader", body, out);
                let mut block = self.header(Flavor::Posix);
                match self.sparse {
                    None => block.path(path),
                    Some(_) => block.path(&stand_in(path)),
                }
                block.seal(out);
                if let Some((shape, map)) = self.sparse {
                    map::write_text(shape, map, self.size, out);
                }
            }
        }
    }

    /// The member's own header, all but its path.
    fn header(&self, flavor: Flavor) -> Block {
        let mut block = Block::new(flavor, self.flag);
        block.number(&MODE, self.entry.mode);
        block.number(&UID, self.entry.uid);
        block.number(&GID, self.entry.gid);
        block.number(&SIZE, self.stored);
        // Beside a record this is for those who read no records.
        block.number(&MTIME, self.entry.mtime.seconds);
        block.text(LINK, self.target);
        block
    }
}

/// Readers keep sizes in 64 bits with a sign.
const SIZE_MAX: u64 = i64::MAX.unsigned_abs();

/// All that is not about the map and the size.
fn check(entry: &NewEntry<'_>) -> Result<(), EncodeError> {
    let path = || entry.path.to_vec();
    check_length(entry, "path", entry.path)?;
    safe_components(entry.path)?;
    let may_have_slash = match entry.kind {
        NewKind::File { .. } => false,
        NewKind::Directory => true,
        NewKind::Symlink { target } => {
            check_target(entry, target)?;
            false
        }
        NewKind::HardLink { target } => {
            check_target(entry, target)?;
            safe_components(target).map_err(|fault| {
                EncodeError::HardLinkTarget { path: path(), fault }
            })?;
            false
        }
    };
    if entry.path.ends_with(b"/") && !may_have_slash {
        return Err(EncodeError::Slash { path: path() });
    }
    if entry.mode > 0o7777 {
        return Err(EncodeError::Mode { path: path(), found: entry.mode });
    }
    let found = entry.mtime.nanoseconds;
    if found > 999_999_999 {
        return Err(EncodeError::Nanoseconds { path: path(), found });
    }
    Ok(())
}

fn check_target(
    entry: &NewEntry<'_>,
    target: &[u8],
) -> Result<(), EncodeError> {
    let path = || entry.path.to_vec();
    if target.is_empty() {
        return Err(EncodeError::EmptyTarget { path: path() });
    }
    if let Some(at) = target.iter().position(|byte| *byte == 0) {
        return Err(EncodeError::TargetNul { path: path(), at });
    }
    check_length(entry, "link target", target)
}

fn check_length(
    entry: &NewEntry<'_>,
    field: &'static str,
    name: &[u8],
) -> Result<(), EncodeError> {
    let (found, limit) = (name.len(), PATH_BYTES_MAX);
    if found <= limit {
        return Ok(());
    }
    let path = entry.path.to_vec();
    Err(EncodeError::TooLong { path, field, found, limit })
}

/// What a header with a body takes.
fn meta_size(body: usize) -> u64 {
    BLOCK as u64 + body.next_multiple_of(BLOCK) as u64
}

/// Writes a header whose body describes the next member.
fn write_meta(mut block: Block, name: &[u8], body: &[u8], out: &mut Vec<u8>) {
    block.text(NAME, name);
    block.number(&SIZE, body.len() as u64);
    block.seal(out);
    out.extend(body);
    fill(out, padding(body.len() as u64));
}

/// What `L` or `K` takes for a name: nothing if the header has room.
fn long_name_size(name: &[u8]) -> u64 {
    if name.len() <= NAME.len() { 0 } else { meta_size(name.len() + 1) }
}

/// Writes `L` or `K` if the header has no room: the name and a NUL.
fn write_long_name(flag: u8, name: &[u8], out: &mut Vec<u8>) {
    if name.len() > NAME.len() {
        let body = [name, b"\0"].concat();
        let block = Block::new(Flavor::Gnu, flag);
        write_meta(block, b"././@LongLink", &body, out);
    }
}

fn fill(out: &mut Vec<u8>, zeros: usize) {
    out.resize(out.len().saturating_add(zeros), 0);
}

/// The name in the header of a PAX sparse file, as GNU tar makes it but for
/// its process id: who does not know sparse files finds a map before the data,
/// and must not take that for the file.
fn stand_in(path: &[u8]) -> Vec<u8> {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let (directory, file) = path.split_at(slash.map_or(0, |slash| slash + 1));
    [directory, b"GNUSparseFile.0/", file].concat()
}
