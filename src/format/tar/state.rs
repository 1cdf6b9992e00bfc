//! What a decoder waits for, and the states whose bytes only pass through.
//!
//! Lives here: the states, what is missing in each, data and padding. May not
//! live here: the transitions, which are [`super::Decoder`]'s.

use std::vec;

use super::error::TarError;
use super::member::{Meta, Pending};
use super::sparse::{Map, MapText, Segment};
use super::{BLOCK, Entry, Event, Profile, padding};

/// What we wait for; a variant carries exactly the data that is valid in it.
#[derive(Debug)]
pub(super) enum State {
    /// A header, or zeros; so many blocks of zeros came just before.
    Header { pending: Pending, zeros: u8 },
    /// The body of a header that describes the next member.
    Meta { pending: Pending, meta: Meta, size: usize, body: Vec<u8> },
    /// The padding after that body.
    MetaPadding { pending: Pending, left: u64 },
    /// A block with more segments of an old GNU map.
    Continuation { entry: Entry, map: Map },
    /// A block of the map of PAX 1.0; so many stored bytes come with or
    /// after it.
    MapText { entry: Entry, text: MapText, left: u64 },
    /// Stored bytes of the first segment, then of the rest.
    Data { now: Segment, rest: vec::IntoIter<Segment>, padding: u64 },
    /// The padding after the data.
    Padding { left: u64 },
    /// Zeros after the end-of-archive mark.
    AfterEnd,
    /// Nothing any more.
    Failed(TarError),
}

/// The next state, bytes taken, what to tell.
pub(super) type Step<'a> = (State, usize, Option<Event<'a>>);

impl State {
    /// What the archive ends in if it ends here, and how many bytes would
    /// complete that; nothing if it is complete, or refused already. So many
    /// bytes of a block are there.
    pub(super) fn missing(
        &self,
        filled: usize,
        profile: Profile,
    ) -> Option<(&'static str, u64)> {
        let block = BLOCK.saturating_sub(filled) as u64;
        Some(match self {
            Self::AfterEnd | Self::Failed(_) => return None,
            Self::Header { pending, .. } if !pending.is_empty() => {
                ("the headers of a member", block)
            }
            Self::Header { zeros, .. } if filled == 0 => {
                match 2_u8.saturating_sub(*zeros) {
                    0 if profile == Profile::Outer => return None,
                    left => ("the end-of-archive mark", u64::from(left) * 512),
                }
            }
            Self::Header { .. } => ("a header", block),
            Self::Meta { meta, size, body, .. } => {
                (meta.name(), size.saturating_sub(body.len()) as u64)
            }
            Self::MetaPadding { left, .. } => ("a header's padding", *left),
            Self::Continuation { .. } | Self::MapText { .. } => {
                ("a sparse map", block)
            }
            Self::Data { now, rest, padding } => {
                let rest = rest.as_slice().iter().map(|s| s.length);
                let all = rest.fold(now.length, u64::saturating_add);
                ("the data", all.saturating_add(*padding))
            }
            Self::Padding { left } => ("the padding after the data", *left),
        })
    }
}

pub(super) fn start_data(
    entry: Entry,
    segments: Vec<Segment>,
) -> (State, Option<Event<'static>>) {
    let padding = padding(entry.stored_size) as u64;
    let state = next_segment(segments.into_iter(), padding);
    (state, Some(Event::Entry(entry)))
}

pub(super) fn next_segment(
    mut rest: vec::IntoIter<Segment>,
    padding: u64,
) -> State {
    match rest.next() {
        Some(now) => State::Data { now, rest, padding },
        None => State::Padding { left: padding },
    }
}

/// Stored bytes pass through; an empty input changes nothing.
pub(super) fn data(
    now: Segment,
    rest: vec::IntoIter<Segment>,
    padding: u64,
    input: &[u8],
) -> Step<'_> {
    let length = usize::try_from(now.length).unwrap_or(usize::MAX);
    let bytes = input.get(..length).unwrap_or(input);
    if bytes.is_empty() {
        return (State::Data { now, rest, padding }, 0, None);
    }
    let offset = now.offset;
    let state = behind(now, rest, padding, bytes.len() as u64);
    (state, bytes.len(), Some(Event::Data { offset, bytes }))
}

/// So many stored bytes, at most those of the segment at hand, are passed
/// over; how many were.
pub(super) fn pass(state: State, bytes: u64) -> (State, u64) {
    let State::Data { now, rest, padding } = state else {
        return (state, 0);
    };
    let passed = bytes.min(now.length);
    (behind(now, rest, padding, passed), passed)
}

/// What follows when so many bytes of a segment are done with.
fn behind(
    now: Segment,
    rest: vec::IntoIter<Segment>,
    padding: u64,
    used: u64,
) -> State {
    if used < now.length {
        let offset = now.offset.saturating_add(used);
        let now = Segment { offset, length: now.length.saturating_sub(used) };
        State::Data { now, rest, padding }
    } else {
        next_segment(rest, padding)
    }
}

/// How much of `left` bytes is there, and what is then left.
pub(super) fn skip(input: &[u8], left: u64) -> (usize, u64) {
    let all = usize::try_from(left).unwrap_or(usize::MAX);
    let used = all.min(input.len());
    (used, left.saturating_sub(used as u64))
}
