//! Where the data of a file is.
//!
//! Lives here: what the kernel answers, as segments that an archive can hold.
//! May not live here: how they are written (`format::tar`).

use super::kernel::{Content, Failed};
use crate::format::limits::SPARSE_SEGMENTS_MAX;
use crate::format::tar::Segment;

/// Segments that a map may have: GNU writes one more behind the last.
pub(super) const SEGMENTS_MAX: usize = SPARSE_SEGMENTS_MAX - 1;
/// Only a segment at the end of a file may be no whole number of these.
const BLOCK: u64 = 512;

/// Asks for the map of a file of that size; `None` if it is too long.
///
/// To be done once for each file: the answer is not stable. What was
/// allocated and never written is a hole, until somebody has read it.
pub(super) fn map_of(
    content: &Content,
    size: u64,
) -> Result<Option<Vec<Segment>>, Failed> {
    let mut map = Vec::new();
    let mut at = 0;
    while at < size {
        let start = content.data_from(at)?.filter(|start| *start < size);
        let Some(start) = start else { break };
        let end = content.hole_from(start)?.filter(|end| *end > start);
        let end = end.map_or(size, |end| end.min(size));
        add(&mut map, start, end, size);
        if map.len() > SEGMENTS_MAX {
            return Ok(None);
        }
        at = end;
    }
    Ok(Some(map))
}

/// Appends data, made larger to whole blocks; more of a hole is only zeros.
fn add(map: &mut Vec<Segment>, start: u64, end: u64, size: u64) {
    let start = start - start % BLOCK;
    let end = end.checked_next_multiple_of(BLOCK).unwrap_or(size).min(size);
    if let Some(last) = map.last_mut()
        && last.offset + last.length >= start
    {
        last.length = end - last.offset;
        return;
    }
    map.push(Segment { offset: start, length: end - start });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(stretches: &[(u64, u64)], size: u64) -> Vec<(u64, u64)> {
        let mut map = Vec::new();
        for (start, end) in stretches {
            add(&mut map, *start, *end, size);
        }
        map.iter().map(|s| (s.offset, s.offset + s.length)).collect()
    }

    #[test]
    fn segments_are_whole_blocks_and_apart() {
        assert_eq!(
            made(&[(0, 512), (1024, 1030)], 1030),
            [(0, 512), (1024, 1030)]
        );
        assert_eq!(
            made(&[(5, 7), (1100, 1101)], 5000),
            [(0, 512), (1024, 1536)]
        );
        // What meets or overlaps then is one.
        assert_eq!(made(&[(5, 7), (513, 600)], 5000), [(0, 1024)]);
        assert_eq!(made(&[(5, 700), (800, 900)], 850), [(0, 850)]);
    }
}
