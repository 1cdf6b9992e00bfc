//! Filters written: blocks that can be compressed in parallel, and what is
//! around them.
//!
//! Lives here: one block with each filter, the bytes before the first and
//! behind the last. May not live here: threads, or the order of the blocks.

use core::fmt;

use bzip2::{Action as Bzip2Action, Compress as Bzip2, Compression};
use flate2::Crc;
use liblzma::stream::{Action, Check, Filters, LzmaOptions, Stream as Xz};
use zstd::bulk::Compressor as Zstd;
use zstd::stream::raw::{Encoder as ZstdSlices, Operation as _, OutBuffer};
use zstd::zstd_safe::{CParameter, compress_bound};

use super::gzip::{self, Deflater};
use super::{Filter, Level};

/// An encoder failed: it lacks memory, or it is broken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{filter} encoder: {message}; wanted {bytes} bytes compressed")]
#[non_exhaustive]
pub struct EncodeError {
    /// Which encoder.
    pub filter: Filter,
    /// Its own words.
    pub message: String,
    /// How long the block was; 0 if it did not get so far.
    pub bytes: usize,
}

/// What [`Assembly`] must know of a block.
#[derive(Debug)]
pub struct BlockFacts {
    /// The CRC-32 of the bytes, and how many there are, modulo 2^32; counted
    /// for gzip only.
    crc: Crc,
}

/// Compresses blocks, each for itself: one for each worker.
///
/// What comes out depends on the level, the block and the bytes before it and
/// on nothing else, so any number of them make the same stream.
///
/// ```
/// use qubes_fsm::format::compression::{
///     Assembly, BlockCompressor, Cutter, Level,
/// };
///
/// let level: Level = "gzip:1".parse().unwrap();
/// let mut cutter = Cutter::new(level);
/// let mut compressor = BlockCompressor::new(level).unwrap();
/// let mut assembly = Assembly::new(level);
/// let mut stream = assembly.start().to_vec();
///
/// let text = b"to be compressed".repeat(100_000);
/// let mut pieces = &text[..];
/// let mut blocks = Vec::new();
/// while let Some(block) = cutter.push(&mut pieces) {
///     blocks.push(block);
/// }
/// blocks.extend(cutter.finish());
/// for block in blocks {
///     let (bytes, before) = (block.bytes(), block.before());
///     let facts = compressor.compress(bytes, before, &mut stream).unwrap();
///     assembly.take(&facts);
/// }
/// stream.extend(assembly.end());
/// assert!(stream.len() < text.len() / 100);
/// ```
pub struct BlockCompressor {
    level: Level,
    encoder: Encoder,
}

enum Encoder {
    None,
    Gzip(Box<Deflater>),
    Bzip2,
    Xz,
    Zstd(Zstd<'static>),
    ZstdSlices(ZstdSlices<'static>),
}

impl BlockCompressor {
    /// An encoder that is used for one block after the other.
    ///
    /// # Errors
    /// With 0 bytes if there is no memory to start.
    pub fn new(level: Level) -> Result<Self, EncodeError> {
        let encoder = Encoder::new(level).map_err(|message| EncodeError {
            filter: level.filter(),
            message,
            bytes: 0,
        })?;
        Ok(Self { level, encoder })
    }

    /// Compresses a block and appends the result to `out`.
    ///
    /// For gzip this is a piece of raw deflate data which begins and ends at a
    /// byte and may refer to the last 32 KiB of `before` (RFC 1951); what
    /// cannot be compressed is stored. For the others it is a whole stream
    /// (bzip2: its magic `BZh`; xz: The .xz File Format, section 2) or frame
    /// (zstd: RFC 8878, section 3.1), which their readers take one behind the
    /// other; `before` is not looked at.
    ///
    /// # Errors
    /// If the encoder fails; then `out` ends with a part of the block.
    pub fn compress(
        &mut self,
        block: &[u8],
        before: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<BlockFacts, EncodeError> {
        self.compress_while(block, before, out, &|| true)
    }

    /// As [`compress`](Self::compress), as long as the block `is_wanted`:
    /// bzip2, xz and zstd from level 13 on, which take many seconds for one,
    /// ask again and again.
    ///
    /// # Errors
    /// As `compress`, and if the block is not wanted any more.
    pub fn compress_while(
        &mut self,
        block: &[u8],
        before: &[u8],
        out: &mut Vec<u8>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<BlockFacts, EncodeError> {
        let level = self.level;
        let done = match &mut self.encoder {
            Encoder::None => {
                out.extend_from_slice(block);
                Ok(Crc::new())
            }
            Encoder::Gzip(deflater) => deflater.block(block, before, out),
            Encoder::Bzip2 => {
                bzip2(level, block, out, is_wanted).map(|()| Crc::new())
            }
            Encoder::Xz => {
                xz(level, block, out, is_wanted).map(|()| Crc::new())
            }
            Encoder::Zstd(encoder) => {
                zstd(encoder, block, out).map(|()| Crc::new())
            }
            Encoder::ZstdSlices(encoder) => {
                zstd_slices(encoder, block, out, is_wanted).map(|()| Crc::new())
            }
        };
        let crc = done.map_err(|message| EncodeError {
            filter: level.filter(),
            message,
            bytes: block.len(),
        })?;
        Ok(BlockFacts { crc })
    }
}

impl fmt::Debug for BlockCompressor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("BlockCompressor")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    fn new(level: Level) -> Result<Self, String> {
        Ok(match level.filter() {
            // No level names lzma: it has no blocks.
            Filter::None | Filter::Lzma => Self::None,
            Filter::Gzip => Self::Gzip(Box::new(Deflater::new(level.number()))),
            Filter::Bzip2 => Self::Bzip2,
            Filter::Xz => Self::Xz,
            Filter::Zstd => {
                let number = level.number().try_into().unwrap_or(i32::MAX);
                let checked = CParameter::ChecksumFlag(true);
                if level.number() > ZSTD_WHOLE_MAX {
                    let mut encoder = ZstdSlices::new(number).map_err(words)?;
                    encoder.set_parameter(checked).map_err(words)?;
                    return Ok(Self::ZstdSlices(encoder));
                }
                let mut encoder = Zstd::new(number).map_err(words)?;
                encoder.set_parameter(checked).map_err(words)?;
                Self::Zstd(encoder)
            }
        })
    }
}

fn bzip2(
    level: Level,
    block: &[u8],
    out: &mut Vec<u8>,
    is_wanted: &dyn Fn() -> bool,
) -> Result<(), String> {
    let mut encoder = Bzip2::new(Compression::new(level.number()), 0);
    let mut left = block;
    while is_wanted() {
        out.reserve(left.len() / 4 + ROOM_BYTES);
        let (next, action) = match left.get(..SLICE_BYTES) {
            Some(next) => (next, Bzip2Action::Run),
            None => (left, Bzip2Action::Finish),
        };
        let before = encoder.total_in();
        let status = encoder
            .compress_vec(next, out, action)
            .map_err(|error| error.to_string())?;
        let taken = (encoder.total_in() - before) as usize;
        left = left.get(taken..).unwrap_or_default();
        if status == bzip2::Status::StreamEnd {
            return Ok(());
        }
    }
    Err(UNWANTED.to_owned())
}

fn xz(
    level: Level,
    block: &[u8],
    out: &mut Vec<u8>,
    is_wanted: &dyn Fn() -> bool,
) -> Result<(), String> {
    // A dictionary larger than the block is memory for nothing, and many
    // files of a backup are small.
    let dictionary = block
        .len()
        .max(XZ_DICTIONARY_BYTES_MIN)
        .min(xz_dictionary_bytes(level.number()));
    let mut options = LzmaOptions::new_preset(level.number())
        .map_err(|error| error.to_string())?;
    options.dict_size(dictionary.try_into().unwrap_or(u32::MAX));
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let mut encoder = Xz::new_stream_encoder(&filters, Check::Crc64)
        .map_err(|error| error.to_string())?;
    let mut left = block;
    while is_wanted() {
        out.reserve(left.len() / 4 + ROOM_BYTES);
        let (next, action) = match left.get(..SLICE_BYTES) {
            Some(next) => (next, Action::Run),
            None => (left, Action::Finish),
        };
        let before = encoder.total_in();
        let status = encoder
            .process_vec(next, out, action)
            .map_err(|error| error.to_string())?;
        let taken = (encoder.total_in() - before) as usize;
        left = left.get(taken..).unwrap_or_default();
        if status == liblzma::stream::Status::StreamEnd {
            return Ok(());
        }
    }
    Err(UNWANTED.to_owned())
}

/// The dictionary of a preset. Source: xz(1), table of the presets.
fn xz_dictionary_bytes(preset: u32) -> usize {
    let kib = match preset {
        0 => 256,
        1 => 1024,
        2 => 2048,
        3 | 4 => 4096,
        5 | 6 => 8192,
        7 => 16_384,
        8 => 32_768,
        _ => 65_536,
    };
    kib * 1024
}

/// The least that the format knows (The .xz File Format, section 5.3.1).
const XZ_DICTIONARY_BYTES_MIN: usize = 4096;

fn zstd(
    encoder: &mut Zstd<'_>,
    block: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let start = out.len();
    out.resize(start + compress_bound(block.len()), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let written = encoder
        .compress_to_buffer(block, room)
        .map_err(|error| error.to_string())?;
    out.truncate(start + written);
    Ok(())
}

fn words(error: impl ToString) -> String {
    error.to_string()
}

/// Up to this level a block takes 2 seconds at most, and in slices it would come
/// out 1 % longer. Measured: at 12 a block took 1.7 s; at 3 and 10 slices came
/// out 1.1 % and 0.9 % longer, at 19 not at all.
const ZSTD_WHOLE_MAX: u32 = 12;

fn zstd_slices(
    encoder: &mut ZstdSlices<'_>,
    block: &[u8],
    out: &mut Vec<u8>,
    is_wanted: &dyn Fn() -> bool,
) -> Result<(), String> {
    encoder.reinit().map_err(words)?;
    // The length is in the frame, and the tables are no larger than it needs.
    encoder.set_pledged_src_size(Some(block.len() as u64)).map_err(words)?;
    let start = out.len();
    out.resize(start + compress_bound(block.len()), 0);
    let mut written = start;
    let mut left = block;
    loop {
        if !is_wanted() {
            out.truncate(written);
            return Err(UNWANTED.to_owned());
        }
        if written == out.len() {
            out.resize(written + ROOM_BYTES, 0);
        }
        let room = out.get_mut(written..).unwrap_or_default();
        let next = left.get(..SLICE_BYTES).unwrap_or(left);
        if next.is_empty() {
            let mut room = OutBuffer::around(room);
            let more = encoder.finish(&mut room, true).map_err(words)?;
            written += room.pos();
            if more == 0 {
                break;
            }
        } else {
            let status = encoder.run_on_buffers(next, room).map_err(words)?;
            written += status.bytes_written;
            left = left.get(status.bytes_read..).unwrap_or_default();
        }
    }
    out.truncate(written);
    Ok(())
}

/// What an encoder is given between two questions.
const SLICE_BYTES: usize = 256 * 1024;
const UNWANTED: &str = "nobody waits for the block any more";

/// Room that an encoder is given at least.
const ROOM_BYTES: usize = 16 * 1024;

/// Makes one stream of blocks: says what comes before and behind them.
#[derive(Debug)]
pub struct Assembly {
    level: Level,
    blocks: u64,
    crc: Crc,
    header: [u8; 10],
}

impl Assembly {
    /// Before the first block.
    #[must_use]
    pub fn new(level: Level) -> Self {
        let header = gzip::header(level.number());
        Self { level, blocks: 0, crc: Crc::new(), header }
    }

    /// The bytes in front of the first block: for gzip the header of the one
    /// member, without a name and a time (RFC 1952, section 2.3).
    #[must_use]
    pub fn start(&self) -> &[u8] {
        match self.level.filter() {
            Filter::Gzip => &self.header,
            Filter::None
            | Filter::Bzip2
            | Filter::Xz
            | Filter::Lzma
            | Filter::Zstd => &[],
        }
    }

    /// Takes what is known of the next block, in the order of the stream.
    pub fn take(&mut self, facts: &BlockFacts) {
        self.blocks += 1;
        self.crc.combine(&facts.crc);
    }

    /// The bytes behind the last block: for gzip the end of deflate, the CRC
    /// of all and the length modulo 2^32 (RFC 1952, section 2.3.1); for the
    /// others, if there was no block, a stream of nothing.
    #[must_use]
    pub fn end(self) -> Vec<u8> {
        match (self.level.filter(), self.blocks) {
            (Filter::Gzip, _) => gzip::trailer(&self.crc),
            (Filter::Bzip2, 0) => EMPTY_BZIP2.to_vec(),
            (Filter::Xz, 0) => EMPTY_XZ.to_vec(),
            (Filter::Zstd, 0) => EMPTY_ZSTD.to_vec(),
            (
                Filter::None
                | Filter::Bzip2
                | Filter::Xz
                | Filter::Lzma
                | Filter::Zstd,
                _,
            ) => Vec::new(),
        }
    }
}

/// `bzip2 </dev/null`: magic, a level that has no meaning here, end, CRC.
const EMPTY_BZIP2: [u8; 14] = *b"BZh9\x17rE8P\x90\0\0\0\0";
/// `xz </dev/null`: header, an index without entries, footer.
const EMPTY_XZ: [u8; 32] = *b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F\0\0\0\0\
    \x1c\xdfD!\x1f\xb6\xf3}\x01\0\0\0\0\x04YZ";
/// `zstd </dev/null`: header, an empty last block, checksum.
const EMPTY_ZSTD: [u8; 13] = *b"\x28\xb5\x2f\xfd\x24\0\x01\0\0\x99\xe9\xd8\x51";
