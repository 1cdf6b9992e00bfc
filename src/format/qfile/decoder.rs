//! The order of bytes in a qfile stream, one state for each part that is
//! awaited.
//!
//! Lives here: every transition, offsets, limits, the checksum, the end. May
//! not live here: which names and times may come.

use core::mem;

use flate2::Crc;

use super::{
    Entry, Event, HEADER_BYTES, Kind, Limits, PERMISSIONS, Place, QfileError,
    Time, check, wrong_with,
};

/// Decodes one stream, pushed in pieces of any size.
///
/// ```
/// use qubes_fsm::format::qfile::{Decoder, Event, Limits, QfileError};
///
/// // The shortest of all streams: an end.
/// let mut decoder = Decoder::new(Limits::default());
/// assert_eq!(decoder.push(&[0; 31]), Ok((31, None)));
/// assert!(matches!(decoder.finish(), Err(QfileError::Truncated { .. })));
/// assert_eq!(decoder.push(&[0]), Ok((1, Some(Event::End))));
/// assert_eq!(decoder.finish(), Ok(()));
/// assert_eq!(decoder.crc(), 0x190a_55ad);
/// ```
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// Bytes taken so far, and their checksum.
    offset: u64,
    crc: Crc,
    /// Lengths of data that were announced so far.
    announced: u64,
    entries: u64,
    /// The name of the entry at hand, or of the last one.
    name: Box<[u8]>,
    header: [u8; HEADER_BYTES],
    filled: usize,
    state: State,
}

/// What is awaited.
#[derive(Debug)]
enum State {
    Header,
    /// So many bytes of a name, its NUL among them.
    Name {
        entry: Entry,
        length: usize,
    },
    /// So much data is left.
    Data(u64),
    /// Nothing: the end was there.
    Ended,
    Failed(QfileError),
}

type Step<'a> = (State, usize, Option<Event<'a>>);

impl Decoder {
    /// For one stream.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            offset: 0,
            crc: Crc::new(),
            announced: 0,
            entries: 0,
            name: Box::default(),
            header: [0; HEADER_BYTES],
            filled: 0,
            state: State::Header,
        }
    }

    /// Takes the next bytes of the stream, up to the next event.
    ///
    /// Gives how many bytes were taken, and what was found. Without an event
    /// all of them were; with one, push the rest, even if it is empty. How the
    /// stream is cut in pieces changes nothing but how `Data` is cut.
    ///
    /// # Errors
    /// Any [`QfileError`] but `Truncated` and `Order`. The same again for
    /// every later call.
    pub fn push<'a>(
        &mut self,
        untrusted_input: &'a [u8],
    ) -> Result<(usize, Option<Event<'a>>), QfileError> {
        let mut rest = untrusted_input;
        let mut taken = 0;
        loop {
            let is_dry = rest.is_empty();
            let state = mem::replace(&mut self.state, State::Ended);
            let (state, used, event) = match self.step(state, rest) {
                Ok(step) => step,
                Err(error) => {
                    self.state = State::Failed(error.clone());
                    return Err(error);
                }
            };
            self.state = state;
            let (used, behind) =
                rest.split_at_checked(used).unwrap_or((rest, &[]));
            self.took(used);
            taken += used.len();
            rest = behind;
            // Without input a state may still follow, but not two.
            if event.is_some() || is_dry {
                return Ok((taken, event));
            }
        }
    }

    /// How many bytes of data stand next, before anything else does.
    pub fn data_left(&self) -> u64 {
        if let State::Data(left) = self.state { left } else { 0 }
    }

    /// Takes bytes of data from a caller that keeps them, at most
    /// [`data_left`](Self::data_left). Gives how many.
    pub fn pass(&mut self, untrusted_data: &[u8]) -> usize {
        let State::Data(left) = &mut self.state else { return 0 };
        let data = upto(untrusted_data, *left);
        *left = left.saturating_sub(data.len() as u64);
        self.took(data);
        data.len()
    }

    /// Whether the sender has said that this was all.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The checksum of all bytes that were taken, as a reply wants it.
    pub fn crc(&self) -> u32 {
        self.crc.sum()
    }

    /// The name of the entry at hand, or of the last one; empty before the
    /// first.
    pub fn last(&self) -> &[u8] {
        &self.name
    }

    /// The input is over: is the stream?
    ///
    /// # Errors
    /// `Truncated` if its end is missing; the error of `push`, if there was
    /// one.
    pub fn finish(&self) -> Result<(), QfileError> {
        let (inside, length, entry) = match &self.state {
            State::Ended => return Ok(()),
            State::Failed(error) => return Err(error.clone()),
            State::Header if self.filled > 0 => {
                ("within a header", HEADER_BYTES as u64, None)
            }
            State::Header => {
                ("without its last entry", HEADER_BYTES as u64, None)
            }
            State::Name { length, .. } => {
                ("within a name", *length as u64, None)
            }
            State::Data(left) => {
                ("within the data", *left, Some(self.name.clone()))
            }
        };
        let filled = match &self.state {
            State::Header => self.filled,
            State::Name { entry, .. } => entry.name.len(),
            State::Data(_) | State::Ended | State::Failed(_) => 0,
        };
        let at = Place { offset: self.offset, entry };
        let missing = length.saturating_sub(filled as u64);
        Err(QfileError::Truncated { at, inside, missing })
    }

    /// Every transition there is.
    fn step<'a>(
        &mut self,
        state: State,
        input: &'a [u8],
    ) -> Result<Step<'a>, QfileError> {
        match state {
            State::Header => {
                let left = HEADER_BYTES.saturating_sub(self.filled);
                let now = upto(input, left as u64);
                let start = self.filled;
                let room = self.header.iter_mut().skip(start);
                room.zip(now).for_each(|(room, byte)| *room = *byte);
                self.filled += now.len();
                if now.len() < left {
                    return Ok((State::Header, now.len(), None));
                }
                self.filled = 0;
                let at = self.offset.saturating_sub(start as u64);
                let (state, event) = self.header(at)?;
                Ok((state, now.len(), event))
            }
            State::Name { mut entry, length } => {
                let left = length.saturating_sub(entry.name.len());
                let now = upto(input, left as u64);
                let start = entry.name.len();
                entry.name.extend(now);
                if now.len() < left {
                    return Ok((
                        State::Name { entry, length },
                        now.len(),
                        None,
                    ));
                }
                let at = self.offset.saturating_sub(start as u64);
                self.named(&mut entry, at)?;
                let state = State::Data(entry.size);
                Ok((state, now.len(), Some(Event::Entry(entry))))
            }
            State::Data(0) => Ok((State::Header, 0, Some(Event::EndOfEntry))),
            State::Data(left) => {
                let now = upto(input, left);
                let state = State::Data(left.saturating_sub(now.len() as u64));
                let event = (!now.is_empty()).then_some(Event::Data(now));
                Ok((state, now.len(), event))
            }
            State::Ended => match input.first() {
                None => Ok((State::Ended, 0, None)),
                Some(found) => {
                    let at = Place { offset: self.offset, entry: None };
                    Err(QfileError::AfterEnd { at, found: *found })
                }
            },
            State::Failed(error) => Err(error),
        }
    }

    /// A whole header, which begins there.
    fn header(
        &mut self,
        offset: u64,
    ) -> Result<(State, Option<Event<'static>>), QfileError> {
        let at = Place { offset, entry: None };
        let mut fields = self.header.as_slice();
        let length = u64::from(number(&mut fields));
        if length == 0 {
            return Ok((State::Ended, Some(Event::End)));
        }
        let mode = number(&mut fields);
        let (low, high) = (number(&mut fields), number(&mut fields));
        let mut time = || Time {
            seconds: number(&mut fields),
            nanoseconds: number(&mut fields),
        };
        let (accessed, modified) = (time(), time());
        let limit = self.limits.name_bytes_max;
        let length = match usize::try_from(length) {
            Ok(size) if length <= limit => size,
            _ => {
                let (what, found) = ("a name", length);
                return Err(QfileError::TooLong { at, what, found, limit });
            }
        };
        let entry = Entry {
            name: Vec::new(),
            kind: self.kind(mode, &at)?,
            // 12 bits.
            mode: (mode & PERMISSIONS) as u16,
            size: u64::from(high) << 32 | u64::from(low),
            accessed,
            modified,
        };
        check(&entry, &self.limits, &at)?;
        self.count(entry.size, at)?;
        Ok((State::Name { entry, length }, None))
    }

    fn kind(&self, mode: u32, at: &Place) -> Result<Kind, QfileError> {
        let kinds: &[Kind] = match self.limits.links {
            true => &[Kind::File, Kind::Directory, Kind::Symlink],
            false => &[Kind::File, Kind::Directory],
        };
        let bits = mode & !PERMISSIONS;
        let kind = kinds.iter().find(|kind| kind.bits() == bits);
        kind.copied().ok_or_else(|| QfileError::Mode {
            at: at.clone(),
            found: mode,
            expected: match self.limits.links {
                true => "a regular file, a directory or a symbolic link",
                false => "a regular file or a directory",
            },
        })
    }

    /// One more entry, with so much data.
    fn count(&mut self, size: u64, at: Place) -> Result<(), QfileError> {
        let Limits { bytes_max, entries_max, .. } = self.limits;
        self.entries = self.entries.saturating_add(1);
        self.announced = self.announced.saturating_add(size);
        let counts = [
            ("entries", self.entries, entries_max),
            ("bytes of data", self.announced, bytes_max),
        ];
        match counts.into_iter().find(|(_, found, limit)| found > limit) {
            None => Ok(()),
            Some((what, found, limit)) => {
                Err(QfileError::Limit { at, what, found, limit })
            }
        }
    }

    /// The name is there, with its NUL.
    fn named(
        &mut self,
        entry: &mut Entry,
        offset: u64,
    ) -> Result<(), QfileError> {
        let nul = entry.name.pop().unwrap_or_default();
        self.name = entry.name.as_slice().into();
        let at = || Place { offset, entry: Some(self.name.clone()) };
        if nul != 0 {
            return Err(QfileError::NoNul { at: at(), found: nul });
        }
        match wrong_with(&entry.name) {
            None => Ok(()),
            Some(found) => Err(QfileError::Name { at: at(), found }),
        }
    }

    fn took(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.offset = self.offset.saturating_add(bytes.len() as u64);
    }
}

/// The first bytes, at most so many.
fn upto(bytes: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).ok();
    most.and_then(|most| bytes.get(..most)).unwrap_or(bytes)
}

/// The next field of four bytes.
fn number(fields: &mut &[u8]) -> u32 {
    let Some((number, rest)) = fields.split_first_chunk() else { return 0 };
    *fields = rest;
    u32::from_le_bytes(*number)
}
