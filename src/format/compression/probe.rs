//! Whether deflate would find anything in some bytes.
//!
//! Lives here: the statistics. May not live here: what is done about it.

/// Says of random bytes, at a tenth of what deflate would take for it, that
/// they cannot be compressed.
///
/// Deflate saves by two things: bytes that come more often than others, and
/// strings that come again. The first is looked for in a start and then in
/// all; the second at one place in sixteen, chosen by the bytes there, so
/// that a string and its copy are both looked at or both not.
#[derive(Debug)]
pub(super) struct Probe {
    /// Four bytes seen last at a chosen place, by their hash.
    seen: Box<[u32]>,
}

/// A start that is looked at first: most of what can be compressed shows.
const START_BYTES: usize = 2048;
/// How uneven it is at most. Random bytes have 255 with a deviation of 23.
const START_UNEVEN_MAX: u64 = 600;
/// How uneven all is at most. In 64 KiB a Huffman code saves 0.15 % then.
const UNEVEN_MAX: u64 = 1100;
/// Strings of four bytes that may come again, of 4096 looked at.
const AGAIN_MAX: u32 = 16;
/// Entries of the table: as many as places that are looked at in 64 KiB.
const SEEN: usize = 1 << 12;

impl Probe {
    pub(super) fn new() -> Self {
        Self { seen: vec![0; SEEN].into_boxed_slice() }
    }

    /// Whether it is not worth trying. Nothing is kept between two calls.
    pub(super) fn is_random(&mut self, bytes: &[u8]) -> bool {
        let Some(start) = bytes.get(..START_BYTES) else { return false };
        unevenness(start) <= START_UNEVEN_MAX
            && unevenness(bytes) <= UNEVEN_MAX
            && !self.comes_again(bytes)
    }

    fn comes_again(&mut self, bytes: &[u8]) -> bool {
        self.seen.fill(0);
        let mut again = 0;
        for window in bytes.windows(4) {
            let Ok(four) = window.try_into().map(u32::from_le_bytes) else {
                continue;
            };
            let hash = four.wrapping_mul(0x9e37_79b1);
            if hash >> 28 != 0 {
                continue;
            }
            if let Some(seen) = self.seen.get_mut((hash >> 16) as usize) {
                again += u32::from(*seen == four);
                *seen = four;
            }
            if again > AGAIN_MAX {
                return true;
            }
        }
        false
    }
}

/// Pearson's chi-squared of the bytes against all being equally frequent:
/// 255 on average for random ones, whatever their number.
fn unevenness(bytes: &[u8]) -> u64 {
    // Four tables: equal bytes in a row would wait for each other.
    let mut counts = [[0_u32; 256]; 4];
    let mut chunks = bytes.chunks_exact(4);
    for chunk in &mut chunks {
        for (counts, byte) in counts.iter_mut().zip(chunk) {
            counts[usize::from(*byte)] += 1;
        }
    }
    for (counts, byte) in counts.iter_mut().zip(chunks.remainder()) {
        counts[usize::from(*byte)] += 1;
    }
    let [a, b, c, d] = &counts;
    let all = a.iter().zip(b).zip(c).zip(d);
    let squares: u64 =
        all.map(|(((a, b), c), d)| u64::from(a + b + c + d).pow(2)).sum();
    let total = bytes.len() as u64;
    (squares * 256).checked_div(total).unwrap_or(0).saturating_sub(total)
}
