//! One gzip member of blocks that were made apart from each other.
//!
//! Lives here: raw deflate of a block, what is stored instead, the bytes
//! around the blocks. May not live here: other filters, or who makes which
//! block.
//!
//! Source: RFC 1951 and RFC 1952; as pigz 2.8 does it.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::probe::Probe;

/// How far back deflate can refer (RFC 1951, section 2).
pub(super) const WINDOW_BYTES: usize = 32 * 1024;

/// What is looked at at a time, to be deflated or stored.
const SEGMENT_BYTES: usize = 64 * 1024;

/// Most bytes of a stored block (RFC 1951, section 3.2.4).
const STORED_BYTES_MAX: usize = 0xffff;
/// What stands before them: three bits, filled up to a byte, and the length
/// twice.
const STORED_HEADER_BYTES: usize = 5;

/// So that nothing but random bytes can be referred to behind some.
const _: () = assert!(SEGMENT_BYTES >= WINDOW_BYTES);

/// Makes blocks; each begins and ends at a byte.
pub(super) struct Deflater {
    stream: Compress,
    probe: Probe,
}

impl Deflater {
    /// `number` is that of `gzip:NUMBER`.
    ///
    /// Level 1 of zlib-rs knows no codes but the fixed ones: random data gets
    /// 5.5 % larger by it, and a disk image came out 12 % larger than from
    /// gzip -6. So 1 means its level 2 as well.
    pub(super) fn new(number: u32) -> Self {
        let level = Compression::new(number.clamp(2, 9));
        Self { stream: Compress::new(level, false), probe: Probe::new() }
    }

    /// Appends the block. Neighbors of one kind, random or not, stay together.
    pub(super) fn block(
        &mut self,
        block: &[u8],
        before: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Crc, String> {
        let mut crc = Crc::new();
        crc.update(block);
        let mut window = tail(before);
        let mut done = 0;
        let mut end = 0;
        let mut kind = None;
        for segment in block.chunks(SEGMENT_BYTES) {
            let random = self.probe.is_random(segment);
            if kind.is_some_and(|kind| kind != random) {
                let run = block.get(done..end).unwrap_or_default();
                self.run(run, kind == Some(true), window, out)?;
                // What is deflated next stands behind random bytes only, and
                // will not refer to these.
                window = &[];
                done = end;
            }
            kind = Some(random);
            end += segment.len();
        }
        let run = block.get(done..).unwrap_or_default();
        self.run(run, kind == Some(true), window, out)?;
        Ok(crc)
    }

    fn run(
        &mut self,
        run: &[u8],
        random: bool,
        window: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let start = out.len();
        if random || !self.deflate(run, window, out)? {
            out.truncate(start);
            store(run, out);
        }
        Ok(())
    }

    /// Appends what ends with an empty stored block, and so at a byte; `false`
    /// if it does not get smaller than stored.
    fn deflate(
        &mut self,
        run: &[u8],
        window: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, String> {
        if run.is_empty() {
            return Ok(true);
        }
        self.stream.reset();
        if !window.is_empty() {
            self.stream
                .set_dictionary(window)
                .map_err(|error| error.to_string())?;
        }
        let start = out.len();
        let most = stored_bytes(run.len());
        // All the room there may be, at once: what deflate writes must not
        // depend on where the room ended.
        out.reserve(most);
        let status = self
            .stream
            .compress_vec(run, out, FlushCompress::Sync)
            .map_err(|error| error.to_string())?;
        let all = self.stream.total_in() == run.len() as u64;
        // With room left the flush is complete.
        let fits = out.len() - start < most;
        match (status, all, fits) {
            (Status::Ok, true, true) => Ok(true),
            (Status::Ok | Status::BufError, _, false) => Ok(false),
            (status, ..) => {
                Err(format!("deflate stopped with {status:?} before its end"))
            }
        }
    }
}

/// The header of a member without a name and a time (RFC 1952, section 2.3).
///
/// `XFL` says "maximum compression" or "fastest", as gzip does; `OS` is Unix.
pub(super) fn header(number: u32) -> [u8; 10] {
    let speed = match number {
        1 => 4,
        9 => 2,
        _ => 0,
    };
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, speed, 3]
}

/// The last block of deflate, which is empty (fixed codes, end of block), the
/// CRC and the length modulo 2^32.
pub(super) fn trailer(crc: &Crc) -> Vec<u8> {
    let mut trailer = vec![0x03, 0x00];
    trailer.extend(crc.sum().to_le_bytes());
    trailer.extend(crc.amount().to_le_bytes());
    trailer
}

fn store(run: &[u8], out: &mut Vec<u8>) {
    out.reserve(stored_bytes(run.len()));
    for piece in run.chunks(STORED_BYTES_MAX) {
        let length = piece.len() as u16;
        out.push(0);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(piece);
    }
}

/// Bytes of so many when stored.
fn stored_bytes(bytes: usize) -> usize {
    bytes + bytes.div_ceil(STORED_BYTES_MAX) * STORED_HEADER_BYTES
}

/// What deflate can refer to.
fn tail(bytes: &[u8]) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(WINDOW_BYTES)..).unwrap_or_default()
}
