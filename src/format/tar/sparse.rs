//! Sparse maps: where the stored bytes of a file belong.
//!
//! Lives here: what a map that is read must fulfil, the old GNU slots, the
//! text of PAX 1.0. May not live here: PAX records, data, maps to be written.
//!
//! Source: GNU tar 1.35 manual, "Storing Sparse Files".

use super::error::{Place, TarError, quoted};
use super::header::number;

/// A stretch of a file that is stored.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Segment {
    /// Where it belongs in the real file.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// A map that holds so far: ascending, without overlaps, within the file.
///
/// Held are only segments that are not empty; one that begins where the last
/// one ended is joined to it.
#[derive(Debug)]
pub(super) struct Map {
    size: u64,
    segments_max: u64,
    count: u64,
    end: u64,
    stored: u64,
    segments: Vec<Segment>,
}

impl Map {
    /// An empty map of a file of `size` bytes.
    pub(super) fn new(size: u64, segments_max: u64) -> Self {
        let segments = Vec::new();
        Self { size, segments_max, count: 0, end: 0, stored: 0, segments }
    }

    /// Appends one entry of the map.
    //= spec/format3.md#maps-of-holes
    pub(super) fn add(
        &mut self,
        untrusted: Segment,
        at: &Place,
    ) -> Result<(), TarError> {
        let Segment { offset, length } = untrusted;
        let (index, limit) = (self.count, self.segments_max);
        self.count = check_count(index.saturating_add(1), limit, at)?;
        if offset < self.end {
            let (at, expected) = (at.clone(), self.end);
            return Err(TarError::SparseOrder { at, index, offset, expected });
        }
        let end = offset.checked_add(length).filter(|end| *end <= self.size);
        let Some(end) = end else {
            let (at, size) = (at.clone(), self.size);
            return Err(TarError::SparseEnd {
                at,
                index,
                offset,
                length,
                size,
            });
        };
        // GNU tar begins each segment in a new block, Python and others where
        // the last one ended; no writer leaves room for the difference.
        let found = self.stored;
        if length > 0 && !found.is_multiple_of(512) {
            return Err(TarError::SparseAlignment {
                at: at.clone(),
                index,
                found,
            });
        }
        match self.segments.last_mut() {
            _ if length == 0 => {}
            Some(last) if offset == self.end => last.length += length,
            _ => self.segments.push(untrusted),
        }
        self.end = end;
        // Without overlaps the sum is at most `end`.
        self.stored = self.stored.saturating_add(length);
        Ok(())
    }

    /// The map, if it accounts for exactly the bytes that are stored, and for
    /// the whole file: GNU tar makes it end where the map ends, if need be by
    /// an empty segment; others have it end where its size says.
    pub(super) fn complete(
        self,
        expected: u64,
        at: &Place,
    ) -> Result<Vec<Segment>, TarError> {
        let (found, end, size) = (self.stored, self.end, self.size);
        if found != expected {
            return Err(TarError::SparseSum {
                at: at.clone(),
                found,
                expected,
            });
        }
        if end != size {
            return Err(TarError::SparseShort { at: at.clone(), end, size });
        }
        Ok(self.segments)
    }

    /// Appends the slots of one old GNU block: 24 bytes each, the first
    /// unused one ends the map. Says whether there was an unused one.
    pub(super) fn add_slots(
        &mut self,
        untrusted_slots: &[u8],
        at: &Place,
    ) -> Result<bool, TarError> {
        let is_unused = |slot: &[u8; SLOT]| *slot == [0; SLOT];
        let (slots, _) = untrusted_slots.as_chunks();
        let used = slots.iter().position(is_unused).unwrap_or(slots.len());
        let (used, unused) = slots.split_at_checked(used).unwrap_or_default();
        if !unused.iter().all(is_unused) {
            return Err(TarError::Structure {
                at: at.clone(),
                found: "a sparse segment after the end of the map",
                expected: "unused ones only",
            });
        }
        for slot in used {
            let (offset, length) = slot.split_at(SLOT / 2);
            let offset = number(offset, "sparse offset", at)?;
            let length = number(length, "sparse length", at)?;
            self.add(Segment { offset, length }, at)?;
        }
        Ok(!unused.is_empty())
    }
}

/// A continuation block of an old GNU map: 21 slots, then whether one more
/// such block follows.
pub(super) const CONTINUATION_SLOTS: usize = 21 * SLOT;

/// Bytes of a slot: two numbers.
pub(super) const SLOT: usize = 24;

/// 2^64 has so many digits; GNU tar reads no more either.
const DIGITS_MAX: usize = 20;

/// The map of PAX 1.0, read byte by byte: decimal numbers, a newline after
/// each; first how many segments, then offset and length of each.
#[derive(Debug)]
pub(super) struct MapText {
    map: Map,
    /// Segments still to come, once that is known.
    left: Option<u64>,
    offset: Option<u64>,
    digits: Vec<u8>,
}

impl MapText {
    /// Before the first byte.
    pub(super) fn new(map: Map) -> Self {
        Self { map, left: None, offset: None, digits: Vec::new() }
    }

    /// Whether the next byte no longer belongs to the map.
    pub(super) fn is_complete(&self) -> bool {
        self.left == Some(0)
    }

    /// Takes one byte.
    pub(super) fn push(
        &mut self,
        untrusted_byte: u8,
        at: &Place,
    ) -> Result<(), TarError> {
        if untrusted_byte != b'\n' {
            self.digits.push(untrusted_byte);
            // Refused before it grows longer than any number.
            let is_number = untrusted_byte.is_ascii_digit();
            return match is_number && self.digits.len() <= DIGITS_MAX {
                true => Ok(()),
                false => Err(no_decimal(&self.digits, "sparse map", at)),
            };
        }
        let number = decimal(&self.digits, "sparse map", at)?;
        self.digits.clear();
        let Some(left) = self.left else {
            check_count(number, self.map.segments_max, at)?;
            self.left = Some(number);
            return Ok(());
        };
        match self.offset.take() {
            None => self.offset = Some(number),
            Some(offset) => {
                self.map.add(Segment { offset, length: number }, at)?;
                self.left = Some(left.saturating_sub(1));
            }
        }
        Ok(())
    }

    /// The map that was read.
    pub(super) fn into_map(self) -> Map {
        self.map
    }
}

/// Decimal digits, below 2^63; how PAX writes numbers.
pub(super) fn decimal(
    untrusted_text: &[u8],
    field: &'static str,
    at: &Place,
) -> Result<u64, TarError> {
    let value = untrusted_text.iter().try_fold(0_i64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    });
    let value = value.and_then(|value| u64::try_from(value).ok());
    value
        .filter(|_| !untrusted_text.is_empty())
        .ok_or_else(|| no_decimal(untrusted_text, field, at))
}

fn no_decimal(found: &[u8], field: &'static str, at: &Place) -> TarError {
    let expected = "decimal digits, below 2^63";
    TarError::Number { at: at.clone(), field, found: quoted(found), expected }
}

fn check_count(found: u64, limit: u64, at: &Place) -> Result<u64, TarError> {
    if found <= limit {
        return Ok(found);
    }
    let what = "sparse segments";
    Err(TarError::Limit { at: at.clone(), what, found, limit })
}
