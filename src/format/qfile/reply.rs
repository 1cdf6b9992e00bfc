//! What the receiver of a qfile stream answers.
//!
//! Lives here: the bytes of a reply, both ways, and its codes. May not live
//! here: when one is sent.

use crate::format::escape::Escaped;

use super::NAME_BYTES_MAX;

/// A reply: 16 bytes, and perhaps the name of the last entry.
///
/// ```
/// use qubes_fsm::format::qfile::{Code, Reply, ReplyDecoder};
/// let reply = Reply {
///     code: Code::TooMuch.number(),
///     crc: 0x190a_55ad,
///     last: Some(b"qubes.xml.000.hmac".to_vec()),
/// };
/// let mut decoder = ReplyDecoder::default();
/// for piece in reply.to_bytes().chunks(3) {
///     decoder.push(piece)?;
/// }
/// assert_eq!(decoder.finish()?, reply);
/// # Ok::<(), qubes_fsm::format::qfile::ReplyError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reply {
    /// 0, or why the receiver refused: see [`errno`](Self::errno).
    pub code: u32,
    /// The checksum of all bytes that the receiver took.
    pub crc: u64,
    /// The name of the last entry; old receivers do not say it.
    pub last: Option<Vec<u8>>,
}

/// What a receiver of ours says; senders know these numbers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Code {
    /// Everything was taken.
    Done,
    /// `EIO`: any other reason.
    Other,
    /// `EINVAL`: senders say "corrupted data".
    Corrupt,
    /// `ENOSPC`.
    NoSpace,
    /// `ENAMETOOLONG`.
    TooLong,
    /// `EILSEQ`: a name that is refused.
    Name,
    /// `EDQUOT`: over a limit, or more than is wanted. The sender of a backup
    /// takes it for the end, since only the beginning may be asked for.
    TooMuch,
    /// `ECANCELED`.
    Canceled,
    /// The stream was over before its end: the sender knows why.
    /// Source: `LEGAL_EOF` of `libqubes-rpc-filecopy.h`.
    Cut,
}

impl Code {
    /// Its number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Done => 0,
            Self::Other => 5,
            Self::Corrupt => 22,
            Self::NoSpace => 28,
            Self::TooLong => 36,
            Self::Name => 84,
            Self::TooMuch => 122,
            Self::Canceled => 125,
            Self::Cut => 31_415_926,
        }
    }
}

impl Reply {
    /// Why it was refused, 0 if it was not.
    ///
    /// A receiver of Qubes sends that of a directory's name as a negative
    /// number.
    ///
    /// ```
    /// use qubes_fsm::format::qfile::Reply;
    /// let reply = Reply { code: (-84_i32) as u32, crc: 0, last: None };
    /// assert_eq!(reply.errno(), 84);
    /// ```
    pub fn errno(&self) -> u32 {
        self.code.cast_signed().unsigned_abs()
    }

    /// The bytes to send.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(REPLY_BYTES);
        bytes.extend(self.code.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.crc.to_le_bytes());
        let last = self.last.as_ref();
        // No decoder gives a longer name.
        if let Some((length, last)) =
            last.and_then(|last| Some((u32::try_from(last.len()).ok()?, last)))
        {
            bytes.extend(length.to_le_bytes());
            bytes.extend(last);
        }
        bytes
    }
}

/// Decodes a reply, pushed in pieces of any size.
///
/// Only the end of the input says whether a name follows.
#[derive(Clone, Debug, Default)]
pub struct ReplyDecoder {
    bytes: Vec<u8>,
}

impl ReplyDecoder {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// `TooLong` where no reply has more.
    pub fn push(&mut self, untrusted_bytes: &[u8]) -> Result<(), ReplyError> {
        let found = self.bytes.len().saturating_add(untrusted_bytes.len());
        if found > REPLY_BYTES_MAX {
            let limit = REPLY_BYTES_MAX;
            return Err(ReplyError::TooLong { found, limit });
        }
        self.bytes.extend(untrusted_bytes);
        Ok(())
    }

    /// The input is over: what it said.
    ///
    /// # Errors
    /// `Truncated`, `Padding` or `Behind`.
    pub fn finish(self) -> Result<Reply, ReplyError> {
        let found = self.bytes.len();
        let cut = |wanted| ReplyError::Truncated { found, wanted };
        let rest = self.bytes.as_slice();
        let (code, rest) = field::<4>(rest).ok_or(cut(REPLY_BYTES))?;
        let (padding, rest) = field::<4>(rest).ok_or(cut(REPLY_BYTES))?;
        let (crc, rest) = field::<8>(rest).ok_or(cut(REPLY_BYTES))?;
        if padding != [0; 4] {
            let found = u32::from_le_bytes(padding);
            return Err(ReplyError::Padding { found });
        }
        let last = if rest.is_empty() {
            None
        } else {
            let wanted = REPLY_BYTES + 4;
            let (length, name) = field::<4>(rest).ok_or(cut(wanted))?;
            let length = u32::from_le_bytes(length) as usize;
            let wanted = wanted.saturating_add(length);
            if name.len() > length {
                return Err(ReplyError::Behind { found, wanted });
            }
            if name.len() < length {
                return Err(cut(wanted));
            }
            Some(name.to_vec())
        };
        let (code, crc) = (u32::from_le_bytes(code), u64::from_le_bytes(crc));
        Ok(Reply { code, crc, last })
    }
}

const REPLY_BYTES: usize = 16;
/// With a name and its length.
const REPLY_BYTES_MAX: usize = REPLY_BYTES + 4 + NAME_BYTES_MAX as usize;

fn field<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk().map(|(field, rest)| (*field, rest))
}

/// Why a reply is none, or does not say that everything was taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// It ends too early.
    #[error("qfile reply: {found} bytes, at least {wanted} expected")]
    Truncated {
        /// Its length.
        found: usize,
        /// What it should have at least.
        wanted: usize,
    },
    /// It goes on too long.
    #[error("qfile reply: {found} bytes or more, at most {limit} allowed")]
    TooLong {
        /// What there is so far.
        found: usize,
        /// With the longest name.
        limit: usize,
    },
    /// Something stands behind the name.
    #[error("qfile reply: {found} bytes, expected {wanted} with the name")]
    Behind {
        /// Its length.
        found: usize,
        /// What it should have.
        wanted: usize,
    },
    /// Bytes that are always zero are not.
    #[error("qfile reply: {found:#x} behind the code, expected 0")]
    Padding {
        /// What stands there.
        found: u32,
    },
    /// Success, before all was sent.
    #[error("qfile reply: success after {sent} bytes, expected it at the end")]
    Early {
        /// What was sent so far.
        sent: u64,
    },
    /// Something else arrived than was sent.
    #[error("qfile reply: checksum {found:#010x}, expected {wanted:#010x}")]
    Crc {
        /// That of the receiver.
        found: u64,
        /// That of what was sent.
        wanted: u64,
    },
    /// The receiver saw the stream end before its end.
    #[error("qfile reply: the stream was cut off, expected its end")]
    Cut,
    /// The receiver gives a reason of its own.
    #[error(
        "qfile reply: error {errno}, last file \"{}\", expected 0",
        Escaped(last.as_deref().unwrap_or(b"?"))
    )]
    Refused {
        /// Its number.
        errno: u32,
        /// The last file, if it was said.
        last: Option<Box<[u8]>>,
    },
}
