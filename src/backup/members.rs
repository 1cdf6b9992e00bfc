//! The outer archive as a row of members.
//!
//! Lives here: reading, how large a member may be, how its data comes into
//! memory. May not live here: what a member is for, when it is read.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::refusal::ReadError;
use crate::format::chunk;
use crate::format::escape::Escaped;
use crate::format::limits::{HEADER_BYTES_MAX, MAC_TEXT_BYTES_MAX};
use crate::format::tar::{Decoder, Event, Limits};
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

/// The data of a member; its memory is used again for another.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Never shorter than it once was, so that it is set to zero once only.
    bytes: Vec<u8>,
    used: usize,
}

/// A source of members.
pub(super) struct Members<R> {
    source: R,
    outer: Decoder,
    buffer: Vec<u8>,
    /// What of the buffer was not taken yet.
    pending: Range<usize>,
    /// Bytes of the archive that were taken.
    offset: Arc<AtomicU64>,
    gate: Arc<Mutex<Gate>>,
}

/// Bytes that are read at a time where headers are.
const BUFFER_BYTES: usize = 16 * 1024;
/// Bytes of data that are read at a time: a cancel waits for no more.
const PIECE_BYTES: usize = 1 << 20;

impl<R: Read> Members<R> {
    pub(super) fn new(source: R, gate: Arc<Mutex<Gate>>) -> Self {
        Self {
            source,
            outer: Decoder::outer(Limits::OUTER),
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
            let (taken, event) = self.outer.push(input)?;
            self.pending.start += taken;
            self.offset.fetch_add(taken as u64, Ordering::Relaxed);
            if let Some(Event::Entry(entry)) = event {
                let limit = limit_of(&entry.path);
                if entry.size > limit {
                    return Err(ReadError::TooLarge {
                        name: Escaped(&entry.path).to_string(),
                        found: entry.size,
                        limit,
                    });
                }
                return Ok(Some(Head { name: entry.path, size: entry.size }));
            }
            if event.is_none() && is_dry && self.fill()? == 0 {
                self.end()?;
                return Ok(None);
            }
        }
    }

    /// Reads the data of the member whose header came last into `block`.
    pub(super) fn data(&mut self, block: &mut Block) -> Result<(), ReadError> {
        block.used = 0;
        loop {
            // The size is a claim: room grows with what comes.
            let left = usize::try_from(self.outer.data_left());
            let left = left.unwrap_or(usize::MAX);
            if left == 0 {
                return Ok(());
            }
            let ready =
                self.buffer.get(self.pending.clone()).unwrap_or_default();
            let count = if ready.is_empty() {
                let room = block.room(left.min(PIECE_BYTES), left);
                let read = read(&mut self.source, room, &self.gate);
                read.map_err(|cause| self.failed(cause))?
            } else {
                let ready = ready.get(..left).unwrap_or(ready);
                let room = block.room(ready.len(), left);
                room.copy_from_slice(ready);
                self.pending.start += ready.len();
                ready.len()
            };
            if count == 0 {
                return self.end();
            }
            block.used += count;
            let passed = self.outer.pass(count as u64);
            self.offset.fetch_add(passed, Ordering::Relaxed);
        }
    }

    fn fill(&mut self) -> Result<usize, ReadError> {
        let read = read(&mut self.source, &mut self.buffer, &self.gate);
        let count = read.map_err(|cause| self.failed(cause))?;
        self.pending = 0..count;
        Ok(count)
    }

    /// The source is over: is the archive?
    fn end(&mut self) -> Result<(), ReadError> {
        let outer = Decoder::outer(Limits::OUTER);
        Ok(std::mem::replace(&mut self.outer, outer).finish()?)
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
        let passed = self.outer.pass(left.min(length.saturating_sub(at)));
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
    /// Room for `now` more bytes, of at most `left` that are still to come.
    fn room(&mut self, now: usize, left: usize) -> &mut [u8] {
        let end = self.used.saturating_add(now);
        if self.bytes.len() < end {
            // Twice as much, but never more than the member has.
            let all = self.used.saturating_add(left);
            let grown = self.bytes.len().saturating_mul(2).clamp(end, all);
            self.bytes.reserve_exact(grown.saturating_sub(self.bytes.len()));
            self.bytes.resize(grown, 0);
        }
        self.bytes.get_mut(self.used..end).unwrap_or_default()
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
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
