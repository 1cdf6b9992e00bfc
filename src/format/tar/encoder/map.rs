//! A sparse map, checked and written in both of its forms.
//!
//! Lives here: what a map must fulfil, old GNU slots, the text of PAX 1.0.
//! May not live here: which of them is written.
//!
//! Source: GNU tar 1.35 manual, "Storing Sparse Files".

use super::block::{Block, number};
use super::{EncodeError, fill};
use crate::format::limits::SPARSE_SEGMENTS_MAX;
use crate::format::tar::header::{GNU_EXTENDED, GNU_REAL_SIZE, GNU_SLOTS};
use crate::format::tar::sparse::{CONTINUATION_SLOTS, SLOT};
use crate::format::tar::{BLOCK, Segment, padding};

/// What is known of a map after a walk through it.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Bytes in all segments.
    pub(super) data: u64,
    /// Entries that are written.
    count: usize,
    /// Bytes of these as text.
    text: u64,
}

impl Shape {
    /// Walks through the map of a file.
    pub(super) fn check(
        map: &[Segment],
        size: u64,
        path: &[u8],
    ) -> Result<Self, EncodeError> {
        let path = || path.to_vec();
        let (mut end, mut data) = (0, 0_u64);
        for (index, Segment { offset, length }) in map.iter().enumerate() {
            let (index, offset, length) = (index as u64, *offset, *length);
            if offset < end {
                let (path, expected) = (path(), end);
                return Err(EncodeError::SegmentOrder {
                    path,
                    index,
                    offset,
                    expected,
                });
            }
            let behind = offset.checked_add(length).filter(|end| *end <= size);
            let Some(behind) = behind else {
                return Err(EncodeError::SegmentEnd {
                    path: path(),
                    index,
                    offset,
                    length,
                    size,
                });
            };
            if length > 0 && padding(data) > 0 {
                let (path, found) = (path(), data);
                return Err(EncodeError::SegmentAlignment {
                    path,
                    index,
                    found,
                });
            }
            end = behind;
            // Without overlaps the sum is at most `end`.
            data = data.saturating_add(length);
        }
        let (mut count, mut text) = (0_usize, 0);
        for Segment { offset, length } in written(map, size) {
            count = count.saturating_add(1);
            text += line_size(offset) + line_size(length);
        }
        let (found, limit) = (count, SPARSE_SEGMENTS_MAX);
        if found > limit {
            let path = path();
            return Err(EncodeError::SegmentCount { path, found, limit });
        }
        text += line_size(count as u64);
        Ok(Self { data, count, text })
    }

    /// Bytes of the blocks that continue an old GNU header.
    pub(super) fn continuations_size(self) -> u64 {
        let rest = self.count.saturating_sub(HEADER_COUNT);
        (rest.div_ceil(CONTINUATION_COUNT) * BLOCK) as u64
    }

    /// Bytes of the map of PAX 1.0, with its padding.
    pub(super) fn text_size(self) -> u64 {
        self.text + padding(self.text) as u64
    }
}

/// Slots of an old GNU header.
const HEADER_COUNT: usize = (GNU_SLOTS.end - GNU_SLOTS.start) / SLOT;

/// Slots of a block that continues one.
const CONTINUATION_COUNT: usize = CONTINUATION_SLOTS / SLOT;

/// The entries as they are written: none is empty but the last, which is
/// added if the file goes on after its data. Without that readers disagree
/// how long it is.
fn written(map: &[Segment], size: u64) -> impl Iterator<Item = Segment> {
    let data = map.iter().copied().filter(|segment| segment.length > 0);
    let last = data.clone().next_back();
    let end = last.map_or(0, |last| last.offset + last.length);
    let mark = Segment { offset: size, length: 0 };
    data.chain((end < size).then_some(mark))
}

/// Decimal digits and a newline.
fn line_size(value: u64) -> u64 {
    u64::from(value.checked_ilog10().unwrap_or_default()) + 2
}

/// Ends an old GNU sparse header: four slots in it, 21 in each block behind
/// it, each of which says whether one more follows.
pub(super) fn write_slots(
    mut header: Block,
    map: &[Segment],
    size: u64,
    out: &mut Vec<u8>,
) {
    let mut slots = written(map, size).peekable();
    let first: Vec<u8> =
        slots.by_ref().take(HEADER_COUNT).flat_map(slot).collect();
    header.text(GNU_SLOTS, &first);
    header.text(GNU_EXTENDED..GNU_EXTENDED + 1, &more(&mut slots));
    header.number(&GNU_REAL_SIZE, size);
    header.seal(out);
    while slots.peek().is_some() {
        let start = out.len();
        out.extend(slots.by_ref().take(CONTINUATION_COUNT).flat_map(slot));
        fill(out, CONTINUATION_SLOTS.saturating_sub(out.len() - start));
        out.extend(more(&mut slots));
        fill(out, BLOCK.saturating_sub(out.len() - start));
    }
}

/// Whether one more block follows.
fn more<I: Iterator>(slots: &mut core::iter::Peekable<I>) -> [u8; 1] {
    [u8::from(slots.peek().is_some())]
}

fn slot(segment: Segment) -> impl Iterator<Item = u8> {
    let half = |value: u64| number(value.into(), SLOT / 2);
    half(segment.offset).into_iter().chain(half(segment.length))
}

/// The map of PAX 1.0: how many entries, then offset and length of each, a
/// line for each number, padded.
pub(super) fn write_text(
    shape: Shape,
    map: &[Segment],
    size: u64,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let mut line = |value: u64| out.extend(format!("{value}\n").into_bytes());
    line(shape.count as u64);
    for Segment { offset, length } in written(map, size) {
        line(offset);
        line(length);
    }
    fill(out, padding((out.len() - start) as u64));
}
