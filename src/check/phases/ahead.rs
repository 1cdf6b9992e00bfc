//! The world of `fsm::ahead`: hashes that finish in any order.
//!
//! Lives here: chunks of which some are bad, a source that may fail, the
//! reader that takes verdicts, A1 to A4. May not live here: the slots.
//!
//! No step may stay away, so one fairness does for all, as in `Ahead.tla`.

use super::ENDS;
use crate::check::{Model, Property};
use crate::fsm::ahead::{
    Ahead, Event, Output, Slot, SourceEnd, Variant, Verdict,
};

/// So many chunks, hashed in so many slots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pool {
    /// W.
    pub slots: usize,
    /// Chunks of the archive, below 8.
    pub chunks: u32,
    /// [`Variant::Right`], or a mutant.
    pub variant: Variant,
}

/// One archive, the slots, and the reader.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct World {
    /// The slots.
    pub ahead: Ahead,
    /// Bit n: chunk n is bad.
    pub bad: u8,
    /// The source fails instead of this chunk; the number of chunks: never.
    pub fails_at: u32,
    /// The chunk that is being decoded.
    pub decoding: Option<u32>,
    /// Chunks that were decoded, in this order: each once if it is right.
    pub released: u32,
    /// How the reader ended.
    pub end: Option<End>,
    /// A verdict came out of order.
    pub wrong: bool,
    /// The machine has no row for what it was told: a deadlock.
    pub no_row: bool,
}

/// How a run of the reader ends.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum End {
    /// Every chunk was good.
    Done,
    /// This chunk was bad.
    Bad(u32),
    /// The source failed.
    Source,
}

impl Pool {
    /// The reader without parallel hashes: the first trouble in the archive.
    fn serial(&self, world: &World) -> (End, u32) {
        let bad = world.bad.trailing_zeros().min(8);
        if bad < world.fails_at {
            (End::Bad(bad), bad)
        } else if world.fails_at < self.chunks {
            (End::Source, world.fails_at)
        } else {
            (End::Done, self.chunks)
        }
    }

    /// The reader takes what came out, if it is not busy decoding.
    fn read(&self, world: &World) -> Option<(Event, World)> {
        if world.end.is_some() {
            return None;
        }
        let mut next = world.clone();
        let event = match (world.decoding, world.ahead.output()) {
            (Some(number), _) => {
                next.decoding = None;
                Event::Freed(number)
            }
            (None, Output::Verdict(number, verdict)) => {
                next.wrong |= number != world.released;
                match verdict {
                    Verdict::Good => {
                        next.decoding = Some(number);
                        next.released += 1;
                        Event::Take
                    }
                    Verdict::Bad => {
                        next.end = Some(End::Bad(number));
                        Event::Stop
                    }
                }
            }
            (None, Output::End(end)) => {
                next.end = Some(match end {
                    SourceEnd::Clean => End::Done,
                    SourceEnd::Failed => End::Source,
                });
                Event::Stop
            }
            (None, Output::Waiting) => return None,
        };
        Self::tell(&mut next, event);
        Some((event, next))
    }

    fn tell(next: &mut World, event: Event) {
        match next.ahead.clone().step(event) {
            Ok(ahead) => next.ahead = ahead,
            Err(_) => next.no_row = true,
        }
    }

    fn source(&self, world: &World) -> Option<Event> {
        let number = world.ahead.wants()?;
        Some(if number == world.fails_at && number < self.chunks {
            Event::Ended(SourceEnd::Failed)
        } else if number >= self.chunks {
            Event::Ended(SourceEnd::Clean)
        } else {
            Event::Read(number)
        })
    }

    fn over(world: &World) -> bool {
        !world.no_row && world.end.is_some() && world.ahead.is_over()
    }

    fn bounded(&self, world: &World) -> bool {
        let used = |slot: &&Slot| **slot != Slot::Free;
        world.ahead.slots().iter().filter(used).count() <= self.slots
    }

    fn as_serial(&self, world: &World) -> bool {
        let Some(end) = world.end else { return true };
        (end, world.released) == self.serial(world)
    }

    fn nothing_busy(&self, world: &World) -> bool {
        let busy = |slot: &Slot| matches!(slot, Slot::Busy(_));
        !Self::over(world) || !world.ahead.slots().iter().any(busy)
    }
}

/// Name of A1.
//= spec/phases.md#a1-in-order-each-once
pub const A1: &str = "A1 in order, each once";
/// Name of A2.
//= spec/phases.md#a2-no-more-chunks-than-slots
pub const A2: &str = "A2 no more chunks than slots";
/// Name of A3.
//= spec/phases.md#a3-as-if-serial
pub const A3: &str = "A3 as if serial";
/// Name of A4.
//= spec/phases.md#a4-nothing-runs-at-the-end
pub const A4: &str = "A4 nothing runs at the end";

impl Model for Pool {
    type State = World;
    type Step = Event;

    /// Every pattern of bad chunks, a source that fails at every place.
    fn initial(&self) -> Vec<World> {
        let mut worlds = Vec::new();
        for bad in 0..1 << self.chunks {
            for fails_at in 0..=self.chunks {
                let mut ahead = Ahead::new(self.slots);
                ahead.variant = self.variant;
                worlds.push(World {
                    ahead,
                    bad,
                    fails_at,
                    decoding: None,
                    released: 0,
                    end: None,
                    wrong: false,
                    no_row: false,
                });
            }
        }
        worlds
    }

    fn steps(&self, world: &World, steps: &mut Vec<(Event, World)>) {
        if world.no_row || Self::over(world) {
            return;
        }
        let finish = |slot: &Slot| match *slot {
            Slot::Busy(number) => {
                let bad = world.bad & (1 << number) != 0;
                let verdict = if bad { Verdict::Bad } else { Verdict::Good };
                Some(Event::Finished(number, verdict))
            }
            Slot::Free | Slot::Done(..) | Slot::Out(_) => None,
        };
        let pool = world.ahead.slots().iter().filter_map(finish);
        for event in pool.chain(self.source(world)) {
            let mut next = world.clone();
            Self::tell(&mut next, event);
            steps.push((event, next));
        }
        steps.extend(self.read(world));
    }

    fn is_end(&self, world: &World) -> bool {
        Self::over(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(A1, |_, world: &World| !world.wrong),
            Property::always(A2, Self::bounded),
            Property::always(A3, Self::as_serial),
            Property::always(A4, Self::nothing_busy),
            Property::eventually(ENDS, |_, world| Self::over(world)),
            // Twins: states in which the above could have failed.
            Property::sometimes("everything is done", |_, world: &World| {
                world.end == Some(End::Done)
            }),
            Property::sometimes("a later chunk is bad", |_, world: &World| {
                let bad = |n| world.end == Some(End::Bad(n));
                (1..8).any(bad)
            }),
            Property::sometimes("the source fails", |_, world: &World| {
                world.end == Some(End::Source)
            }),
        ];
        if self.slots > 1 {
            properties.push(Property::sometimes(
                "a later chunk is finished first",
                |_, world: &World| {
                    let turn = world.released;
                    world.ahead.slots().iter().any(
                        |slot| matches!(slot, Slot::Done(n, _) if *n > turn),
                    )
                },
            ));
            properties.push(Property::sometimes(
                "the reader ends while hashes run",
                |_, world: &World| {
                    world.end.is_some() && !world.ahead.is_over()
                },
            ));
        }
        properties
    }
}
