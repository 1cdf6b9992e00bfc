//! Filters of format 3: what `compression-filter` names.
//!
//! Lives here: the filters and their names. May not live here: how they are
//! read (`decompress`) and written (`compress`).

use core::fmt;

use super::escape::Escaped;

mod compress;
mod cut;
mod decompress;
mod gzip;
mod level;
mod probe;

pub use compress::{Assembly, BlockCompressor, BlockFacts, EncodeError};
pub use cut::{Block, Cutter};
pub use decompress::{Decompressor, PIECE_BYTES, PushError};
pub use level::{Level, LevelError};

/// A filter that is built in.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Filter {
    /// No compression at all.
    None,
    /// `gzip`, and `pigz`, which writes the same format.
    Gzip,
    /// `bzip2`, and `pbzip2`, which writes several members.
    Bzip2,
    /// `xz`.
    Xz,
    /// `lzma`: the format before xz, without a checksum.
    Lzma,
    /// `zstd`, and `zstdmt`.
    Zstd,
}

/// Why compressed bytes were refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// No built-in filter has that name.
    #[error(
        "compression filter \"{}\"; wanted gzip, pigz, bzip2, pbzip2, xz, \
         lzma, zstd or zstdmt",
        Escaped(name)
    )]
    UnknownFilter {
        /// The name, as the header has it.
        name: Vec<u8>,
    },
    /// The decoder found the bytes wrong.
    #[error("{filter} stream: byte {offset}: {message}; wanted {filter} data")]
    Corrupt {
        /// Which decoder.
        filter: Filter,
        /// Bytes of the stream before the piece that was refused.
        offset: u64,
        /// The decoder's own words.
        message: String,
    },
    /// The stream asks for more memory than any writer makes it ask for.
    #[error(
        "{filter} stream: byte {offset}: it asks for more than {limit} bytes \
         of memory; wanted at most so many"
    )]
    Memory {
        /// Which decoder.
        filter: Filter,
        /// Bytes of the stream before the piece that was refused.
        offset: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes end before the stream does.
    #[error("{filter} stream: ends after {offset} bytes; wanted its end mark")]
    Truncated {
        /// Which decoder.
        filter: Filter,
        /// How many bytes there were.
        offset: u64,
    },
}

impl Filter {
    /// The filter that a header names; compared exactly, as programs are.
    ///
    /// Source: `compression-filter` in the header; names that readers accept.
    ///
    /// # Errors
    /// `UnknownFilter`.
    //= spec/format3.md#names-of-filters
    pub fn by_name(untrusted_name: &[u8]) -> Result<Self, CompressionError> {
        match untrusted_name {
            b"gzip" | b"pigz" => Ok(Self::Gzip),
            b"bzip2" | b"pbzip2" => Ok(Self::Bzip2),
            b"xz" => Ok(Self::Xz),
            b"lzma" => Ok(Self::Lzma),
            b"zstd" | b"zstdmt" => Ok(Self::Zstd),
            _ => {
                let name = untrusted_name.to_vec();
                Err(CompressionError::UnknownFilter { name })
            }
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Zstd => "zstd",
        })
    }
}
