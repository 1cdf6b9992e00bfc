//! In which order the results of hashes that run in parallel come out.
//!
//! Lives here: W slots, and the order of the archive. May not live here:
//! threads, bytes, what a verdict is for. Hashing is pure, so it may run
//! ahead; the machine that reads the archive sees what it would have seen
//! had each chunk been hashed when its turn came. **The error is the first
//! in the archive, not the first in time**, whatever the number of threads.
//!
//! A slot is free again when its chunk was decoded, so W counts every chunk
//! in memory. W = the number of workers is enough.

use super::refused::Refused;

/// The verdicts to come, in the order of the archive.
///
/// ```
/// use qubes_fsm::fsm::ahead::{Ahead, Event, Output, SourceEnd, Verdict};
///
/// let mut ahead = Ahead::new(3);
/// for event in [
///     Event::Read(0),
///     Event::Read(1),
///     Event::Ended(SourceEnd::Failed),
///     Event::Finished(1, Verdict::Bad),
/// ] {
///     ahead = ahead.step(event).unwrap();
/// }
/// // Chunk 1 is bad and the source has failed, but chunk 0 comes first.
/// assert_eq!(ahead.output(), Output::Waiting);
/// ahead = ahead.step(Event::Finished(0, Verdict::Good)).unwrap();
/// assert_eq!(ahead.output(), Output::Verdict(0, Verdict::Good));
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Ahead {
    /// [`Variant::Right`], outside of tests.
    pub variant: Variant,
    slots: Vec<Slot>,
    /// The number of the next chunk of the source.
    next: u32,
    /// The number of the next chunk to come out.
    turn: u32,
    source: Option<SourceEnd>,
    stopped: bool,
}

/// Room for one chunk.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Slot {
    /// No chunk.
    Free,
    /// This chunk is being hashed.
    Busy(u32),
    /// Its verdict waits for its turn.
    Done(u32, Verdict),
    /// Its verdict was taken; the chunk is being decoded.
    Out(u32),
}

/// What came of a mac.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// It fits.
    Good,
    /// It does not.
    Bad,
}

/// How the source of chunks ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SourceEnd {
    /// There is no further chunk.
    Clean,
    /// It could not be read on.
    Failed,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// This chunk was read, and its hash was started.
    Read(u32),
    /// The source has ended: instead of a chunk that was wanted.
    Ended(SourceEnd),
    /// The hash of this chunk is known.
    Finished(u32, Verdict),
    /// The verdict that [`Ahead::output`] names was taken.
    Take,
    /// The chunk whose verdict was taken is not needed any more.
    Freed(u32),
    /// The reader has ended: nothing is read or given out any more.
    Stop,
}

/// What the reader of the archive gets next.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Output {
    /// Nothing yet.
    Waiting,
    /// The verdict on the chunk whose turn it is.
    Verdict(u32, Verdict),
    /// The source's end; everything before it was taken.
    End(SourceEnd),
}

/// Errors that parallel readers make; tests show that each is found. All but
/// [`Right`](Self::Right) must never be shipped.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Variant {
    /// The rules above.
    #[default]
    Right,
    /// Verdicts come out as they finish.
    AsFinished,
    /// The first bad verdict in time comes out first.
    BadFirst,
    /// A failed source overtakes verdicts of chunks before it.
    SourceFirst,
    /// The end does not wait for hashes that run.
    NoWait,
    /// Chunks are read without regard to room.
    NoBound,
}

impl Ahead {
    /// Room for so many chunks, at least one.
    pub fn new(slots: usize) -> Self {
        Self {
            variant: Variant::Right,
            slots: vec![Slot::Free; slots.max(1)],
            next: 0,
            turn: 0,
            source: None,
            stopped: false,
        }
    }

    /// The number of the chunk to read next, if there is room for one.
    pub fn wants(&self) -> Option<u32> {
        let room = self.slots.contains(&Slot::Free)
            || self.variant == Variant::NoBound;
        let reading = self.source.is_none() && !self.stopped;
        (room && reading).then_some(self.next)
    }

    /// What [`Event::Take`] takes.
    pub fn output(&self) -> Output {
        if self.stopped {
            return Output::Waiting;
        }
        if let Some(verdict) = self.finished() {
            return verdict;
        }
        match self.source {
            Some(SourceEnd::Failed) if self.variant == Variant::SourceFirst => {
                Output::End(SourceEnd::Failed)
            }
            Some(end) if self.turn == self.next => Output::End(end),
            Some(_) | None => Output::Waiting,
        }
    }

    /// Whether the reader has ended and no hash is running any more.
    pub fn is_over(&self) -> bool {
        let busy = |slot: &Slot| matches!(slot, Slot::Busy(_));
        let waits = self.variant != Variant::NoWait;
        self.stopped && !(waits && self.slots.iter().any(busy))
    }

    /// The slots, in no order that means anything.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Chunks that were read.
    pub fn read(&self) -> u32 {
        self.next
    }

    /// Verdicts that were taken.
    pub fn taken(&self) -> u32 {
        self.turn
    }

    /// How the source ended, if it has.
    pub fn source(&self) -> Option<SourceEnd> {
        self.source
    }

    /// Whether the reader has ended.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Every transition there is; the last arm refuses the rest.
    ///
    /// # Errors
    /// The event cannot happen now: a bug of the driver.
    pub fn step(mut self, event: Event) -> Result<Self, Refused> {
        let place = match event {
            Event::Read(_) => self.slots.iter().position(|s| *s == Slot::Free),
            Event::Finished(number, _) => self.place(Slot::Busy(number)),
            Event::Freed(number) => self.place(Slot::Out(number)),
            Event::Take => match self.output() {
                Output::Verdict(number, verdict) => {
                    self.place(Slot::Done(number, verdict))
                }
                Output::Waiting | Output::End(_) => None,
            },
            Event::Ended(_) | Event::Stop => None,
        };
        match (event, place) {
            (Event::Read(number), Some(place))
                if self.wants() == Some(number) =>
            {
                self.slots[place] = Slot::Busy(number);
                self.next += 1;
            }
            (Event::Read(number), None) if self.wants() == Some(number) => {
                self.slots.push(Slot::Busy(number));
                self.next += 1;
            }
            (Event::Ended(end), None) if self.wants().is_some() => {
                self.source = Some(end);
            }
            // What finishes after the end is thrown away.
            (Event::Finished(..), Some(place)) if self.stopped => {
                self.slots[place] = Slot::Free;
            }
            (Event::Finished(number, verdict), Some(place)) => {
                self.slots[place] = Slot::Done(number, verdict);
            }
            (Event::Take, Some(place)) => {
                if let Slot::Done(number, _) = self.slots[place] {
                    self.slots[place] = Slot::Out(number);
                }
                self.turn += 1;
            }
            (Event::Freed(_), Some(place)) => self.slots[place] = Slot::Free,
            (Event::Stop, None) if !self.stopped => {
                self.stopped = true;
                for slot in &mut self.slots {
                    if !matches!(slot, Slot::Busy(_)) {
                        *slot = Slot::Free;
                    }
                }
            }
            (event, _) => return Err(Refused::new(self, event)),
        }
        Ok(self)
    }

    fn place(&self, wanted: Slot) -> Option<usize> {
        self.slots.iter().position(|slot| *slot == wanted)
    }

    /// The verdict whose turn it is.
    fn finished(&self) -> Option<Output> {
        let done = |slot: &Slot| match *slot {
            Slot::Done(number, verdict) => Some((number, verdict)),
            Slot::Free | Slot::Busy(_) | Slot::Out(_) => None,
        };
        let mut done = self.slots.iter().filter_map(done);
        let found = match self.variant {
            Variant::AsFinished => done.next(),
            Variant::BadFirst => {
                let bad = |(_, verdict): &(u32, _)| *verdict == Verdict::Bad;
                let first = done.clone().find(bad);
                first.or_else(|| done.find(|(n, _)| *n == self.turn))
            }
            Variant::Right
            | Variant::SourceFirst
            | Variant::NoWait
            | Variant::NoBound => done.find(|(n, _)| *n == self.turn),
        };
        found.map(|(number, verdict)| Output::Verdict(number, verdict))
    }
}
