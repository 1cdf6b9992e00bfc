//! The backup itself: headers that every reader knows, and the end.
//!
//! Lives here: one ustar header, two blocks of zeros, the record of 10,240
//! bytes. May not live here: the order of members, what their names mean.
//!
//! Source: POSIX.1-2017 `pax`, "ustar Interchange Format"; FORMAT, "Outer
//! layer": what reads an archive inside a qube (`tar2qfile`) skips `x`, `L`
//! and `K`, and takes octal for the only kind of number.

use super::block::{Block, split};
use super::{EncodeError, Flavor, MTIME, NAME, PREFIX, SIZE, fill};
use crate::format::limits::OUTER_NAME_BYTES_MAX;
use crate::format::tar::{BLOCK, padding, safe_components};

/// Eleven octal digits: 8 GiB, or the year 2242.
const OCTAL_MAX: u64 = (1 << 33) - 1;

/// Tars end in whole records of 20 blocks.
const RECORD: usize = 20 * BLOCK;

/// The header of a member of the outer archive: pure ustar, a regular file
/// with mode 0644, owner and group 0, no names.
///
/// After it come the data, [`padding`] and the next header or the [`end`]. If
/// the size was not known, the header is simply made again with the right one
/// and written over the first: nothing else in it changes but its checksum.
///
/// ```
/// use qubes_fsm::format::tar::{EncodeError, outer_header};
///
/// let header = outer_header(b"vm1/private.img.000", 100 << 20, 0)?;
/// assert!(header.starts_with(b"vm1/private.img.000\0"));
/// assert_eq!(&header[257..265], b"ustar\x0000");
/// # Ok::<(), EncodeError>(())
/// ```
///
/// # Errors
/// `TooLong`, `Path`, `Slash` and `Uncut` for a name, `OuterSize` from 8 GiB,
/// `OuterTime` from the year 2242.
//= spec/format3.md#written-as-plain-ustar
pub fn outer_header(
    name: &[u8],
    size: u64,
    mtime_seconds: u64,
) -> Result<[u8; BLOCK], EncodeError> {
    let path = || name.to_vec();
    let (found, limit) = (name.len(), OUTER_NAME_BYTES_MAX);
    if found > limit {
        let (path, field) = (path(), "name");
        return Err(EncodeError::TooLong { path, field, found, limit });
    }
    safe_components(name)?;
    if name.ends_with(b"/") {
        return Err(EncodeError::Slash { path: path() });
    }
    let Some((prefix, name)) = split(name) else {
        return Err(EncodeError::Uncut { path: path(), found });
    };
    if size > OCTAL_MAX {
        let (path, limit) = (path(), OCTAL_MAX);
        return Err(EncodeError::OuterSize { path, found: size, limit });
    }
    if mtime_seconds > OCTAL_MAX {
        let (path, found, limit) = (path(), mtime_seconds, OCTAL_MAX);
        return Err(EncodeError::OuterTime { path, found, limit });
    }
    let mut block = Block::new(Flavor::Posix, b'0');
    block.text(PREFIX, prefix);
    block.text(NAME, name);
    block.number(&SIZE, size);
    block.number(&MTIME, mtime_seconds);
    Ok(block.sealed())
}

/// Appends the end of an archive that has so many bytes before it: two blocks
/// of zeros, and more up to a multiple of 10,240. Outer and inner end alike.
///
/// ```
/// use qubes_fsm::format::tar::end;
///
/// let mut out = Vec::new();
/// end(1024, &mut out);
/// assert_eq!(out, [0; 9216]);
/// ```
pub fn end(total_bytes: u64, out: &mut Vec<u8>) {
    fill(out, end_size(total_bytes));
}

/// How many bytes [`end`] appends.
pub fn end_size(total_bytes: u64) -> usize {
    let least = padding(total_bytes) + 2 * BLOCK;
    let record = RECORD as u64;
    let before = total_bytes % record + least as u64;
    least + (before.next_multiple_of(record) - before) as usize
}
