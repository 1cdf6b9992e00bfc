//! The outer archive as a row of members, as tar or as qfile.
//!
//! Lives here: reading, how large a member may be, how its data comes into
//! memory and what its code is. May not live here: what a member is for, when
//! it is read.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::refusal::ReadError;
use crate::format::chunk;
use crate::format::escape::Escaped;
use crate::format::hmac::{Digest, Guess, Mac, MacText, MacValue};
use crate::format::limits::{
    HEADER_BYTES_MAX, MAC_TEXT_BYTES_MAX, OUTER_NAME_BYTES_MAX,
};
use crate::format::{qfile, tar};
use crate::fsm::cancel::Gate;

/// Bytes of one chunk; writers cut at 104,857,600.
pub const CHUNK_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The header of a member: its data stands next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) name: Vec<u8>,
    /// Bytes of data, within the limit of such a name.
    pub(super) size: u64,
}

/// The data of a member, in pieces; their memory is used again for another.
///
/// A large member in one piece would be copied as it grows, and a size is only
/// a claim until the data is there.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Of [`PIECE_BYTES`] each; as many as the largest member needed.
    pieces: Vec<Vec<u8>>,
    used: usize,
}

/// What the bytes of a source are.
#[derive(Debug)]
enum Outer {
    /// The archive itself.
    Tar(Box<tar::Decoder>),
    /// What another qube sends of it: one file per member.
    Qfile(qfile::Decoder),
}

/// What stands next in it.
enum Next {
    Head(Head),
    /// Nothing that anybody wants.
    Other,
    /// More bytes must come.
    Dry,
    /// The end, though the source may not be over.
    End,
}

/// A source of members.
pub(super) struct Members<R> {
    source: R,
    outer: Outer,
    buffer: Vec<u8>,
    /// What of the buffer was not taken yet.
    pending: Range<usize>,
    /// Bytes of the archive that were taken.
    offset: Arc<AtomicU64>,
    gate: Arc<Mutex<Gate>>,
}

/// Bytes that are read at a time where headers are.
const BUFFER_BYTES: usize = 16 * 1024;
/// Bytes of data that are read at a time: a cancel waits for no more. Small,
/// since a member of some bytes has one too.
pub(super) const PIECE_BYTES: usize = 256 * 1024;

impl Outer {
    fn tar() -> Self {
        Self::Tar(Box::new(tar::Decoder::outer(tar::Limits::OUTER)))
    }

    /// Takes bytes up to what stands next; how many, and what it is.
    fn push(&mut self, input: &[u8]) -> Result<(usize, Next), ReadError> {
        let (taken, head) = match self {
            Self::Tar(tar) => match tar.push(input)? {
                (taken, Some(tar::Event::Entry(entry))) => {
                    (taken, Head { name: entry.path, size: entry.size })
                }
                (taken, Some(_)) => return Ok((taken, Next::Other)),
                (taken, None) => return Ok((taken, Next::Dry)),
            },
            Self::Qfile(qfile) => match qfile.push(input)? {
                (taken, Some(qfile::Event::Entry(entry)))
                    if entry.kind == qfile::Kind::File =>
                {
                    (taken, Head { name: entry.name, size: entry.size })
                }
                (taken, Some(qfile::Event::End)) => {
                    return Ok((taken, Next::End));
                }
                // Directories are invented by the sender.
                (taken, Some(_)) => return Ok((taken, Next::Other)),
                (taken, None) => return Ok((taken, Next::Dry)),
            },
        };
        let (limit, found) = (limit_of(&head.name), head.size);
        if found > limit {
            let name = Escaped(&head.name).to_string();
            return Err(ReadError::TooLarge { name, found, limit });
        }
        Ok((taken, Next::Head(head)))
    }

    fn data_left(&self) -> u64 {
        match self {
            Self::Tar(tar) => tar.data_left(),
            Self::Qfile(qfile) => qfile.data_left(),
        }
    }

    /// Data that somebody keeps.
    fn pass(&mut self, data: &[u8]) -> u64 {
        match self {
            Self::Tar(tar) => tar.pass(data.len() as u64),
            Self::Qfile(qfile) => qfile.pass(data) as u64,
        }
    }

    /// The source is over: is the archive?
    fn finish(&mut self) -> Result<(), ReadError> {
        match self {
            Self::Tar(tar) => {
                let next = tar::Decoder::outer(tar::Limits::OUTER);
                Ok(std::mem::replace(&mut **tar, next).finish()?)
            }
            Self::Qfile(qfile) => Ok(qfile.finish()?),
        }
    }
}

impl<R: Read> Members<R> {
    pub(super) fn new(source: R, gate: Arc<Mutex<Gate>>) -> Self {
        Self::of(source, Outer::tar(), gate)
    }

    /// Of what another qube sends.
    pub(super) fn of_qfile(
        source: R,
        limits: qfile::Limits,
        gate: Arc<Mutex<Gate>>,
    ) -> Self {
        let limits = qfile::Limits {
            // With its NUL.
            name_bytes_max: OUTER_NAME_BYTES_MAX as u64 + 1,
            links: false,
            ..limits
        };
        let qfile = qfile::Decoder::new(limits);
        Self::of(source, Outer::Qfile(qfile), gate)
    }

    fn of(source: R, outer: Outer, gate: Arc<Mutex<Gate>>) -> Self {
        Self {
            source,
            outer,
            buffer: vec![0; BUFFER_BYTES],
            pending: 0..0,
            offset: Arc::default(),
            gate,
        }
    }

    /// Bytes of the archive that were taken so far, for whoever shows them.
    pub(super) fn offset(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.offset)
    }

    pub(super) fn taken(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// The header of the next member; `None` at the end of a whole archive.
    /// What is left of the data before it is read over.
    pub(super) fn head(&mut self) -> Result<Option<Head>, ReadError> {
        loop {
            let input =
                self.buffer.get(self.pending.clone()).unwrap_or_default();
            let is_dry = input.is_empty();
            let (taken, next) = self.outer.push(input)?;
            self.pending.start += taken;
            self.offset.fetch_add(taken as u64, Ordering::Relaxed);
            match next {
                Next::Head(head) => return Ok(Some(head)),
                // Whoever sends a qfile waits for a reply now: reading on
                // would be waiting for each other.
                Next::End => {
                    self.behind()?;
                    return Ok(None);
                }
                Next::Dry if is_dry && self.fill()? == 0 => {
                    self.outer.finish()?;
                    return Ok(None);
                }
                Next::Other | Next::Dry => {}
            }
        }
    }

    /// What was read behind the end.
    fn behind(&mut self) -> Result<(), ReadError> {
        let input = self.buffer.get(self.pending.clone()).unwrap_or_default();
        self.outer.push(input)?;
        Ok(())
    }

    /// What to answer whoever sends a qfile, but for the code; and whether it
    /// has sent everything.
    pub(super) fn received(&self) -> Option<(qfile::Reply, bool)> {
        let Outer::Qfile(qfile) = &self.outer else { return None };
        let last = Some(qfile.last().to_vec()).filter(|name| !name.is_empty());
        let crc = u64::from(qfile.crc());
        let code = qfile::Code::Other.number();
        Some((qfile::Reply { code, crc, last }, qfile.is_ended()))
    }

    /// Reads the data of the member whose header came last into `block`.
    pub(super) fn data(&mut self, block: &mut Block) -> Result<(), ReadError> {
        block.used = 0;
        loop {
            match self.outer.data_left() {
                0 => return Ok(()),
                left => block.used += self.some(block.room(left))?,
            }
        }
    }

    /// As [`data`](Self::data), for a member that is small.
    pub(super) fn text(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut text = Vec::new();
        let mut room = [0; MAC_TEXT_BYTES_MAX];
        loop {
            let left = self.outer.data_left().min(room.len() as u64) as usize;
            let room = room.get_mut(..left).unwrap_or_default();
            if room.is_empty() {
                return Ok(text);
            }
            let count = self.some(room)?;
            text.extend_from_slice(room.get(..count).unwrap_or_default());
        }
    }

    /// Reads some data of that member, at most what is left of it.
    fn some(&mut self, room: &mut [u8]) -> Result<usize, ReadError> {
        let ready = self.buffer.get(self.pending.clone()).unwrap_or_default();
        let count = if ready.is_empty() {
            let read = read(&mut self.source, room, &self.gate);
            read.map_err(|cause| self.failed(cause))?
        } else {
            let count = ready.len().min(room.len());
            let (from, to) = (ready.get(..count), room.get_mut(..count));
            if let (Some(from), Some(to)) = (from, to) {
                to.copy_from_slice(from);
            }
            self.pending.start += count;
            count
        };
        if count == 0 {
            // Data is missing, so this is an error.
            self.outer.finish()?;
        }
        let passed = self.outer.pass(room.get(..count).unwrap_or_default());
        self.offset.fetch_add(passed, Ordering::Relaxed);
        Ok(count)
    }

    fn fill(&mut self) -> Result<usize, ReadError> {
        // Zeros may stand between members without an end.
        if self.gate.lock().is_canceled() {
            return Err(ReadError::Canceled);
        }
        let read = read(&mut self.source, &mut self.buffer, &self.gate);
        let count = read.map_err(|cause| self.failed(cause))?;
        self.pending = 0..count;
        Ok(count)
    }

    fn failed(&self, cause: std::io::Error) -> ReadError {
        if cause.kind() == ErrorKind::Interrupted {
            return ReadError::Canceled;
        }
        let offset = self.offset.load(Ordering::Relaxed);
        ReadError::Io { offset, cause }
    }
}

impl<R: Read + Seek> Members<R> {
    /// Where the data of the member stands whose header came last.
    pub(super) fn position(&mut self) -> Result<u64, ReadError> {
        let ahead = self.pending.len() as u64;
        let at = self.source.stream_position();
        Ok(at.map_err(|cause| self.failed(cause))?.saturating_sub(ahead))
    }

    /// Passes over the data of that member without reading it; the source
    /// has so many bytes in all.
    pub(super) fn pass(&mut self, length: u64) -> Result<(), ReadError> {
        let buffered = self.pending.len() as u64;
        let left = self.outer.data_left();
        let at = self.position()?;
        let passed = left.min(length.saturating_sub(at));
        let Outer::Tar(tar) = &mut self.outer else { return Ok(()) };
        let passed = tar.pass(passed);
        if passed <= buffered {
            self.pending.start += passed as usize;
        } else {
            self.pending = 0..0;
            let to = SeekFrom::Start(at.saturating_add(passed));
            let to = self.source.seek(to);
            to.map_err(|cause| self.failed(cause))?;
        }
        self.offset.fetch_add(passed, Ordering::Relaxed);
        Ok(())
    }
}

impl Block {
    /// Room for some of the `left` bytes that are still to come.
    fn room(&mut self, left: u64) -> &mut [u8] {
        let (at, start) = (self.used / PIECE_BYTES, self.used % PIECE_BYTES);
        if at >= self.pieces.len() {
            // Memory that is set to zero by whoever gives it, when it is used.
            self.pieces.push(vec![0; PIECE_BYTES]);
        }
        let end = (start as u64).saturating_add(left).min(PIECE_BYTES as u64);
        let piece = self.pieces.get_mut(at);
        piece
            .and_then(|piece| piece.get_mut(start..end as usize))
            .unwrap_or_default()
    }

    /// Bytes of data.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// The data, in order, in pieces of [`PIECE_BYTES`] but for the last.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let starts = (0..self.used).step_by(PIECE_BYTES);
        self.pieces.iter().zip(starts).map(|(piece, start)| {
            let count = self.used.saturating_sub(start).min(PIECE_BYTES);
            piece.get(..count).unwrap_or_default()
        })
    }

    /// The first piece: all of a small member.
    pub(super) fn start(&self) -> &[u8] {
        self.pieces().next().unwrap_or_default()
    }

    /// The code of the data.
    pub(super) fn mac(&self, digest: Digest, passphrase: &[u8]) -> MacValue {
        let mut mac = Mac::new(digest, passphrase);
        self.pieces().for_each(|piece| mac.update(piece));
        mac.finish()
    }

    /// The digest with which the text is the code of the data.
    pub(super) fn guess(
        &self,
        passphrase: &[u8],
        text: &MacText,
    ) -> Option<Digest> {
        let mut guess = Guess::new(passphrase);
        self.pieces().for_each(|piece| guess.update(piece));
        guess.finish(text)
    }
}

/// Reads on when a signal came between, unless nobody waits for it any more.
fn read(
    source: &mut impl Read,
    room: &mut [u8],
    gate: &Mutex<Gate>,
) -> std::io::Result<usize> {
    loop {
        match source.read(room) {
            Err(error)
                if error.kind() == ErrorKind::Interrupted
                    && gate.lock().is_open() => {}
            read => return read,
        }
    }
}

fn limit_of(untrusted_name: &[u8]) -> u64 {
    if untrusted_name == chunk::HEADER_NAME {
        HEADER_BYTES_MAX as u64
    } else if untrusted_name.ends_with(chunk::MAC_SUFFIX) {
        MAC_TEXT_BYTES_MAX as u64
    } else {
        CHUNK_BYTES_MAX
    }
}
