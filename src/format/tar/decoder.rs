//! The order of blocks in a stream, one state for each that is awaited.
//!
//! Lives here: every transition, offsets, the end. May not live here: what the
//! fields of a header mean.

use core::mem;

use super::error::{Place, TarError};
use super::header::{Header, SIZE, is_extended};
use super::member::{self, Body, Flag, Meta, Pending, long_name};
use super::pax::Records;
use super::sparse::{CONTINUATION_SLOTS, Map, MapText};
use super::state::{State, Step, data, pass, skip, start_data};
use super::{BLOCK, Entry, Event, Limits, Profile, padding};

/// Decodes one archive, pushed in pieces of any size.
///
/// ```
/// use qubes_fsm::format::tar::{Decoder, Event, Limits, TarError};
///
/// /// The bytes of all files, one after the other.
/// fn content(pieces: &[&[u8]]) -> Result<Vec<u8>, TarError> {
///     let mut content = Vec::new();
///     let mut decoder = Decoder::inner(Limits::INNER);
///     for piece in pieces {
///         let mut rest = *piece;
///         while let (used, Some(event)) = decoder.push(rest)? {
///             rest = &rest[used..];
///             if let Event::Data { bytes, .. } = event {
///                 content.extend(bytes);
///             }
///         }
///     }
///     decoder.finish()?;
///     Ok(content)
/// }
/// assert_eq!(content(&[&[0; 700], &[0; 324]]), Ok(vec![]));
/// assert!(content(&[&[0; 1000]]).is_err());
/// ```
#[derive(Debug)]
pub struct Decoder {
    profile: Profile,
    limits: Limits,
    /// Bytes taken so far.
    offset: u64,
    /// Real sizes of the members so far.
    decoded: u64,
    /// Zeros behind the end so far.
    padding: u64,
    /// The member at hand, once its path is known.
    entry: Option<Box<[u8]>>,
    /// The header, or block of a map, that is being filled.
    block: Box<[u8; BLOCK]>,
    filled: usize,
    state: State,
}

impl Decoder {
    /// For the backup itself: tars of regular files, one after the other.
    ///
    /// Zero blocks may stand between members, as `tar -i` reads. The last
    /// thing must be two of them or more, as every writer leaves them, so
    /// that a cut is noticed even right behind a member. Only a cut behind
    /// two blocks of zeros leaves an archive that is whole in itself; the
    /// caller, who knows which members there must be, misses some then.
    ///
    /// Source: FORMAT, "Outer archive".
    pub fn outer(limits: Limits) -> Self {
        Self::new(Profile::Outer, limits)
    }

    /// For what was backed up: one tar that ends in two zero blocks or more.
    ///
    /// Source: FORMAT, "Streams".
    pub fn inner(limits: Limits) -> Self {
        Self::new(Profile::Inner, limits)
    }

    fn new(profile: Profile, limits: Limits) -> Self {
        Self {
            profile,
            limits,
            offset: 0,
            decoded: 0,
            padding: 0,
            entry: None,
            block: Box::new([0; BLOCK]),
            filled: 0,
            state: State::Header { pending: Pending::default(), zeros: 0 },
        }
    }

    /// Takes the next bytes of the archive, up to the next event.
    ///
    /// Gives how many bytes were taken, and what was found. Without an event
    /// all of them were; with one, push the rest, even if it is empty. How
    /// the archive is cut in pieces changes nothing but how `Data` is cut.
    ///
    /// # Errors
    /// Any [`TarError`] but `Truncated`. The same again for every later call.
    pub fn push<'a>(
        &mut self,
        untrusted_input: &'a [u8],
    ) -> Result<(usize, Option<Event<'a>>), TarError> {
        let mut rest = untrusted_input;
        let mut taken = 0;
        loop {
            let is_dry = rest.is_empty();
            let state = mem::replace(&mut self.state, State::AfterEnd);
            let (state, used, event) = match self.step(state, rest) {
                Ok(step) => step,
                Err(error) => {
                    self.state = State::Failed(error.clone());
                    return Err(error);
                }
            };
            self.state = state;
            self.offset = self.offset.saturating_add(used as u64);
            taken += used;
            rest = rest.get(used..).unwrap_or_default();
            // Without input a state may still follow, but not two.
            if event.is_some() || is_dry {
                return Ok((taken, event));
            }
        }
    }

    /// How many bytes of stored data stand next, before anything else does.
    ///
    /// A caller that has another way to them, or no need of them, takes them
    /// with [`pass`](Self::pass) instead of [`push`](Self::push).
    ///
    /// ```
    /// use qubes_fsm::format::tar::{Decoder, Limits};
    ///
    /// assert_eq!(Decoder::outer(Limits::OUTER).data_left(), 0);
    /// ```
    pub fn data_left(&self) -> u64 {
        if let State::Data { now, .. } = &self.state { now.length } else { 0 }
    }

    /// Goes on as if so many bytes of stored data had been pushed; at most
    /// [`data_left`](Self::data_left). Gives how many.
    pub fn pass(&mut self, bytes: u64) -> u64 {
        let state = mem::replace(&mut self.state, State::AfterEnd);
        let (state, passed) = pass(state, bytes);
        self.state = state;
        self.offset = self.offset.saturating_add(passed);
        passed
    }

    /// The input is over: is the archive?
    ///
    /// # Errors
    /// `Truncated` if anything is missing; the error of `push`, if there was
    /// one.
    //= spec/format3.md#the-inner-end
    pub fn finish(self) -> Result<(), TarError> {
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        match self.state.missing(self.filled, self.profile) {
            None => Ok(()),
            Some((inside, missing)) => {
                let at = self.behind(0);
                Err(TarError::Truncated { at, inside, missing })
            }
        }
    }

    /// Every transition there is.
    fn step<'a>(
        &mut self,
        state: State,
        input: &'a [u8],
    ) -> Result<Step<'a>, TarError> {
        match state {
            State::Header { pending, zeros } => {
                let Some((used, at)) = self.fill(input) else {
                    let state = State::Header { pending, zeros };
                    return Ok((state, input.len(), None));
                };
                let (state, event) = self.header(pending, zeros, at)?;
                Ok((state, used, event))
            }
            State::Meta { pending, meta, size, mut body } => {
                let start = self.behind(body.len());
                let left = size.saturating_sub(body.len());
                let now = input.get(..left).unwrap_or(input);
                body.extend(now);
                let state = if now.len() < left {
                    State::Meta { pending, meta, size, body }
                } else {
                    self.meta(pending, meta, &body, start)?
                };
                Ok((state, now.len(), None))
            }
            State::MetaPadding { pending, left } => {
                let (used, left) = skip(input, left);
                let state = match left {
                    0 => State::Header { pending, zeros: 0 },
                    left => State::MetaPadding { pending, left },
                };
                Ok((state, used, None))
            }
            State::Continuation { entry, map } => {
                let Some((used, at)) = self.fill(input) else {
                    let state = State::Continuation { entry, map };
                    return Ok((state, input.len(), None));
                };
                let (state, event) = self.continuation(entry, map, &at)?;
                Ok((state, used, event))
            }
            State::MapText { entry, text, left } => {
                let Some((used, at)) = self.fill(input) else {
                    let state = State::MapText { entry, text, left };
                    return Ok((state, input.len(), None));
                };
                let (state, event) = self.map_text(entry, text, left, &at)?;
                Ok((state, used, event))
            }
            State::Data { now, rest, padding } => {
                Ok(data(now, rest, padding, input))
            }
            State::Padding { left } => {
                let (used, left) = skip(input, left);
                if left > 0 {
                    return Ok((State::Padding { left }, used, None));
                }
                self.entry = None;
                let pending = Pending::default();
                let state = State::Header { pending, zeros: 0 };
                Ok((state, used, Some(Event::EndOfEntry)))
            }
            State::AfterEnd => self.after_end(input),
            State::Failed(error) => Err(error),
        }
    }

    /// Zeros behind the end, up to the limit; wherever the input is cut.
    //= spec/format3.md#zeros-may-stand-between-members
    fn after_end<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, TarError> {
        let limit = self.limits.padding_bytes_max;
        let room = usize::try_from(limit.saturating_sub(self.padding));
        let within = room.ok().and_then(|room| input.get(..room));
        let within = within.unwrap_or(input);
        if let Some(index) = within.iter().position(|byte| *byte != 0) {
            let found = input.get(index).copied().unwrap_or_default();
            let at = self.behind(0).after(index);
            return Err(TarError::AfterEnd { at, found });
        }
        if within.len() < input.len() {
            let at = self.behind(0).after(within.len());
            let what = "bytes behind the end";
            let found = limit.saturating_add(1);
            return Err(TarError::Limit { at, what, found, limit });
        }
        self.padding = self.padding.saturating_add(input.len() as u64);
        Ok((State::AfterEnd, input.len(), None))
    }

    /// A whole block where a header may be.
    fn header(
        &mut self,
        pending: Pending,
        zeros: u8,
        at: Place,
    ) -> Result<(State, Option<Event<'static>>), TarError> {
        let is_outer = self.profile == Profile::Outer;
        if self.block.iter().all(|byte| *byte == 0) {
            if !pending.is_empty() {
                return Err(TarError::Structure {
                    at,
                    found: "zeros after headers that describe a member",
                    expected: "its own header",
                });
            }
            let zeros = zeros.saturating_add(1);
            return Ok(match zeros {
                2.. if !is_outer => {
                    (State::AfterEnd, Some(Event::EndOfArchive))
                }
                _ => (State::Header { pending, zeros }, None),
            });
        }
        if zeros > 0 && !is_outer {
            return Err(TarError::Structure {
                at,
                found: "one block of zeros, then more",
                expected: "two blocks of zeros at the end",
            });
        }
        let header = Header::read(&self.block, &at)?;
        let path = pending.path().map_or_else(|| header.path(), <[u8]>::to_vec);
        let member = Place { offset: at.offset, entry: Some(path.into()) };
        match Flag::read(header.kind(), self.profile, &member)? {
            Flag::Meta(meta) => {
                let size = header.number(&SIZE, &at)?;
                let state = self.start_meta(pending, meta, size, at)?;
                Ok((state, None))
            }
            Flag::Member(flag) => {
                let (limits, at) = (&self.limits, &member);
                let joined = member::join(header, flag, pending, limits, at)?;
                self.entry.clone_from(&member.entry);
                self.start_body(joined, &member)
            }
        }
    }

    fn start_meta(
        &self,
        pending: Pending,
        meta: Meta,
        found: u64,
        at: Place,
    ) -> Result<State, TarError> {
        let is_second = match meta {
            Meta::Pax => pending.pax.is_some(),
            Meta::LongPath => pending.path.is_some(),
            Meta::LongLink => pending.link.is_some(),
        };
        if is_second {
            return Err(TarError::Twice { at, what: meta.name() });
        }
        let (what, limit) = meta.limit(&self.limits);
        match usize::try_from(found) {
            Ok(size) if found <= limit => {
                Ok(State::Meta { pending, meta, size, body: Vec::new() })
            }
            _ => Err(TarError::Limit { at, what, found, limit }),
        }
    }

    /// The body of a header is complete.
    fn meta(
        &mut self,
        mut pending: Pending,
        meta: Meta,
        untrusted_body: &[u8],
        start: Place,
    ) -> Result<State, TarError> {
        match meta {
            Meta::Pax => {
                let records = Records::read(untrusted_body, &start)?;
                if records.sparse.is_some() && self.profile == Profile::Outer {
                    return Err(TarError::Structure {
                        at: start,
                        found: "a sparse file",
                        expected: "plain files in an outer archive",
                    });
                }
                pending.pax = Some(records);
            }
            Meta::LongPath => {
                let path = long_name(untrusted_body, "GNU long path", start)?;
                pending.path = Some(path);
            }
            Meta::LongLink => {
                let link = long_name(untrusted_body, "GNU long link", start)?;
                pending.link = Some(link);
            }
        }
        self.entry = pending.path().map(Into::into);
        Ok(match padding(untrusted_body.len() as u64) {
            0 => State::Header { pending, zeros: 0 },
            left => State::MetaPadding { pending, left: left as u64 },
        })
    }

    /// The header of a member is complete.
    fn start_body(
        &mut self,
        (entry, body): (Entry, Body),
        at: &Place,
    ) -> Result<(State, Option<Event<'static>>), TarError> {
        self.decoded = self.decoded.saturating_add(entry.size);
        let (found, limit) = (self.decoded, self.limits.decoded_bytes_max);
        if found > limit {
            let (at, what) = (at.clone(), "decoded bytes");
            return Err(TarError::Limit { at, what, found, limit });
        }
        Ok(match body {
            Body::Data(segments) => start_data(entry, segments),
            Body::Continuation(map) => {
                (State::Continuation { entry, map }, None)
            }
            Body::MapText(map) => {
                let (text, left) = (MapText::new(map), entry.stored_size);
                (State::MapText { entry, text, left }, None)
            }
        })
    }

    /// One block of 21 slots, and whether one more follows.
    fn continuation(
        &self,
        entry: Entry,
        mut map: Map,
        at: &Place,
    ) -> Result<(State, Option<Event<'static>>), TarError> {
        let (slots, rest) = self.block.split_at(CONTINUATION_SLOTS);
        let has_ended = map.add_slots(slots, at)?;
        match (has_ended, is_extended(rest.first().copied(), at)?) {
            (_, false) => {
                let segments = map.complete(entry.stored_size, at)?;
                Ok(start_data(entry, segments))
            }
            (false, true) => Ok((State::Continuation { entry, map }, None)),
            (true, true) => Err(TarError::Structure {
                at: at.clone(),
                found: "a continuation of a sparse map that has ended",
                expected: "none",
            }),
        }
    }

    /// One block of decimal numbers; the map's last block is padded.
    fn map_text(
        &self,
        entry: Entry,
        mut text: MapText,
        left: u64,
        at: &Place,
    ) -> Result<(State, Option<Event<'static>>), TarError> {
        let Some(left) = left.checked_sub(512) else {
            return Err(TarError::Structure {
                at: at.clone(),
                found: "a sparse map longer than what is stored",
                expected: "to end before",
            });
        };
        for byte in self.block.iter() {
            if text.is_complete() {
                break;
            }
            text.push(*byte, at)?;
        }
        if !text.is_complete() {
            return Ok((State::MapText { entry, text, left }, None));
        }
        let segments = text.into_map().complete(left, at)?;
        Ok(start_data(entry, segments))
    }

    /// Fills the block; how many bytes that took, and where it began.
    fn fill(&mut self, input: &[u8]) -> Option<(usize, Place)> {
        let free = self.block.get_mut(self.filled..).unwrap_or_default();
        let used = free.len().min(input.len());
        for (free, byte) in free.iter_mut().zip(input) {
            *free = *byte;
        }
        let before = self.filled;
        self.filled += used;
        if self.filled < BLOCK {
            return None;
        }
        self.filled = 0;
        Some((used, self.behind(before)))
    }

    /// So many bytes before the next one to be taken.
    fn behind(&self, bytes: usize) -> Place {
        let offset = self.offset.saturating_sub(bytes as u64);
        Place { offset, entry: self.entry.clone() }
    }
}
