//! The outer archive as a row of members, each whole and in memory.
//!
//! Lives here: reading, and how large a member may be. May not live here:
//! what a member is for.

use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::refusal::ReadError;
use crate::format::chunk;
use crate::format::escape::Escaped;
use crate::format::limits::{HEADER_BYTES_MAX, MAC_TEXT_BYTES_MAX};
use crate::format::tar::{Decoder, Event, Limits};
use crate::fsm::cancel::Gate;

/// Bytes of one chunk; writers cut at 104,857,600, and one is in memory.
pub const CHUNK_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The name and the data of a member.
pub(super) type Member = (Vec<u8>, Vec<u8>);

/// A source of members.
pub(super) struct Members<R> {
    source: R,
    outer: Decoder,
    buffer: Vec<u8>,
    /// What of the buffer was not taken yet.
    pending: Range<usize>,
    offset: u64,
    gate: Arc<Mutex<Gate>>,
}

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 256 * 1024;

impl<R: Read> Members<R> {
    pub(super) fn new(source: R, gate: Arc<Mutex<Gate>>) -> Self {
        Self {
            source,
            outer: Decoder::outer(Limits::OUTER),
            buffer: vec![0; BUFFER_BYTES],
            pending: 0..0,
            offset: 0,
            gate,
        }
    }

    /// Bytes of the archive that were taken.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next member; `None` at the end of a whole archive.
    pub(super) fn next(&mut self) -> Result<Option<Member>, ReadError> {
        let mut member: Option<Member> = None;
        loop {
            let input =
                self.buffer.get(self.pending.clone()).unwrap_or_default();
            let is_dry = input.is_empty();
            let (taken, event) = self.outer.push(input)?;
            self.pending.start += taken;
            self.offset += taken as u64;
            match event {
                Some(Event::Entry(entry)) => {
                    let limit = limit_of(&entry.path);
                    if entry.size > limit {
                        return Err(ReadError::TooLarge {
                            name: Escaped(&entry.path).to_string(),
                            found: entry.size,
                            limit,
                        });
                    }
                    // Not the size that is claimed: what comes.
                    member = Some((entry.path, Vec::new()));
                }
                Some(Event::Data { bytes, .. }) => {
                    if let Some((_, data)) = &mut member {
                        data.extend(bytes);
                    }
                }
                Some(Event::EndOfEntry) if member.is_some() => {
                    return Ok(member);
                }
                Some(Event::EndOfEntry | Event::EndOfArchive) => {}
                None if is_dry => {
                    let count = self.fill()?;
                    if count == 0 {
                        let outer = Decoder::outer(Limits::OUTER);
                        std::mem::replace(&mut self.outer, outer).finish()?;
                        return Ok(None);
                    }
                }
                None => {}
            }
        }
    }

    fn fill(&mut self) -> Result<usize, ReadError> {
        loop {
            match self.source.read(&mut self.buffer) {
                Ok(count) => {
                    self.pending = 0..count;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    if self.gate.lock().is_canceled() {
                        return Err(ReadError::Canceled);
                    }
                }
                Err(cause) => {
                    let offset = self.offset;
                    return Err(ReadError::Io { offset, cause });
                }
            }
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
