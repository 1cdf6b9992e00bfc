//! What Qubes OS made of a name in 2014, right or wrong.
//!
//! Lives here: its formula, so that attachments and logs of then can be
//! understood. May not live here: what is right (`numbers`). Source:
//! core-admin `core/qubesutils.py`, `block_name_to_majorminor`, as of 99315fd0
//! (loop) and later (md, dm), without its look at `/dev` (11961cbb).
//!
//! It is wrong for every loop device but the first (all have minor 0, and
//! their partition added), for md (8 numbers each), for disks above `z` (only
//! the last letter counts) and for `sdq` to `sdz` (a minor above 255 of major
//! 8, whose id is that of another device).

use super::DeviceError;
use super::name::{check_length, decimal};

/// Its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct As2014 {
    /// 0 if the kind was not known.
    pub major: i64,
    /// Below 0 for a name such as `sd-`.
    pub minor: i64,
    /// What the two made together, or the id that was given.
    pub id: i64,
}

/// What 2014 said.
///
/// # Errors
/// `Refused2014`; `TooLong`, `TooLarge` where only Python has no limit.
pub fn as_2014(name: &[u8]) -> Result<As2014, DeviceError> {
    check_length(name)?;
    if !name.is_empty() && name.iter().all(u8::is_ascii_digit) {
        let id = number(name, name)?;
        return Ok(As2014 { major: id / 256, minor: id % 256, id });
    }
    let answer = |major: i64, minor: i64| {
        Ok(As2014 { major, minor, id: major << 8 | minor })
    };
    match Kind2014::of(name) {
        None => answer(0, 0),
        Some(Kind2014::Letters { major }) => {
            let (last, partition) = letter_style(name)?;
            let disk = (i64::from(last) - i64::from(b'a')) * 16;
            answer(major, added(name, disk, number(name, partition)?)?)
        }
        Some(Kind2014::Single { major }) => {
            let (_, partition) = letter_style(name)?;
            answer(major, number(name, partition)?)
        }
        Some(Kind2014::Loop) => {
            let (_, partition) = digit_style(name)?;
            answer(7, number(name, partition)?)
        }
        Some(Kind2014::Digits { major }) => {
            let (disk, partition) = digit_style(name)?;
            if disk.is_empty() {
                return Err(refused(name));
            }
            let disk = number(name, disk)?
                .checked_mul(8)
                .ok_or_else(|| too_large(name, disk))?;
            answer(major, added(name, disk, number(name, partition)?)?)
        }
    }
}

/// The kinds, by how the minor is made.
enum Kind2014 {
    /// A letter for the disk, 16 numbers each.
    Letters { major: i64 },
    /// What comes behind the letters is all.
    Single { major: i64 },
    /// Which of them does not count.
    Loop,
    /// A number for the disk, 8 numbers each.
    Digits { major: i64 },
}

impl Kind2014 {
    fn of(name: &[u8]) -> Option<Self> {
        let begins = |start: &str| name.starts_with(start.as_bytes());
        Some(if begins("xvd") {
            Self::Letters { major: 202 }
        } else if begins("sd") {
            Self::Letters { major: 8 }
        } else if begins("mmcblk") {
            Self::Digits { major: 179 }
        } else if begins("scd") || begins("sr") {
            Self::Single { major: 11 }
        } else if begins("loop") {
            Self::Loop
        } else if begins("md") {
            Self::Digits { major: 9 }
        } else if begins("dm-") {
            Self::Single { major: 253 }
        } else {
            return None;
        })
    }
}

/// Letters, one more of them or a dash, digits: the last before the digits,
/// and the digits.
fn letter_style(name: &[u8]) -> Result<(u8, &[u8]), DeviceError> {
    let (stem, digits) = split_digits(name);
    match stem.split_last() {
        Some((last, first))
            if !first.is_empty()
                && first.iter().all(u8::is_ascii_lowercase)
                && (last.is_ascii_lowercase() || *last == b'-') =>
        {
            Ok((*last, digits))
        }
        Some(_) | None => Err(refused(name)),
    }
}

/// Letters, digits, and perhaps `p` and more digits: both numbers.
fn digit_style(name: &[u8]) -> Result<(&[u8], &[u8]), DeviceError> {
    let (stem, last) = split_digits(name);
    // All letters, so the `p` before the digits is one of them.
    if stem.iter().all(u8::is_ascii_lowercase) {
        return Ok((last, b""));
    }
    let Some(front) = stem.strip_suffix(b"p").filter(|_| !last.is_empty())
    else {
        return Err(refused(name));
    };
    let (stem, disk) = split_digits(front);
    match stem.iter().all(u8::is_ascii_lowercase) {
        true => Ok((disk, last)),
        false => Err(refused(name)),
    }
}

/// The name without its last digits, and these.
fn split_digits(name: &[u8]) -> (&[u8], &[u8]) {
    let end = name.iter().rposition(|byte| !byte.is_ascii_digit());
    name.split_at(end.map_or(0, |last| last + 1))
}

/// Nothing is 0, and zeros in front do not count.
fn number(name: &[u8], digits: &[u8]) -> Result<i64, DeviceError> {
    if digits.is_empty() {
        return Ok(0);
    }
    decimal(digits)
        .and_then(|number| i64::try_from(number).ok())
        .ok_or_else(|| too_large(name, digits))
}

fn added(name: &[u8], disk: i64, partition: i64) -> Result<i64, DeviceError> {
    disk.checked_add(partition).ok_or_else(|| too_large(name, name))
}

fn refused(name: &[u8]) -> DeviceError {
    DeviceError::Refused2014 { name: name.to_vec() }
}

fn too_large(name: &[u8], digits: &[u8]) -> DeviceError {
    let (name, digits) = (name.to_vec(), digits.to_vec());
    let limit = i64::MAX.unsigned_abs();
    DeviceError::TooLarge { name, digits, limit }
}
