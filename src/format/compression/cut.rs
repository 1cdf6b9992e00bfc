//! A stream cut in blocks.
//!
//! Lives here: where it is cut, and what goes along from before the cut. May
//! not live here: compression, or who gets which block.

use super::gzip::WINDOW_BYTES;
use super::{Filter, Level};

/// Cuts a stream in blocks of [`Level::block_bytes`], whatever the pieces in
/// which it comes.
#[derive(Debug)]
pub struct Cutter {
    block_bytes: usize,
    before_bytes: usize,
    /// The block in the making.
    block: Block,
    /// Memory of blocks that are done with.
    spare: Vec<Block>,
}

/// A block, and for gzip what was before it.
#[derive(Debug, Default)]
pub struct Block {
    buffer: Vec<u8>,
    /// Where the block begins in it.
    start: usize,
}

impl Block {
    /// The bytes to compress.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// The bytes of the stream in front of them that a compressor may refer
    /// to: for gzip up to 32 KiB (RFC 1951, section 2), otherwise none.
    #[must_use]
    pub fn before(&self) -> &[u8] {
        self.buffer.get(..self.start).unwrap_or_default()
    }
}

impl Cutter {
    /// At the start of a stream.
    #[must_use]
    pub fn new(level: Level) -> Self {
        let before_bytes = match level.filter() {
            Filter::Gzip => WINDOW_BYTES,
            Filter::None
            | Filter::Bzip2
            | Filter::Xz
            | Filter::Lzma
            | Filter::Zstd => 0,
        };
        Self {
            block_bytes: level.block_bytes(),
            before_bytes,
            block: Block::default(),
            spare: Vec::new(),
        }
    }

    /// Takes from the front of `bytes` what the block in the making needs, and
    /// gives the block if it is full then. To be called until it gives none:
    /// then nothing is left of `bytes`.
    #[must_use = "the block is not made again"]
    pub fn push(&mut self, bytes: &mut &[u8]) -> Option<Block> {
        let room = self.block_bytes - self.block.bytes().len();
        let (taken, left) = bytes.split_at(room.min(bytes.len()));
        self.block.buffer.extend_from_slice(taken);
        *bytes = left;
        if taken.len() < room {
            return None;
        }
        Some(self.next())
    }

    /// Says that the stream is over; gives the last block, unless it is empty.
    #[must_use = "the last block is in it"]
    pub fn finish(self) -> Option<Block> {
        (!self.block.bytes().is_empty()).then_some(self.block)
    }

    /// Takes back a block that is compressed, for its memory.
    pub fn reuse(&mut self, block: Block) {
        self.spare.push(block);
    }

    fn next(&mut self) -> Block {
        let mut next = self.spare.pop().unwrap_or_default();
        next.buffer.clear();
        let end = self.block.buffer.len();
        let before = end.saturating_sub(self.before_bytes)..;
        let before = self.block.buffer.get(before).unwrap_or_default();
        next.buffer.extend_from_slice(before);
        next.start = before.len();
        core::mem::replace(&mut self.block, next)
    }
}
