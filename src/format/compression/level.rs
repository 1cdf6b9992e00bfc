//! What to write with: `FILTER[:LEVEL]`.
//!
//! Lives here: which levels each filter has, and how large its blocks are. May
//! not live here: what an encoder does with them.

use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;

use super::super::quote::Quoted;
use super::Filter;

/// A filter to write with, and how hard it tries.
///
/// ```
/// use qubes_fsm::format::compression::{Filter, Level};
///
/// let level: Level = "gzip".parse().unwrap();
/// assert_eq!((level.filter(), level.number()), (Filter::Gzip, 6));
/// assert_eq!(
///     "xz:12".parse::<Level>().unwrap_err().to_string(),
///     "compression xz: level \"12\"; wanted a number from 0 to 9"
/// );
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Level {
    filter: Filter,
    number: u32,
}

/// Why a `FILTER[:LEVEL]` was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LevelError {
    /// Nothing built in writes that.
    #[error(
        "compression {}; wanted gzip, bzip2, xz, zstd or none",
        Quoted(name.as_bytes())
    )]
    UnknownFilter {
        /// What was asked for.
        name: String,
    },
    /// The filter has no such level.
    #[error(
        "compression {filter}: level {}; wanted a number from {least} to \
         {most}",
        Quoted(level.as_bytes())
    )]
    OutOfRange {
        /// The filter.
        filter: Filter,
        /// What was asked for.
        level: String,
        /// The least level there is.
        least: u32,
        /// The highest level there is.
        most: u32,
    },
    /// What does not compress has no levels.
    #[error(
        "compression none: level {}; wanted no level",
        Quoted(level.as_bytes())
    )]
    NoLevels {
        /// What was asked for.
        level: String,
    },
}

impl Level {
    /// Bytes are passed on as they are.
    pub const NONE: Self = Self { filter: Filter::None, number: 0 };

    /// The filter.
    #[must_use]
    pub fn filter(self) -> Filter {
        self.filter
    }

    /// The level; 0 where there is none.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    /// Bytes of the input that are compressed together, apart from the rest.
    ///
    /// A worker holds as much, what comes out of it and its encoder: together
    /// 1 MiB for gzip, 15 for bzip2, 20 to 110 for zstd; for xz 130 by preset
    /// 6, but 800 by preset 9.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        // Chosen on 32 MiB of a disk image. With twice as much a stream was
        // smaller by: gzip 0.0 %, bzip2 0.2 %, zstd 0.3 % to 1 %, xz 0.4 %.
        match self.filter {
            Filter::None | Filter::Gzip | Filter::Lzma => 256 * KIB,
            // Four blocks of the format, each 20 bytes short: what did not
            // fit would be a fifth.
            Filter::Bzip2 => (self.number as usize * 100_000 - 20) * 4,
            // No less than the dictionary, and twice of it while that is
            // cheap: the encoder has about twelve times the dictionary.
            Filter::Xz => match self.number {
                0 => MIB,
                1 | 2 => 4 * MIB,
                3 | 4 => 8 * MIB,
                5..=7 => 16 * MIB,
                8 => 32 * MIB,
                _ => 64 * MIB,
            },
            Filter::Zstd => match self.number {
                ..=9 => 4 * MIB,
                _ => 16 * MIB,
            },
        }
    }
}

impl FromStr for Level {
    type Err = LevelError;

    /// Reads `FILTER[:LEVEL]` as the command line takes it.
    ///
    /// Only what can be written in blocks has a name here: `lzma` cannot be,
    /// and `pigz`, `pbzip2` and `zstdmt` are programs, not formats. Without a
    /// level it is that of the program: `gzip:6`, `bzip2:9`, `xz:6`, `zstd:3`.
    fn from_str(text: &str) -> Result<Self, LevelError> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let (filter, range, usual) = match name {
            "none" => {
                return match level {
                    None => Ok(Self::NONE),
                    Some(level) => {
                        Err(LevelError::NoLevels { level: level.to_owned() })
                    }
                };
            }
            "gzip" => (Filter::Gzip, 1..=9, 6),
            "bzip2" => (Filter::Bzip2, 1..=9, 9),
            "xz" => (Filter::Xz, 0..=9, 6),
            // Above 19 a reader may refuse the window: zstd wants `--ultra`.
            "zstd" => (Filter::Zstd, 1..=19, 3),
            _ => {
                let name = name.to_owned();
                return Err(LevelError::UnknownFilter { name });
            }
        };
        let number = match level {
            None => usual,
            Some(level) => number(filter, level, range)?,
        };
        Ok(Self { filter, number })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.filter {
            Filter::None => out.write_str("none"),
            filter @ (Filter::Gzip
            | Filter::Bzip2
            | Filter::Xz
            | Filter::Lzma
            | Filter::Zstd) => write!(out, "{filter}:{}", self.number),
        }
    }
}

/// A level in the one way that it is written.
fn number(
    filter: Filter,
    level: &str,
    range: RangeInclusive<u32>,
) -> Result<u32, LevelError> {
    let parsed = level.parse::<u32>().ok();
    let canonical = parsed.filter(|number| number.to_string() == level);
    canonical.filter(|number| range.contains(number)).ok_or_else(|| {
        let (least, most) = range.into_inner();
        let level = level.to_owned();
        LevelError::OutOfRange { filter, level, least, most }
    })
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
