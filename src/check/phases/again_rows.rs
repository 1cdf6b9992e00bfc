//! Which worlds with crashes in them are checked, of `backup` and `restore`.
//!
//! Lives here: what is right, what is done wrong, and the verdicts expected.
//! May not live here: the worlds, running them.

use super::backup_again::{self, Place, WritingAgain};
use super::backup_again_rules::{B9, B10, B11};
use super::backup_rules::{B1, B1_CUT, B2};
use super::restore::Reading;
use super::restore_again::{self, Beside, ReadingAgain};
use super::restore_again_rules::{R11, R12, R13, R14};
use super::restore_rules::R2;
use super::rows::{held, mutant, right};
use super::{Phase, World};
use crate::fsm::backup::Variant;

const BACKUP: &str = "backup";
const RESTORE: &str = "restore";
const CRASH: &str = "crash";

/// Backups that are killed or lose power, and are made again.
pub(super) fn backup_again_right() -> Vec<Phase> {
    let world =
        |model, about| right(BACKUP, CRASH, World::WritingAgain(model), about);
    vec![
        world(
            WritingAgain::new(Place::Unnamed, 2),
            "the file has no name until its last; then it is made again",
        ),
        world(
            WritingAgain::new(Place::Renamed, 2),
            "a temporary name, as on FAT; what is left is swept",
        ),
        world(
            WritingAgain::new(Place::Linked, 2),
            "a second name, then the temporary one is removed",
        ),
        world(
            WritingAgain::beside(Place::Renamed, 1),
            "another backup is made in the same directory, and sweeps",
        ),
    ]
}

/// What could be done wrong there.
pub(super) fn backup_again_mutants() -> Vec<Phase> {
    use backup_again::Flaw;
    let world = |protocol, model, violated, about| {
        mutant(BACKUP, protocol, World::WritingAgain(model), violated, about)
    };
    let base = WritingAgain::new(Place::Renamed, 2);
    let beside = WritingAgain::beside(Place::Renamed, 1);
    let named = {
        let mut model = base;
        model.writing.flaw = super::backup::Flaw::FinalName;
        WritingAgain { place: Place::Unnamed, ..model }
    };
    let mut renamed_first = base;
    renamed_first.writing.plan.variant = Variant::RenamedFirst;
    let mut dir_unsynced = base;
    dir_unsynced.writing.plan.variant = Variant::DirUnsynced;
    vec![
        world(
            "final-name",
            named,
            &[B1, B1_CUT],
            "under its final name a killed run leaves a part (2014)",
        ),
        world(
            "renamed-first",
            renamed_first,
            &[B1_CUT],
            "the rename comes before the sync",
        ),
        world(
            "dir-unsynced",
            dir_unsynced,
            &[B2],
            "the directory is never synced: what was done is gone",
        ),
        world(
            "fixed-name",
            WritingAgain { flaw: Flaw::FixedName, ..base },
            &[B9, B10],
            "one temporary name: a leftover blocks the next run",
        )
        .shown(),
        world(
            "not-swept",
            WritingAgain { flaw: Flaw::NotSwept, ..base },
            &[B10],
            "nobody sweeps",
        ),
        world(
            "sweeps-held",
            WritingAgain { flaw: Flaw::SweepsHeld, ..beside },
            &[B11],
            "who sweeps does not look whether a run holds the file",
        ),
        world(
            "not-looked-again",
            WritingAgain { flaw: Flaw::NotLookedAgain, ..beside },
            &[B11],
            "nobody looks whether the file was swept before it was locked",
        ),
    ]
}

/// Restores that are killed or lose power, and are made again.
pub(super) fn restore_again_right() -> Vec<Phase> {
    let row = |protocol, model, about| {
        right(RESTORE, protocol, World::ReadingAgain(model), about)
    };
    let world = |model, about| row(CRASH, model, about);
    let honest = Reading::honest(2, 1);
    let again = ReadingAgain::new;
    let beside = |beside| ReadingAgain { beside, ..again(honest, 1, true) };
    vec![
        world(again(honest, 2, false), "what is in place is in the way"),
        world(again(honest, 2, true), "what is in place is replaced"),
        world(
            again(Reading::attacked(2, 1, 1), 1, true),
            "with an attacker, a failing call and a cancel",
        ),
        row(
            "crash-hold",
            again(held(honest), 1, true),
            "files are held until the end",
        ),
        world(
            ReadingAgain { overwrite: false, ..beside(Beside::File) },
            "somebody makes a file of that name, and keeps it",
        ),
        world(
            beside(Beside::Restore),
            "another restore into the same directory, and it sweeps",
        ),
    ]
}

/// What could be done wrong there.
pub(super) fn restore_again_mutants() -> Vec<Phase> {
    use restore_again::Flaw;
    let honest = Reading::honest(2, 1);
    let base = ReadingAgain::new(honest, 2, true);
    let beside = |beside, flaw| ReadingAgain { beside, flaw, ..base };
    let world = |protocol, model, violated, about| {
        mutant(RESTORE, protocol, World::ReadingAgain(model), violated, about)
    };
    let flaw = |protocol, flaw, violated, about| {
        world(protocol, ReadingAgain { flaw, ..base }, violated, about)
    };
    vec![
        flaw(
            "in-place",
            Flaw::InPlace,
            &[R2, R11],
            "written under its final name: a crash leaves a part there",
        )
        .shown(),
        flaw(
            "renamed-first",
            Flaw::RenamedFirst,
            &[R2, R11],
            "renamed, then its contents are synced",
        )
        .shown(),
        flaw(
            "unsynced",
            Flaw::Unsynced,
            &[R2, R11],
            "the contents are never synced",
        ),
        flaw(
            "names-unsynced",
            Flaw::NamesUnsynced,
            &[R11],
            "names are not synced: what was done is gone",
        ),
        flaw(
            "target-unsynced",
            Flaw::TargetUnsynced,
            &[R11],
            "the name of the directory itself is not synced",
        ),
        flaw(
            "fixed-name",
            Flaw::FixedName,
            &[R12],
            "one name for stages: a leftover blocks the next run",
        ),
        flaw("not-swept", Flaw::NotSwept, &[R13], "nobody sweeps"),
        world(
            "sweeps-held",
            beside(Beside::Restore, Flaw::SweepsHeld),
            &[R14],
            "who sweeps does not look whether a run holds the stage",
        ),
        world(
            "not-looked-again",
            beside(Beside::Restore, Flaw::NotLookedAgain),
            &[R14],
            "nobody looks whether the stage was swept before it was locked",
        ),
        world(
            "replaces",
            ReadingAgain {
                overwrite: false,
                ..beside(Beside::File, Flaw::Replaces)
            },
            &[R14],
            "a rename replaces what is there, unasked",
        ),
    ]
}
