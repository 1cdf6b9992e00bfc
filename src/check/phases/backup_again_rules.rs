//! What must hold of backups that are made again after a crash, and the twins.
//!
//! Lives here: predicates on states of `backup_again`'s world, by name. May
//! not live here: anything that moves it. A run's own promises are looked at
//! in its own world (`backup_rules`).

use super::ENDS;
use super::backup_again::{
    Content, Made, Other, Place, Run, World, WritingAgain,
};
use super::backup_rules::{B1, B1_CUT, B2};
use crate::check::{Property, Test};
use crate::fsm::backup::State;

/// Name of B9.
//= spec/phases.md#b9-a-crash-blocks-no-later-run
pub const B9: &str = "B9 a crash blocks no later run";
/// Name of B10.
//= spec/phases.md#b10-what-a-crash-left-is-swept
pub const B10: &str = "B10 what a crash left is swept";
/// Name of B11.
//= spec/phases.md#b11-no-living-run-loses-its-file
pub const B11: &str = "B11 no living run loses its file";

/// Everything that must hold, then its twins.
pub(super) fn properties(model: &WritingAgain) -> Vec<Property<WritingAgain>> {
    let safety = WritingAgain::SAFETY.into_iter();
    let mut properties: Vec<_> =
        safety.map(|(name, test)| Property::always(name, test)).collect();
    properties.push(Property::eventually(ENDS, |_, world: &World| {
        WritingAgain::is_over(world)
    }));
    let twins = model.twins().into_iter();
    properties
        .extend(twins.map(|(name, test)| Property::sometimes(name, test)));
    properties
}

impl WritingAgain {
    fn named_is_whole(&self, world: &World) -> bool {
        !Self::is_named(world) || self.content(world) == Content::Whole
    }

    fn found_is_whole(&self, world: &World) -> bool {
        let found = world.archive.as_ref();
        found.is_none_or(|archive| archive.content == Content::Whole)
    }

    /// What was done is there for good.
    fn done_stays(&self, world: &World) -> bool {
        let found = world.archive.map(|archive| archive.content);
        !world.done || found == Some(Content::Whole)
    }

    /// Refused only for an archive; the name of a leftover is nobody's.
    fn nothing_blocks(&self, world: &World) -> bool {
        world.run != Run::Blocked
            && (world.run != Run::Refused || world.archive.is_some())
    }

    fn nothing_stays(&self, world: &World) -> bool {
        let begins = world.one.state == State::Creating;
        world.run != Run::Going || begins || world.left.is_none()
    }

    /// While it may still be renamed, the name is there.
    fn has_its_file(&self, world: &World) -> bool {
        let gone = world.made == Made::Held { there: false };
        !world.hurt && !gone
    }

    const SAFETY: [(&'static str, Test<Self>); 6] = [
        (B1, Self::named_is_whole),
        (B1_CUT, Self::found_is_whole),
        (B2, Self::done_stays),
        (B9, Self::nothing_blocks),
        (B10, Self::nothing_stays),
        (B11, Self::has_its_file),
    ];

    /// States in which the above could have failed, as far as the
    /// configuration has room for them.
    fn twins(&self) -> Vec<(&'static str, Test<Self>)> {
        let mut twins: Vec<(&'static str, Test<Self>)> = vec![
            ("it is done", |_, world| Self::is_done(world)),
            ("a run finds the archive, and is refused", |_, world| {
                world.run == Run::Refused
            }),
            ("what was done outlives a power cut", |_, world| {
                world.done && world.run == Run::Refused
            }),
            ("a run after a crash is done", |model, world| {
                Self::is_done(world) && world.crashes < model.crashes
            }),
        ];
        if self.place != Place::Unnamed {
            twins.push(("a run finds a part of an archive", |_, world| {
                let left = world.left.map(|left| left.content);
                left == Some(Content::Part)
            }));
            twins.push(("a run finds an empty temporary file", |_, world| {
                let left = world.left.map(|left| left.content);
                left == Some(Content::Empty)
            }));
            twins.push((
                "a run finds a whole archive without a name",
                |_, w| {
                    let left = w.left.map(|left| left.content);
                    left == Some(Content::Whole) && w.archive.is_none()
                },
            ));
        }
        if self.place == Place::Linked {
            twins.push(("an archive has both names", |_, world| {
                world.archive.is_some() && world.left.is_some()
            }));
        }
        if self.beside {
            twins.push(("somebody sweeps beside a living run", |_, world| {
                world.other == Other::Has(Made::No)
                    && world.made == Made::Held { there: true }
            }));
            twins.push(("a file is swept before it is locked", |_, world| {
                world.made == Made::Unlocked { there: false }
            }));
        }
        twins
    }
}
