//! The world of `fsm::members`: a source that writes members and may die.
//!
//! Lives here: the source, its room, M1 to M3. May not live here: the rules
//! of giving; they are the machine's.

use core::ops::ControlFlow::{Break, Continue};

use super::ENDS;
use crate::check::liveness::UNFAIR;
use crate::check::{Model, Property};
use crate::fsm::members::{Announces, Effect, Event, Member, Members};

/// One source and the machine that reads its names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Source {
    /// When it says a name.
    pub announces: Announces,
    /// The machine, which may take it for the other kind, or be a mutant.
    pub machine: Members,
    /// Members of the archive.
    pub members: u8,
    /// Members that there is room for. A chunk is consumed together with its
    /// mac: room comes back in pairs.
    pub room: u8,
    /// It may die at any moment.
    pub dies: bool,
}

/// Source and machine.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct World {
    /// The machine.
    pub machine: Members,
    /// Members that were begun.
    pub begun: u8,
    /// Members that are whole.
    pub whole: u8,
    /// Names that were read.
    pub read: u8,
    /// Members that were given.
    pub given: u8,
    /// The source has ended, and how.
    pub ended: Option<bool>,
    /// A member was given that was not whole.
    pub half: bool,
    /// A member was given out of order.
    pub wrong: bool,
    /// The machine has no row for what it was told: a deadlock.
    pub no_row: bool,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The source began a member.
    Begin,
    /// It wrote the last byte of one.
    Complete,
    /// It ended well.
    Exit,
    /// It died.
    Die,
    /// The machine was answered.
    Answer(Event),
    /// Nothing, for ever: only its death could go on.
    Wait,
}

impl Source {
    /// A source, and the machine that knows what it is.
    pub fn new(announces: Announces, members: u8) -> Self {
        let machine = Members::new(announces);
        let room = match announces {
            Announces::Before => 3,
            Announces::After => 2,
        };
        Self { announces, machine, members, room, dies: true }
    }

    /// Names that were said.
    fn said(&self, world: &World) -> u8 {
        match self.announces {
            Announces::Before => world.begun,
            Announces::After => world.whole,
        }
    }

    fn source(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        if world.ended.is_some() {
            return;
        }
        let consumed = world.given.min(world.begun) & !1;
        let room = world.begun - consumed < self.room;
        if world.begun > world.whole {
            let whole = world.whole + 1;
            steps.push((Step::Complete, World { whole, ..*world }));
        } else if world.begun < self.members && room {
            let begun = world.begun + 1;
            steps.push((Step::Begin, World { begun, ..*world }));
        } else if world.begun == self.members {
            steps.push((Step::Exit, World { ended: Some(true), ..*world }));
        }
        if self.dies {
            steps.push((Step::Die, World { ended: Some(false), ..*world }));
        }
    }

    fn answer(&self, world: &World) -> Option<(Event, World)> {
        let Continue(effect) = world.machine.effect() else { return None };
        let mut next = *world;
        let event = match effect {
            Effect::Ask if world.read < self.said(world) => {
                next.read += 1;
                Event::Named(Member(u32::from(world.read)))
            }
            Effect::Ask => Event::End { clean: world.ended? },
            Effect::Give(member) => {
                next.half |= member.0 >= u32::from(world.whole);
                next.wrong |= member.0 != u32::from(world.given);
                next.given = world.given.saturating_add(1);
                Event::Given
            }
        };
        match world.machine.step(event) {
            Ok(machine) => next.machine = machine,
            Err(_) => next.no_row = true,
        }
        Some((event, next))
    }

    fn over(world: &World) -> Option<bool> {
        match world.machine.effect() {
            Break(clean) => Some(clean),
            Continue(_) => None,
        }
    }

    /// M3: a clean end only after a good end of the source, with everything
    /// given; what an `After` source completed is given even if it dies.
    fn nothing_lost(&self, world: &World) -> bool {
        let all = world.given == self.members;
        match Self::over(world) {
            None => true,
            Some(true) => world.ended == Some(true) && all,
            Some(false) => {
                let after = self.announces == Announces::After;
                world.ended == Some(false)
                    && (!after || world.given == world.whole)
            }
        }
    }
}

/// Name of M1.
//= spec/phases.md#m1-only-whole-members-are-given
pub const M1: &str = "M1 only whole members are given";
/// Name of M2.
//= spec/phases.md#m2-in-order-each-once
pub const M2: &str = "M2 in order, each once";
/// Name of M3.
//= spec/phases.md#m3-a-clean-end-means-everything
pub const M3: &str = "M3 a clean end means everything";

impl Model for Source {
    type State = World;
    type Step = Step;

    fn initial(&self) -> Vec<World> {
        vec![World {
            machine: self.machine,
            begun: 0,
            whole: 0,
            read: 0,
            given: 0,
            ended: None,
            half: false,
            wrong: false,
            no_row: false,
        }]
    }

    fn steps(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        // Once the machine is over nobody reads what the source does.
        if world.no_row || Self::over(world).is_some() {
            return;
        }
        self.source(world, steps);
        let answered = self.answer(world);
        // The death of a source is unfair: it may never come.
        let fair = steps.iter().any(|(step, _)| *step != Step::Die);
        if !fair && answered.is_none() && !steps.is_empty() {
            steps.push((Step::Wait, *world));
        }
        steps.extend(answered.map(|(e, next)| (Step::Answer(e), next)));
    }

    fn is_end(&self, world: &World) -> bool {
        Self::over(world).is_some()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(M1, |_, world: &World| !world.half),
            Property::always(M2, |_, world: &World| !world.wrong),
            Property::always(M3, Self::nothing_lost),
            Property::eventually(ENDS, |_, world| Self::over(world).is_some()),
            // Twins: states in which the above could have failed.
            Property::sometimes("a member is given", |_, world: &World| {
                world.given > 0
            }),
            Property::sometimes("all are given", |source: &Self, world| {
                Self::over(world) == Some(true) && world.given == source.members
            }),
        ];
        if self.dies {
            properties.push(Property::sometimes(
                "it dies with a member half written",
                |_, world: &World| {
                    world.ended == Some(false) && world.begun > world.whole
                },
            ));
        }
        properties
    }

    fn actor(&self, step: &Step) -> usize {
        match step {
            Step::Begin | Step::Complete | Step::Exit | Step::Wait => 0,
            Step::Answer(_) => 1,
            Step::Die => UNFAIR,
        }
    }
}
