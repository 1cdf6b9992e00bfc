//! What must hold of writing a backup: B1 to B8, and their twins.
//!
//! Lives here: predicates on states of `backup`'s world, by name. May not
//! live here: anything that moves it.

use super::ENDS;
use super::backup::{Found, Source, World, Writing};
use crate::check::{Property, Test};
use crate::fsm::backup::{End, Over, State, Target, Then};

/// Name of B1.
//= spec/phases.md#b1-under-the-name-stands-a-whole-archive
pub const B1: &str = "B1 under the name stands a whole archive";
/// Name of B1 after a power cut.
//= spec/phases.md#b1c-the-same-after-a-power-cut
pub const B1_CUT: &str = "B1c the same after a power cut";
/// Name of B2.
//= spec/phases.md#b2-done-means-whole-and-durable
pub const B2: &str = "B2 done means whole and durable";
/// Name of B3.
//= spec/phases.md#b3-a-stream-is-whole-only-once-decided
pub const B3: &str = "B3 a stream is whole only once decided";
/// Name of B4.
//= spec/phases.md#b4-canceled-iff-accepted-and-nothing-there
pub const B4: &str = "B4 canceled iff accepted, and nothing there";
/// Name of B5.
//= spec/phases.md#b5-no-child-and-no-temporary-file-is-left
pub const B5: &str = "B5 no child and no temporary file is left";
/// Name of B6.
//= spec/phases.md#b6-the-first-failure-is-the-cause
pub const B6: &str = "B6 the first failure is the cause";
/// Name of B7.
//= spec/phases.md#b7-no-empty-chunk-behind-others
pub const B7: &str = "B7 no empty chunk behind others";
/// Name of B8.
//= spec/phases.md#b8-what-a-child-said-is-kept
pub const B8: &str = "B8 what a child said is kept";

/// Everything that must hold, then its twins.
pub(super) fn properties(model: &Writing) -> Vec<Property<Writing>> {
    let safety = Writing::SAFETY.into_iter();
    let mut properties: Vec<_> =
        safety.map(|(name, test)| Property::always(name, test)).collect();
    properties.push(Property::eventually(ENDS, |_, world: &World| {
        world.cut.is_some() || Writing::end(world).is_some()
    }));
    let twins = model.twins().into_iter();
    properties
        .extend(twins.map(|(name, test)| Property::sometimes(name, test)));
    properties
}

impl Writing {
    fn is_good(&self, world: &World) -> bool {
        self.is_whole(&world.written) && !world.written.dead
    }

    fn named_is_whole(&self, world: &World) -> bool {
        !world.disk.published || self.is_good(world)
    }

    fn durable(&self, world: &World) -> bool {
        if !matches!(Self::end(world), Some(Over { end: End::Done, .. })) {
            return true;
        }
        let disk = world.disk;
        let stands = match self.plan.target {
            Target::File => disk.published && disk.synced && disk.dir_synced,
            Target::Stream => disk.closed,
        };
        stands && self.is_good(world)
    }

    /// What was written of a stream is there for good.
    fn decided_before_whole(&self, world: &World) -> bool {
        self.plan.target == Target::File
            || !self.is_whole(&world.written)
            || (is_decided(world) && !world.written.dead)
    }

    fn cancel_is_exact(&self, world: &World) -> bool {
        let Some(Over { end, .. }) = Self::end(world) else { return true };
        let canceled = matches!(end, End::Canceled(_));
        let there = match self.plan.target {
            Target::File => world.disk.published,
            Target::Stream => self.is_whole(&world.written),
        };
        canceled == world.accepted && !(canceled && there)
    }

    fn nothing_left(&self, world: &World) -> bool {
        let Some(Over { left, .. }) = Self::end(world) else { return true };
        world.gate.running().next().is_none() && (left || !world.disk.temporary)
    }

    fn first_is_cause(&self, world: &World) -> bool {
        match Self::end(world).map(|over| over.end) {
            Some(End::Failed { cause, .. } | End::Canceled(Some(cause))) => {
                world.first == Some(cause)
            }
            Some(End::Done | End::Canceled(None)) | None => true,
        }
    }

    fn child_is_heard(&self, world: &World) -> bool {
        let failed = matches!(
            Self::end(world),
            Some(Over { end: End::Failed { .. }, .. })
        );
        !failed || !world.child_failed || world.said
    }

    const SAFETY: [(&'static str, Test<Self>); 9] = [
        (B1, Self::named_is_whole),
        (B1_CUT, |_, world| world.cut != Some(Found::Torn)),
        (B2, Self::durable),
        (B3, Self::decided_before_whole),
        (B4, Self::cancel_is_exact),
        (B5, Self::nothing_left),
        (B6, Self::first_is_cause),
        (B7, |_, world| !world.written.extra),
        (B8, Self::child_is_heard),
    ];

    /// States in which the above could have failed, as far as the
    /// configuration has room for them.
    fn twins(&self) -> Vec<(&'static str, Test<Self>)> {
        let mut twins: Vec<(&'static str, Test<Self>)> =
            vec![("it is done", |_, world| {
                matches!(Self::end(world), Some(Over { end: End::Done, .. }))
            })];
        if self.faults > 0 {
            twins.push(("it fails", |_, world| {
                let end = Self::end(world).map(|over| over.end);
                matches!(end, Some(End::Failed { .. }))
            }));
            twins.push(("a child dies", |_, world| {
                matches!(world.source, Source::Dead { .. })
            }));
        }
        if self.faults > 0 && self.plan.target == Target::File {
            twins.push(("it fails with the archive in place", |_, world| {
                let end = Self::end(world).map(|over| over.end);
                matches!(end, Some(End::Failed { published: true, .. }))
            }));
        }
        if self.faults > 1 && self.plan.target == Target::File {
            twins.push(("something is left, and said", |_, world| {
                Self::end(world).is_some_and(|over| over.left)
            }));
        }
        if self.cancel {
            twins.push(("it is canceled", |_, world| {
                let end = Self::end(world).map(|over| over.end);
                matches!(end, Some(End::Canceled(_)))
            }));
        }
        if self.cancel && self.faults > 0 {
            twins.push(("a failure is noted by a cancel", |_, world| {
                let end = Self::end(world).map(|over| over.end);
                matches!(end, Some(End::Canceled(Some(_))))
            }));
        }
        if self.cancel && self.plan.target == Target::Stream {
            twins.push(("a cancel meets the last mac", |_, world| {
                let last = State::Deciding(Then::LastMac(Default::default()));
                core::mem::discriminant(&world.state)
                    == core::mem::discriminant(&last)
                    && world.accepted
            }));
        }
        if self.power {
            twins.push(("the power is cut behind the rename", |_, world| {
                world.cut == Some(Found::Whole)
            }));
        }
        twins
    }
}

fn is_decided(world: &World) -> bool {
    matches!(world.gate, crate::fsm::cancel::Gate::Decided(_))
}
