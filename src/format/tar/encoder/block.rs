//! One block, filled field by field.
//!
//! Lives here: text, numbers and the checksum of a header. May not live here:
//! which fields a member needs.

use super::{CHECKSUM, MODE, MTIME, NAME, PREFIX, SIZE};
use crate::format::tar::BLOCK;
use crate::format::tar::header::{
    DEVICE_MAJOR, DEVICE_MINOR, Field, Flavor, GID, MAGIC, TYPE, UID,
};
use core::ops::Range;

/// A header that is being made.
pub(super) struct Block {
    bytes: [u8; BLOCK],
}

impl Block {
    /// A header with mode 0644, owner 0, size 0, time 0 and no names.
    pub(super) fn new(flavor: Flavor, flag: u8) -> Self {
        let mut block = Self { bytes: [0; BLOCK] };
        block.text(MAGIC, flavor.magic());
        block.text(TYPE..TYPE + 1, &[flag]);
        block.number(&MODE, 0o644_u16);
        for field in [&UID, &GID, &SIZE, &MTIME] {
            block.number(field, 0_u64);
        }
        if flavor == Flavor::Posix {
            // GNU tar leaves NUL there in its own format.
            block.number(&DEVICE_MAJOR, 0_u64);
            block.number(&DEVICE_MINOR, 0_u64);
        }
        block
    }

    /// Writes as much of a text as its field holds. A text that fills its
    /// field has no NUL behind it, as POSIX and GNU allow.
    pub(super) fn text(&mut self, field: Range<usize>, text: &[u8]) {
        let field = self.bytes.get_mut(field).unwrap_or_default();
        for (place, byte) in field.iter_mut().zip(text) {
            *place = *byte;
        }
    }

    /// Writes a path, with a prefix if it needs one; as much as the name holds
    /// if it cannot be cut. For POSIX headers only.
    pub(super) fn path(&mut self, path: &[u8]) {
        let (prefix, name) = split(path).unwrap_or((&[], path));
        self.text(PREFIX, prefix);
        self.text(NAME, name);
    }

    /// Writes a number: octal with a NUL behind it, base-256 if that has no
    /// room.
    pub(super) fn number(&mut self, field: &Field, value: impl Into<i128>) {
        let text = number(value.into(), field.range().len());
        self.text(field.range(), &text);
    }

    /// Appends the block, with its checksum.
    pub(super) fn seal(self, out: &mut Vec<u8>) {
        out.extend(self.sealed());
    }

    /// The block, with its checksum: the sum of its bytes, that of the
    /// checksum taken for blanks. Six digits, a NUL and a blank.
    pub(super) fn sealed(mut self) -> [u8; BLOCK] {
        self.text(CHECKSUM.range(), &[b' '; 8]);
        let sum: u32 = self.bytes.iter().map(|byte| u32::from(*byte)).sum();
        self.text(CHECKSUM.range(), format!("{sum:06o}\0 ").as_bytes());
        self.bytes
    }
}

/// A number as a field of so many bytes: octal, or in base-256 two's
/// complement, big endian, the first byte saying so.
///
/// Source: GNU tar 1.35 manual, "Extended number format".
pub(super) fn number(value: i128, width: usize) -> Vec<u8> {
    let digits = width.saturating_sub(1);
    let octal = format!("{value:0digits$o}\0");
    if value >= 0 && octal.len() == width {
        return octal.into_bytes();
    }
    let bytes = value.to_be_bytes();
    let start = bytes.len().saturating_sub(digits);
    let kept = bytes.get(start..).unwrap_or_default();
    let sign = if value < 0 { 0xff } else { 0x80 };
    [&[sign], kept].concat()
}

/// A path as prefix and name of a POSIX header, which are joined by a slash;
/// nothing if it cannot be cut so. A short path has no prefix.
///
/// Source: POSIX.1-2017 `pax`, "ustar Interchange Format".
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME.len() {
        return Some((&[], path));
    }
    // The first slash behind which the rest fits.
    let earliest = path.len().saturating_sub(NAME.len() + 1).max(1);
    let slash = path.get(earliest..)?.iter().position(|byte| *byte == b'/')?;
    let (prefix, rest) = path.split_at_checked(earliest + slash)?;
    let name = rest.strip_prefix(b"/").filter(|name| !name.is_empty())?;
    (prefix.len() <= PREFIX.len()).then_some((prefix, name))
}
