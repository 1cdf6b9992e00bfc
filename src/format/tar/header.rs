//! One header block: which bytes are which field, and what a number is.
//!
//! Lives here: offsets, magic, checksum, number fields, read. May not live
//! here: what a member is, which needs the headers before it; how a header is
//! written, which takes the offsets from here.

use core::ops::Range;

use super::error::{Place, TarError, quoted};
use super::{BLOCK, Mtime};

/// Which of the two layouts the second half of a header has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flavor {
    /// `ustar  \0`: no prefix; room for the first four sparse segments.
    Gnu,
    /// `ustar\0` `00`: a prefix for long paths.
    Posix,
}

impl Flavor {
    /// Magic and version.
    pub(super) fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Gnu => b"ustar  \0",
            Self::Posix => b"ustar\x0000",
        }
    }
}

/// A header whose checksum and magic are right.
#[derive(Clone, Copy)]
pub(super) struct Header<'a> {
    bytes: &'a [u8; BLOCK],
    pub(super) flavor: Flavor,
}

/// A field that holds a number.
pub(super) struct Field {
    name: &'static str,
    range: Range<usize>,
}

// POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar, "The Standard
// Format" (struct oldgnu_header).
pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Field = Field { name: "mode", range: 100..108 };
pub(super) const UID: Field = Field { name: "uid", range: 108..116 };
pub(super) const GID: Field = Field { name: "gid", range: 116..124 };
pub(super) const SIZE: Field = Field { name: "size", range: 124..136 };
pub(super) const MTIME: Field = Field { name: "mtime", range: 136..148 };
pub(super) const CHECKSUM: Field =
    Field { name: "header checksum", range: 148..156 };
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const PREFIX: Range<usize> = 345..500;
const GNU_REST: Range<usize> = 345..512;
const OTHERS: [Field; 6] = [MODE, MTIME, UID, GID, DEVICE_MAJOR, DEVICE_MINOR];
pub(super) const DEVICE_MAJOR: Field =
    Field { name: "device major", range: 329..337 };
pub(super) const DEVICE_MINOR: Field =
    Field { name: "device minor", range: 337..345 };
/// Four of them.
pub(super) const GNU_SLOTS: Range<usize> = 386..482;
pub(super) const GNU_EXTENDED: usize = 482;
pub(super) const GNU_REAL_SIZE: Field =
    Field { name: "real size", range: 483..495 };

impl Field {
    /// Which bytes of the header it is.
    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

impl<'a> Header<'a> {
    /// Takes a block for a header.
    pub(super) fn read(
        untrusted_block: &'a [u8; BLOCK],
        at: &Place,
    ) -> Result<Self, TarError> {
        let header = Self { bytes: untrusted_block, flavor: Flavor::Gnu };
        header.check_sum(at)?;
        let magic = header.bytes(MAGIC);
        let known = [Flavor::Gnu, Flavor::Posix];
        let Some(flavor) = known.into_iter().find(|f| f.magic() == magic)
        else {
            let found = magic.try_into().unwrap_or_default();
            return Err(TarError::Magic { at: at.clone(), found });
        };
        header.check_others(at)?;
        Ok(Self { flavor, ..header })
    }

    /// The bytes' sum, the checksum itself taken for blanks. Old writers
    /// summed signed bytes; POSIX says unsigned.
    //= spec/format3.md#the-inner-archive
    fn check_sum(self, at: &Place) -> Result<(), TarError> {
        let found = self.number(&CHECKSUM, at)?;
        let blank = CHECKSUM.range.len() as i64 * i64::from(b' ');
        let (mut unsigned, mut signed) = (blank, blank);
        for (index, byte) in self.bytes.iter().enumerate() {
            if !CHECKSUM.range.contains(&index) {
                unsigned += i64::from(*byte);
                signed += i64::from(byte.cast_signed());
            }
        }
        if [Ok(unsigned), Ok(signed)].contains(&i64::try_from(found)) {
            return Ok(());
        }
        let expected = unsigned.unsigned_abs();
        Err(TarError::Checksum { at: at.clone(), found, expected })
    }

    /// The type flag.
    pub(super) fn kind(self) -> u8 {
        self.bytes.get(TYPE).copied().unwrap_or_default()
    }

    /// The path in this header alone.
    pub(super) fn path(self) -> Vec<u8> {
        let prefix = match self.flavor {
            Flavor::Gnu => &[],
            Flavor::Posix => until_nul(self.bytes(PREFIX)),
        };
        let name = until_nul(self.bytes(NAME));
        if prefix.is_empty() {
            name.to_vec()
        } else {
            [prefix, name].join(&b'/')
        }
    }

    /// The target of a link in this header alone.
    pub(super) fn link(self) -> Vec<u8> {
        until_nul(self.bytes(LINK)).to_vec()
    }

    /// Whether a GNU header uses what POSIX calls the prefix. GNU tar keeps
    /// times and more there, Python takes them for a part of the path.
    pub(super) fn has_gnu_rest(self) -> bool {
        self.flavor == Flavor::Gnu
            && self.bytes(GNU_REST).iter().any(|byte| *byte != 0)
    }

    /// The four sparse segments that fit a GNU header.
    pub(super) fn slots(self) -> &'a [u8] {
        self.bytes(GNU_SLOTS)
    }

    /// Whether a block with more segments follows.
    pub(super) fn is_extended(self, at: &Place) -> Result<bool, TarError> {
        is_extended(self.bytes.get(GNU_EXTENDED).copied(), at)
    }

    /// A number that is not negative.
    pub(super) fn number(
        self,
        field: &Field,
        at: &Place,
    ) -> Result<u64, TarError> {
        number(self.bytes(field.range()), field.name, at)
    }

    /// The time in this header alone; only base-256 can be negative.
    pub(super) fn mtime(self, at: &Place) -> Result<Mtime, TarError> {
        let seconds = self.signed(&MTIME, at)?;
        Ok(Mtime { seconds, nanoseconds: 0 })
    }

    /// Whether all numbers are numbers, used or not: Python takes a header
    /// for the end of the archive if they are not. GNU tar refuses an owner
    /// or group that no kernel has, tar-core a device in base-256, even that
    /// of a file.
    fn check_others(self, at: &Place) -> Result<(), TarError> {
        for field in &OTHERS {
            let number = self.signed(field, at)?;
            let is_device =
                [DEVICE_MAJOR.name, DEVICE_MINOR.name].contains(&field.name);
            let expected = if field.name == MTIME.name {
                continue;
            } else if u32::try_from(number).is_err() {
                "a number of 32 bits"
            } else if is_device && self.is_base256(field) {
                "octal digits"
            } else {
                continue;
            };
            return Err(TarError::Number {
                at: at.clone(),
                field: field.name,
                found: quoted(self.bytes(field.range())),
                expected,
            });
        }
        Ok(())
    }

    fn is_base256(self, field: &Field) -> bool {
        let bytes = self.bytes(field.range());
        bytes.first().is_some_and(|byte| *byte >= 0x80)
    }

    fn signed(self, field: &Field, at: &Place) -> Result<i64, TarError> {
        let untrusted_field = self.bytes(field.range());
        parse(untrusted_field).ok_or_else(|| TarError::Number {
            at: at.clone(),
            field: field.name,
            found: quoted(untrusted_field),
            expected: "octal digits or base-256 of 64 bits",
        })
    }

    fn bytes(self, range: Range<usize>) -> &'a [u8] {
        self.bytes.get(range).unwrap_or_default()
    }
}

/// The byte that says whether one more block of a sparse map follows. Any but
/// 0 says so to GNU tar, 1 alone to tar-core; writers write 0 or 1.
pub(super) fn is_extended(
    untrusted_byte: Option<u8>,
    at: &Place,
) -> Result<bool, TarError> {
    match untrusted_byte {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(TarError::Structure {
            at: at.clone(),
            found: "a sparse map that is neither at its end nor goes on",
            expected: "0 or 1 behind its segments",
        }),
    }
}

/// A number field: octal or base-256, not negative, below 2^63.
///
/// Octal may have blanks before it and blanks or NUL after it, and nothing
/// after those; a field that begins with NUL is 0, but only if all of it is
/// NUL: GNU tar skips one NUL before a number, Python reads 0 there.
pub(super) fn number(
    untrusted_field: &[u8],
    name: &'static str,
    at: &Place,
) -> Result<u64, TarError> {
    parse(untrusted_field)
        .and_then(|value| u64::try_from(value).ok())
        .ok_or_else(|| TarError::Number {
            at: at.clone(),
            field: name,
            found: quoted(untrusted_field),
            expected: "octal digits or base-256, not negative, below 2^63",
        })
}

fn parse(untrusted_field: &[u8]) -> Option<i64> {
    match untrusted_field {
        [0x80, rest @ ..] => base256(rest, 0),
        [0xff, rest @ ..] => base256(rest, -1),
        _ => octal(untrusted_field),
    }
}

/// Two's complement, big endian, after the byte that says so (GNU tar).
fn base256(untrusted_bytes: &[u8], sign: i64) -> Option<i64> {
    untrusted_bytes.iter().try_fold(sign, |value, byte| {
        value.checked_mul(256)?.checked_add(i64::from(*byte))
    })
}

fn octal(untrusted_field: &[u8]) -> Option<i64> {
    let blanks = untrusted_field.iter().take_while(|b| **b == b' ').count();
    let rest = untrusted_field.get(blanks..)?;
    let end = rest.iter().position(|b| !matches!(b, b'0'..=b'7'));
    let (digits, rest) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
    // Blanks alone are no number (GNU tar), NUL alone is 0.
    let is_missing = digits.is_empty() && rest.is_empty();
    if is_missing || rest.iter().any(|b| !matches!(b, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, digit| {
        value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))
    })
}

/// A field of text ends at its first NUL, or where the field ends.
fn until_nul(untrusted_field: &[u8]) -> &[u8] {
    untrusted_field.split(|byte| *byte == 0).next().unwrap_or_default()
}
