//! Filters read: one stream decoded as its bytes come.
//!
//! Lives here: one push decoder for all filters, how several members of one
//! stream follow each other, and what is refused. May not live here: threads,
//! child processes, or what the decoded bytes mean.

use core::fmt;

use bzip2::Decompress as Bzip2;
use flate2::{Decompress as Gzip, FlushDecompress};
use liblzma::stream::{Action, Error as XzError, Stream as Xz};
use zstd::stream::raw::{Decoder as Zstd, Operation as _};

use super::{CompressionError, Filter};

/// The failure of a push: of the stream, or of whoever takes what comes out.
#[derive(Debug)]
pub enum PushError<E> {
    /// The stream is wrong.
    Stream(CompressionError),
    /// The sink refused decoded bytes.
    Sink(E),
}

/// Decodes one stream; input comes in pieces of any size.
///
/// Output goes to a sink in pieces of at most [`PIECE_BYTES`], so that little
/// input cannot ask for much memory: whoever counts the output can refuse it.
///
/// ```
/// use qubes_fsm::format::compression::{Decompressor, Filter};
///
/// // `printf hello | gzip -n | od -An -tx1`
/// let stream = [
///     0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7,
///     0, 0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0,
/// ];
/// let mut text: Vec<u8> = Vec::new();
/// let mut decoder = Decompressor::new(Filter::Gzip).unwrap();
/// for byte in stream {
///     let sink = &mut |piece: &[u8]| Ok::<_, ()>(text.extend(piece));
///     decoder.push(&[byte], sink).unwrap();
/// }
/// decoder.finish().unwrap();
/// assert_eq!(text, b"hello");
/// ```
pub struct Decompressor {
    filter: Filter,
    decoder: Decoder,
    /// Inside a member: its end is still to come.
    inside: bool,
    /// Members that have ended.
    members: u64,
    /// Zeros were seen behind a member: nothing else may follow.
    padding: bool,
    offset: u64,
    buffer: Vec<u8>,
}

/// Bytes that a sink gets at most at a time.
pub const PIECE_BYTES: usize = 64 * 1024;

/// Memory that an xz or zstd stream may ask for: `xz -9` asks for 65 MiB,
/// `zstd --ultra -22` for 128 MiB.
const MEMORY_BYTES_MAX: u64 = 160 * 1024 * 1024;
/// The same for zstd, as the logarithm of its window: `zstd --long` has 27.
const WINDOW_LOG_MAX: u32 = 27;

enum Decoder {
    None,
    Gzip(Gzip),
    Bzip2(Bzip2),
    Xz(Xz),
    Zstd(Zstd<'static>),
}

/// Why a decoder does not go on.
enum Stuck {
    /// The bytes are wrong, in its own words.
    Corrupt(String),
    /// It may not have the memory that it needs.
    Memory(u64),
}

/// What one call of a decoder did.
struct Done {
    consumed: usize,
    produced: usize,
    ended: bool,
}

impl Decompressor {
    /// A decoder at the start of a stream.
    ///
    /// # Errors
    /// `Corrupt` with offset 0 if the decoder has no memory to start.
    pub fn new(filter: Filter) -> Result<Self, CompressionError> {
        let decoder = Decoder::new(filter).map_err(|message| {
            CompressionError::Corrupt { filter, offset: 0, message }
        })?;
        Ok(Self {
            filter,
            decoder,
            inside: false,
            members: 0,
            padding: false,
            offset: 0,
            buffer: vec![0; PIECE_BYTES],
        })
    }

    /// Takes a piece of the stream and gives what comes out of it to `sink`.
    ///
    /// # Errors
    /// `Stream` with what the decoder says, or `Sink` with what the sink says.
    /// After an error the decoder is of no further use.
    pub fn push<E>(
        &mut self,
        untrusted_bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), PushError<E>> {
        if let Decoder::None = self.decoder {
            self.offset += untrusted_bytes.len() as u64;
            let mut pieces = untrusted_bytes.chunks(PIECE_BYTES);
            return pieces.try_for_each(sink).map_err(PushError::Sink);
        }
        let mut left = untrusted_bytes;
        // A full buffer may have more behind it, even without input.
        let mut full = false;
        while !left.is_empty() || full {
            if !self.inside && !left.is_empty() {
                left = self.skip_zeros(left).map_err(PushError::Stream)?;
                if left.is_empty() {
                    break;
                }
                self.begin().map_err(PushError::Stream)?;
            }
            let done = self
                .decoder
                .step(left, &mut self.buffer)
                .map_err(|stuck| self.refusal(stuck))
                .map_err(PushError::Stream)?;
            left = left.get(done.consumed..).unwrap_or_default();
            self.offset += done.consumed as u64;
            let piece = self.buffer.get(..done.produced).unwrap_or_default();
            if !piece.is_empty() {
                sink(piece).map_err(PushError::Sink)?;
            }
            full = done.produced == self.buffer.len();
            if done.ended {
                self.inside = false;
                self.members += 1;
                full = false;
            } else if done.consumed == 0 && done.produced == 0 && !full {
                // No decoder does this with input left: it would never end.
                if !left.is_empty() {
                    let message = "the decoder does not go on".to_owned();
                    return Err(PushError::Stream(self.corrupt(message)));
                }
            }
        }
        Ok(())
    }

    /// Says that the stream is over.
    ///
    /// # Errors
    /// `Truncated` inside a member, or without any.
    pub fn finish(self) -> Result<(), CompressionError> {
        let whole = !self.inside && self.members > 0;
        if whole || self.filter == Filter::None {
            return Ok(());
        }
        let Self { filter, offset, .. } = self;
        Err(CompressionError::Truncated { filter, offset })
    }

    /// Passes over zeros behind a member. tar fills up the output of its
    /// compressor when it writes to a named pipe, as the old writers did; no
    /// member of any format begins with a zero but lzma's, which stands alone.
    //= spec/format3.md#ends-of-a-compressed-stream
    fn skip_zeros<'b>(
        &mut self,
        untrusted_bytes: &'b [u8],
    ) -> Result<&'b [u8], CompressionError> {
        if self.members == 0 {
            return Ok(untrusted_bytes);
        }
        let zeros = untrusted_bytes.iter().take_while(|byte| **byte == 0);
        let zeros = zeros.count();
        self.padding |= zeros > 0;
        self.offset += zeros as u64;
        let rest = untrusted_bytes.get(zeros..).unwrap_or_default();
        if self.padding && !rest.is_empty() {
            let message = "bytes behind the zeros after its end".to_owned();
            return Err(self.corrupt(message));
        }
        Ok(rest)
    }

    /// Starts the next member: a stream may be several, one behind the other.
    /// Anything else behind a member, but zeros up to the end, is refused by
    /// the decoder of the next.
    fn begin(&mut self) -> Result<(), CompressionError> {
        if self.members > 0 {
            // The old format has neither several members nor an end to trust.
            if self.filter == Filter::Lzma {
                let message = "bytes after the end of the stream".to_owned();
                return Err(self.corrupt(message));
            }
            self.decoder = Decoder::new(self.filter)
                .map_err(|message| self.corrupt(message))?;
        }
        self.inside = true;
        Ok(())
    }

    fn corrupt(&self, message: String) -> CompressionError {
        self.refusal(Stuck::Corrupt(message))
    }

    fn refusal(&self, stuck: Stuck) -> CompressionError {
        let Self { filter, offset, .. } = *self;
        match stuck {
            Stuck::Corrupt(message) => {
                CompressionError::Corrupt { filter, offset, message }
            }
            Stuck::Memory(limit) => {
                CompressionError::Memory { filter, offset, limit }
            }
        }
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Decompressor")
            .field("filter", &self.filter)
            .field("inside", &self.inside)
            .field("members", &self.members)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    fn new(filter: Filter) -> Result<Self, String> {
        Ok(match filter {
            Filter::None => Self::None,
            Filter::Gzip => Self::Gzip(Gzip::new_gzip(15)),
            Filter::Bzip2 => Self::Bzip2(Bzip2::new(false)),
            Filter::Xz => Self::Xz(
                Xz::new_stream_decoder(MEMORY_BYTES_MAX, 0)
                    .map_err(|error| error.to_string())?,
            ),
            Filter::Lzma => Self::Xz(
                Xz::new_lzma_decoder(MEMORY_BYTES_MAX)
                    .map_err(|error| error.to_string())?,
            ),
            Filter::Zstd => {
                let mut decoder =
                    Zstd::new().map_err(|error| error.to_string())?;
                decoder
                    .set_parameter(zstd::stream::raw::DParameter::WindowLogMax(
                        WINDOW_LOG_MAX,
                    ))
                    .map_err(|error| error.to_string())?;
                Self::Zstd(decoder)
            }
        })
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Done, Stuck> {
        match self {
            // Handled before: nothing to decode.
            Self::None => {
                Ok(Done { consumed: input.len(), produced: 0, ended: false })
            }
            Self::Gzip(decoder) => {
                let before = (decoder.total_in(), decoder.total_out());
                let status = decoder
                    .decompress(input, output, FlushDecompress::None)
                    .map_err(|error| Stuck::Corrupt(error.to_string()))?;
                Ok(Done {
                    consumed: (decoder.total_in() - before.0) as usize,
                    produced: (decoder.total_out() - before.1) as usize,
                    ended: status == flate2::Status::StreamEnd,
                })
            }
            Self::Bzip2(decoder) => {
                let before = (decoder.total_in(), decoder.total_out());
                let status = decoder
                    .decompress(input, output)
                    .map_err(|error| Stuck::Corrupt(error.to_string()))?;
                Ok(Done {
                    consumed: (decoder.total_in() - before.0) as usize,
                    produced: (decoder.total_out() - before.1) as usize,
                    ended: status == bzip2::Status::StreamEnd,
                })
            }
            Self::Xz(decoder) => {
                let before = (decoder.total_in(), decoder.total_out());
                let status = decoder
                    .process(input, output, Action::Run)
                    .map_err(|error| match error {
                        XzError::MemLimit => Stuck::Memory(MEMORY_BYTES_MAX),
                        XzError::Data
                        | XzError::Options
                        | XzError::Format
                        | XzError::Mem
                        | XzError::Program
                        | XzError::NoCheck
                        | XzError::UnsupportedCheck => {
                            Stuck::Corrupt(error.to_string())
                        }
                    })?;
                Ok(Done {
                    consumed: (decoder.total_in() - before.0) as usize,
                    produced: (decoder.total_out() - before.1) as usize,
                    ended: status == liblzma::stream::Status::StreamEnd,
                })
            }
            Self::Zstd(decoder) => {
                let status =
                    decoder.run_on_buffers(input, output).map_err(|error| {
                        let message = error.to_string();
                        // The text is all that comes of its code.
                        if message == window_too_large() {
                            Stuck::Memory(1 << WINDOW_LOG_MAX)
                        } else {
                            Stuck::Corrupt(message)
                        }
                    })?;
                Ok(Done {
                    consumed: status.bytes_read,
                    produced: status.bytes_written,
                    // Nothing is wanted any more: the frame is complete.
                    ended: status.remaining == 0,
                })
            }
        }
    }
}

/// What the decoder of zstd says of a window above its limit.
fn window_too_large() -> &'static str {
    use zstd::zstd_safe::{get_error_name, zstd_sys::ZSTD_ErrorCode};
    let code = ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge;
    // A code of error is returned as the size that it is negative of.
    get_error_name((code as usize).wrapping_neg())
}
