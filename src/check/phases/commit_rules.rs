//! What must hold of putting qubes into the store: K1 to K6, and their twins.
//!
//! Lives here: predicates on states of `commit`'s world, by name. May not
//! live here: anything that moves it.

use super::ENDS;
use super::commit::{
    Beside, Committing, Files, Folder, Other, World, bit, is_done,
};
use crate::check::{Property, Test};
use crate::fsm::commit::{End, State};

/// Name of K1.
//= spec/phases.md#k1-an-entry-has-its-folder
pub const K1: &str = "K1 an entry has its folder";
/// Name of K2.
//= spec/phases.md#k2-all-qubes-or-none
pub const K2: &str = "K2 all qubes or none";
/// Name of K3.
//= spec/phases.md#k3-what-is-not-ours-stays
pub const K3: &str = "K3 what is not ours stays";
/// Name of K4.
//= spec/phases.md#k4-done-means-in-the-store
pub const K4: &str = "K4 done means in the store";
/// Name of K5.
//= spec/phases.md#k5-nothing-is-left-unsaid
pub const K5: &str = "K5 nothing is left unsaid";
/// Name of K6.
//= spec/phases.md#k6-only-others-are-in-the-way
pub const K6: &str = "K6 only others are in the way";

/// Everything that must hold, then its twins.
pub(super) fn properties(model: &Committing) -> Vec<Property<Committing>> {
    let safety = Committing::SAFETY.into_iter();
    let mut properties: Vec<_> =
        safety.map(|(name, test)| Property::always(name, test)).collect();
    properties.push(Property::eventually(ENDS, |_, world: &World| {
        Committing::end(world).is_some()
    }));
    let twins = model.twins().into_iter();
    properties
        .extend(twins.map(|(name, test)| Property::sometimes(name, test)));
    properties
}

impl Committing {
    fn entries_have_folders(&self, world: &World) -> bool {
        let mut qubes = world.folders.iter().enumerate();
        qubes.all(|(qube, folder)| {
            let whole = matches!(
                folder,
                Folder::Ours { files: Files::Written | Files::Synced, .. }
            );
            world.store.ours & bit(qube) == 0 || whole
        })
    }

    fn all_or_none(&self, world: &World) -> bool {
        [0, self.all()].contains(&world.store.ours)
    }

    fn end_is_exact(&self, world: &World) -> bool {
        let Some(over) = Self::end(world) else { return true };
        let canceled = matches!(over.end, End::Canceled(_));
        let there = match over.end {
            End::Done | End::Failed { saved: true, .. } => {
                world.store.ours == self.all()
            }
            End::Conflict | End::Failed { .. } | End::Canceled(_) => {
                world.store.ours == 0 || world.earlier
            }
        };
        there && canceled == world.accepted
    }

    /// A folder without an entry, of ours.
    fn has_orphan(world: &World) -> bool {
        let mut qubes = world.folders.iter().enumerate();
        qubes.any(|(qube, folder)| {
            matches!(folder, Folder::Ours { .. })
                && world.store.ours & bit(qube) == 0
        })
    }

    fn nothing_left(&self, world: &World) -> bool {
        let Some(over) = Self::end(world) else { return true };
        if over.owed {
            // The next run can undo it.
            world.note || !Self::has_orphan(world)
        } else {
            let stage = world.stage.is_some();
            !stage && !world.note && !Self::has_orphan(world)
        }
    }

    fn conflict_is_theirs(&self, world: &World) -> bool {
        let conflict =
            Self::end(world).is_some_and(|over| over.end == End::Conflict);
        let same = self.beside == Beside::SameName && world.store.theirs;
        let folder = world.folders.contains(&Folder::Theirs);
        !conflict || same || folder || world.earlier
    }

    const SAFETY: [(&'static str, Test<Self>); 6] = [
        (K1, Self::entries_have_folders),
        (K2, Self::all_or_none),
        (K3, |_, world| !world.hurt),
        (K4, Self::end_is_exact),
        (K5, Self::nothing_left),
        (K6, Self::conflict_is_theirs),
    ];

    /// States in which the above could have failed, as far as the
    /// configuration has room for them.
    fn twins(&self) -> Vec<(&'static str, Test<Self>)> {
        let mut twins: Vec<(&'static str, Test<Self>)> =
            vec![("it is done", |_, world| {
                Self::end(world).is_some_and(is_done)
            })];
        if self.cancel {
            twins.push(("it is canceled", |_, world| {
                let end = Self::end(world).map(|over| over.end);
                matches!(end, Some(End::Canceled(_)))
            }));
        }
        if self.crashes > 0 {
            twins.push(("the next run finds that it was done", |_, world| {
                matches!(world.state, State::Keeping)
            }));
            twins.push(("the next run finds folders and no entry", |_, w| {
                matches!(w.state, State::Sweeping(_))
                    && w.note
                    && Self::has_orphan(w)
            }));
            twins.push(("the next run finds a stage", |_, world| {
                world.stage.is_some_and(|stage| !stage.held)
            }));
            // Only a kill leaves these.
            twins.push(("the next run finds a name a cut can take", |_, w| {
                let unnamed =
                    |f: &Folder| matches!(f, Folder::Ours { named: false, .. });
                matches!(w.state, State::Sweeping(_))
                    && w.folders.iter().any(unnamed)
            }));
            twins.push(("the next run finds a save a cut can take", |_, w| {
                matches!(w.state, State::Sweeping(_)) && w.unsure
            }));
        }
        if self.faults > 0 {
            twins.push(("it fails, and all is in the store", |_, world| {
                let end = Self::end(world).map(|over| over.end);
                matches!(end, Some(End::Failed { saved: true, .. }))
            }));
        }
        if self.faults > 1 || (self.faults > 0 && self.cancel) {
            twins.push(("a folder is left, and the note too", |_, world| {
                Self::end(world).is_some() && Self::has_orphan(world)
            }));
        }
        match self.beside {
            Beside::Nobody => {}
            Beside::Writer => {
                twins.push(("both are in the store", |model, world| {
                    let store = world.store;
                    store.theirs && store.ours == model.all()
                }));
            }
            Beside::SameName | Beside::Folder => {
                twins.push(("it is a conflict", |_, world| {
                    let end = Self::end(world).map(|over| over.end);
                    end == Some(End::Conflict)
                }));
            }
            Beside::Sweep => {
                twins.push(("somebody sweeps beside a live stage", |_, w| {
                    matches!(w.other, Other::Sweeps(_))
                        && w.stage.is_some_and(|stage| stage.held)
                }));
            }
        }
        twins
    }
}
