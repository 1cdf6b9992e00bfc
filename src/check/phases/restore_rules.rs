//! What must hold of reading a backup: R1 to R10, and their twins.
//!
//! Lives here: predicates on states of `restore`'s world, by name. May not
//! live here: anything that moves it.
//!
//! R3 does not speak of `qubes.xml`, which is no file of a qube: it is one
//! chunk, so where only a checksum binds it an older one passes with a single
//! edit ([`R3_INDEX`]).

use super::ENDS;
use super::archive::Content;
use super::restore::{Fate, Reading, World, is_temporary};
use crate::check::{Property, Test};
use crate::fsm::restore::{End, State};

/// Name of R1.
//= spec/phases.md#r1-nothing-unverified-is-decoded
pub const R1: &str = "R1 nothing unverified is decoded";
/// Name of R2.
//= spec/phases.md#r2-what-is-published-is-whole
pub const R2: &str = "R2 what is published is whole";
/// Name of R3, for files of qubes.
//= spec/phases.md#r3-what-is-published-was-backed-up
pub const R3: &str = "R3 what is published was backed up";
/// Name of R3, for `qubes.xml`.
//= spec/phases.md#r3x-the-same-of-qubesxml
pub const R3_INDEX: &str = "R3x the same of qubes.xml";
/// Name of R4.
//= spec/phases.md#r4-done-means-everything
pub const R4: &str = "R4 done means everything";
/// Name of R5.
//= spec/phases.md#r5-canceled-iff-accepted
pub const R5: &str = "R5 canceled iff accepted";
/// Name of R6.
//= spec/phases.md#r6-nothing-temporary-is-left
pub const R6: &str = "R6 nothing temporary is left";
/// Name of R7.
//= spec/phases.md#r7-what-is-honest-is-restored
pub const R7: &str = "R7 what is honest is restored";
/// Name of R8.
//= spec/phases.md#r8-verified-means-decoded
pub const R8: &str = "R8 verified means decoded";
/// Name of R9.
//= spec/phases.md#r9-one-archive-one-meaning
pub const R9: &str = "R9 one archive, one meaning";
/// Name of R10.
//= spec/phases.md#r10-done-means-a-header
pub const R10: &str = "R10 done means a header";

/// Everything that must hold, then its twins.
pub(super) fn properties(model: &Reading) -> Vec<Property<Reading>> {
    let safety = Reading::SAFETY.into_iter();
    let mut properties: Vec<_> =
        safety.map(|(name, test)| Property::always(name, test)).collect();
    properties.push(Property::eventually(ENDS, |_, world| {
        Reading::end(world).is_some()
    }));
    let twins = model.twins().into_iter();
    properties
        .extend(twins.map(|(name, test)| Property::sometimes(name, test)));
    properties
}

impl Reading {
    fn is_done(world: &World) -> bool {
        Self::end(world) == Some(End::Done)
    }

    fn complete_or_named(&self, world: &World) -> bool {
        let complete = self.complete(world);
        match Self::end(world) {
            Some(End::Done) => complete == self.announced(),
            Some(End::Omitted { headerless, lost }) => {
                (headerless.is_some() || lost > 0)
                    && complete + usize::from(lost) == self.announced()
            }
            Some(End::Failed(_) | End::Canceled(_)) | None => true,
        }
    }

    fn cancel_is_exact(&self, world: &World) -> bool {
        let Some(end) = Self::end(world) else { return true };
        let canceled = matches!(end, End::Canceled(_));
        let published = world.fates.contains(&Fate::Published);
        canceled == world.accepted && !(canceled && self.plan.hold && published)
    }

    fn nothing_temporary(&self, world: &World) -> bool {
        self.plan.verify
            || Self::end(world).is_none()
            || !world.fates.iter().any(|fate| is_temporary(*fate))
    }

    fn honest_is_done(&self, world: &World) -> bool {
        let headerless = self.archive.headerless.then_some(self.archive.digest);
        match Self::end(world) {
            None => true,
            Some(End::Done) => headerless.is_none(),
            Some(End::Omitted { headerless: found, lost }) => {
                found.is_some() && found == headerless && lost == 0
            }
            Some(End::Failed(_) | End::Canceled(_)) => !self.is_honest(),
        }
    }

    fn verified_whole(&self, world: &World) -> bool {
        let whole = |f: &Fate| matches!(f, Fate::Ready { whole: true, .. });
        let all = world.fates.iter().filter(|fate| whole(fate)).count();
        !self.plan.verify || !Self::is_done(world) || all == self.announced()
    }

    const SAFETY: [(&'static str, Test<Self>); 11] = [
        (R1, |_, world| !world.wrong.early),
        (R2, |_, world| !world.wrong.torn),
        (R3, |_, world| !world.wrong.other),
        (R3_INDEX, |_, world| !world.wrong.other_index),
        (R4, Self::complete_or_named),
        (R5, Self::cancel_is_exact),
        (R6, Self::nothing_temporary),
        (R7, |model, world| !model.is_honest() || model.honest_is_done(world)),
        (R8, Self::verified_whole),
        (R9, |_, world| !Self::is_done(world) || !world.canon.broken),
        (R10, |_, world| !Self::is_done(world) || world.header),
    ];

    /// States in which the above could have failed, as far as the
    /// configuration has room for them.
    fn twins(&self) -> Vec<(&'static str, Test<Self>)> {
        let mut twins: Vec<(&'static str, Test<Self>)> =
            vec![("a file is complete", |model, world| {
                model.complete(world) > 1
            })];
        if self.archive.headerless {
            twins.push(("it ends with an omission", |_, world| {
                matches!(Self::end(world), Some(End::Omitted { .. }))
            }));
        } else {
            twins.push(("it is done", |_, world| Self::is_done(world)));
        }
        if self.edits + self.faults > 0 {
            twins.push(("it fails", |_, world| {
                matches!(Self::end(world), Some(End::Failed(_)))
            }));
        }
        if self.edits > 0 {
            twins.push(("something older is in memory", |_, world| {
                let chunk = world.chunk.as_ref();
                chunk.is_some_and(|chunk| {
                    chunk.fits && matches!(chunk.content, Content::Older(_))
                })
            }));
        }
        if self.edits + self.faults > 0 && self.plan.keep_going {
            twins.push(("a file is lost", |_, world| {
                world.fates.contains(&Fate::Lost)
            }));
        }
        if self.cancel {
            twins.push(("it is canceled", |_, world| {
                matches!(Self::end(world), Some(End::Canceled(_)))
            }));
        }
        if self.cancel && self.edits + self.faults > 0 {
            twins.push(("a failure is noted by a cancel", |_, world| {
                matches!(Self::end(world), Some(End::Canceled(Some(_))))
            }));
        }
        if self.plan.hold && !self.plan.verify {
            twins.push(("a file is held", |_, world| {
                matches!(world.state, State::Renaming(..))
            }));
        }
        twins
    }
}
