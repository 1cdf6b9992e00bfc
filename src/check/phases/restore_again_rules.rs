//! What must hold of restores that are made again after a crash, and the twins.
//!
//! Lives here: predicates on states of `restore_again`'s world, by name. May
//! not live here: anything that moves it. A run's own promises are looked at
//! in its own world (`restore_rules`).

use super::ENDS;
use super::archive::NAMES;
use super::backup_again::{Content, Made, Other};
use super::restore_again::{
    Beside, Call, Name, ReadingAgain, Run, What, World,
};
use super::restore_rules::{R2, R3, R3_INDEX};
use crate::check::{Property, Test};

/// Name of R11.
//= spec/phases.md#r11-done-means-durable
pub const R11: &str = "R11 done means durable";
/// Name of R12.
//= spec/phases.md#r12-a-crash-blocks-no-later-run
pub const R12: &str = "R12 a crash blocks no later run";
/// Name of R13.
//= spec/phases.md#r13-what-a-crash-left-is-swept
pub const R13: &str = "R13 what a crash left is swept";
/// Name of R14.
//= spec/phases.md#r14-what-is-not-ours-stays
pub const R14: &str = "R14 what is not ours stays";

/// Everything that must hold, then its twins.
pub(super) fn properties(model: &ReadingAgain) -> Vec<Property<ReadingAgain>> {
    let safety = ReadingAgain::SAFETY.into_iter();
    let mut properties: Vec<_> =
        safety.map(|(name, test)| Property::always(name, test)).collect();
    properties.push(Property::eventually(ENDS, |_, world: &World| {
        ReadingAgain::is_over(world)
    }));
    let twins = model.twins().into_iter();
    properties
        .extend(twins.map(|(name, test)| Property::sometimes(name, test)));
    properties
}

fn is_whole(what: What) -> bool {
    matches!(what, What::Ours { content: Content::Whole, .. })
}

fn is_torn(what: What) -> bool {
    matches!(what, What::Ours { .. }) && !is_whole(what)
}

impl ReadingAgain {
    fn all(&self, world: &World, test: fn(What) -> bool) -> bool {
        let announced = usize::from(self.reading.archive.files) + 1;
        world.files.iter().take(announced).all(|file| test(file.now))
    }

    fn named_is_whole(&self, world: &World) -> bool {
        let torn = world.files.iter().any(|file| is_torn(file.now));
        !world.one.wrong.torn && !torn
    }

    fn done_stays(&self, world: &World) -> bool {
        !world.done || self.all(world, is_whole)
    }

    /// Refused only for a whole file, or one of somebody else's; never where
    /// what is there may be replaced.
    fn nothing_blocks(&self, world: &World) -> bool {
        let found = |what| is_whole(what) || what == What::Theirs;
        let file = world.files.iter().any(|file| found(file.now));
        world.run != Run::Blocked
            && (!world.refused || (file && !self.overwrite))
    }

    fn nothing_stays(&self, world: &World) -> bool {
        world.run != Run::Going || world.left.is_none()
    }

    fn others_keep(&self, world: &World) -> bool {
        let gone = world.stage == Made::Held { there: false };
        !world.hurt && !gone
    }

    const SAFETY: [(&'static str, Test<Self>); 7] = [
        (R2, Self::named_is_whole),
        (R3, |_, world| !world.one.wrong.other),
        (R3_INDEX, |_, world| !world.one.wrong.other_index),
        (R11, Self::done_stays),
        (R12, Self::nothing_blocks),
        (R13, Self::nothing_stays),
        (R14, Self::others_keep),
    ];

    /// States in which the above could have failed, as far as the
    /// configuration has room for them.
    fn twins(&self) -> Vec<(&'static str, Test<Self>)> {
        let mut twins: Vec<(&'static str, Test<Self>)> = vec![
            ("it is done", |_, world| Self::is_done(world)),
            ("a run after a crash is done", |model, world| {
                Self::is_done(world) && world.crashes < model.crashes
            }),
            ("what was done outlives a power cut", |model, world| {
                world.done
                    && world.run == Run::Opening
                    && model.all(world, is_whole)
            }),
            ("a run finds some of the files, whole", |model, world| {
                world.run == Run::Opening
                    && world.files.iter().any(|file| is_whole(file.now))
                    && !model.all(world, is_whole)
            }),
            ("a run finds a stage, and in it a part of a file", |_, world| {
                let mut left = world.left.iter().flatten();
                left.any(|file| *file == Some(Content::Part))
            }),
            ("a run finds a stage, and a whole file in it", |_, world| {
                let mut left = world.left.iter().flatten();
                left.any(|file| *file == Some(Content::Whole))
            }),
            ("a run finds a stage, and nothing in it", |_, world| {
                world.left == Some([None; NAMES])
            }),
            ("the directory is gone, and made again", |model, world| {
                world.run == Run::Opening
                    && world.target == Name::Absent
                    && world.crashes < model.crashes
            }),
            ("a directory is left, and no file in it", |_, world| {
                let mut files = world.files.iter().skip(1);
                world.folder == Name::OnDisk
                    && files.all(|file| file.now == What::Nothing)
            }),
        ];
        if self.overwrite {
            twins.push(("a whole file is replaced", |model, world| {
                let name = model.placing(world).map(|(_, name)| name);
                let old = name.and_then(|name| world.files.get(name));
                world.call == Call::Synced
                    && old.is_some_and(|file| is_whole(file.now))
            }));
        } else {
            twins.push(("a file is in the way, and it is said", |_, world| {
                Self::is_over(world) && world.refused
            }));
        }
        match self.beside {
            Beside::Nobody => {}
            Beside::File => {
                twins.push(("somebody's file is there", |_, world| {
                    world.files.iter().any(|file| file.now == What::Theirs)
                }));
            }
            Beside::Restore => {
                twins.push(("somebody sweeps beside a living run", |_, w| {
                    w.other == Other::Has(Made::No)
                        && w.stage == Made::Held { there: true }
                }));
                twins.push(("a stage is swept before it is locked", |_, w| {
                    w.stage == Made::Unlocked { there: false }
                }));
            }
        }
        twins
    }
}
