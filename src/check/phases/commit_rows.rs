//! Which worlds of `commit` are checked, and what each violates.
//!
//! Lives here: what is right, what was done wrong or could be, and the
//! verdicts expected. May not live here: the worlds, running them.

use super::commit::{Beside, Committing, Flaw};
use super::commit_rules::{K1, K2, K3, K4, K5, K6};
use super::rows::{mutant, right};
use super::{ENDS, Phase, World};
use crate::fsm::commit::Variant;

const COMMIT: &str = "commit";

/// The machine as it is.
pub(super) fn commit_right() -> Vec<Phase> {
    let world = |qubes, beside, troubles, about| {
        let model = Committing::troubled(qubes, beside, troubles);
        right(COMMIT, "shipped", World::Committing(model), about)
    };
    vec![
        world(2, Beside::Nobody, 2, "folders first, one save last"),
        world(2, Beside::Writer, 2, "beside a writer of another qube"),
        world(2, Beside::SameName, 2, "somebody may take one of the names"),
        world(2, Beside::Sweep, 2, "a second restore sweeps meanwhile"),
        world(2, Beside::Folder, 2, "somebody may make one of the folders"),
        world(1, Beside::Nobody, 1, "one qube").named(),
        world(3, Beside::Nobody, 2, "more of everything").named(),
        world(3, Beside::Writer, 2, "the same beside a writer").named(),
        world(3, Beside::SameName, 2, "beside a namesake").named(),
        world(3, Beside::Sweep, 2, "beside a second restore").named(),
        world(3, Beside::Folder, 2, "beside a folder").named(),
    ]
}

/// What was done wrong, or could be.
pub(super) fn commit_mutants() -> Vec<Phase> {
    let variant = |protocol, beside, variant, violated, about| {
        let mut model = Committing::troubled(2, beside, 1);
        model.plan.variant = variant;
        let world = World::Committing(model);
        mutant(COMMIT, protocol, world, violated, about)
    };
    let flaw = |protocol, beside, flaw, violated, about| {
        let model = Committing::troubled(2, beside, 1);
        let world = World::Committing(Committing { flaw, ..model });
        mutant(COMMIT, protocol, world, violated, about)
    };
    // A kill, and then a power cut.
    let kept = |protocol, about| {
        let model = Committing::troubled(2, Beside::Nobody, 1);
        let flaw = Flaw::StageKept;
        let model = Committing { crashes: 2, flaw, ..model };
        mutant(COMMIT, protocol, World::Committing(model), &[K1], about)
    };
    vec![
        variant(
            "entry-first",
            Beside::Nobody,
            Variant::EntryFirst,
            &[K1, K4],
            "entries first, files later (client 02bc30a)",
        )
        .shown(),
        variant(
            "saved-first",
            Beside::Nobody,
            Variant::SavedFirst,
            &[K1, K4],
            "the save comes before the moves",
        ),
        variant(
            "one-per-qube",
            Beside::Nobody,
            Variant::OnePerQube,
            &[K1, K2, K4, K6],
            "one save for each qube",
        ),
        variant(
            "cancel-saves",
            Beside::Nobody,
            Variant::CancelSaves,
            &[K1, K2, K4, K6],
            "a cancel saves what is there (f4194c9d, 2014)",
        )
        .shown(),
        variant(
            "unnoted",
            Beside::Nobody,
            Variant::Unnoted,
            &[K5, K6],
            "nothing says what is moved",
        ),
        variant(
            "forgets-early",
            Beside::Nobody,
            Variant::ForgetsEarly,
            &[K4, K5, K6],
            "the note is removed before the save",
        ),
        variant(
            "forgets-owed",
            Beside::Nobody,
            Variant::ForgetsOwed,
            &[K5, K6],
            "the note is removed although nothing could be undone",
        ),
        variant(
            "not-undone",
            Beside::Nobody,
            Variant::NotUndone,
            &[K5, K6],
            "a cancel undoes nothing",
        ),
        variant(
            "undecided",
            Beside::Nobody,
            Variant::Undecided,
            &[K4],
            "the gate is not asked before the save",
        ),
        variant(
            "swept-unlocked",
            Beside::Sweep,
            Variant::SweptUnlocked,
            &[K1, K5, K6],
            "what was left is swept without the store's lock",
        ),
        variant(
            "files-unsynced",
            Beside::Nobody,
            Variant::FilesUnsynced,
            &[K1],
            "contents are not synced",
        ),
        variant(
            "dirs-unsynced",
            Beside::Nobody,
            Variant::DirsUnsynced,
            &[K1],
            "new names are not synced",
        ),
        variant(
            "unlocked-early",
            Beside::Sweep,
            Variant::UnlockedEarly,
            &[K1, K5],
            "the lock is given back before the save",
        ),
        variant(
            "checked-early",
            Beside::SameName,
            Variant::CheckedEarly,
            &[K3],
            "names are looked at before the lock is there",
        ),
        variant(
            "unchecked",
            Beside::SameName,
            Variant::Unchecked,
            &[K1, K3],
            "names are not looked at",
        ),
        flaw(
            "loaded-early",
            Beside::Writer,
            Flaw::LoadedEarly,
            &[K3],
            "what is saved was loaded before the lock",
        ),
        flaw(
            "judged-unsure",
            Beside::Sweep,
            Flaw::JudgedUnsure,
            &[K5, K6],
            "a note is judged by a store that a power cut may take back",
        ),
        flaw(
            "lock-file",
            Beside::Nobody,
            Flaw::LockFile,
            &[ENDS],
            "the store's lock is a file in /run: a kill leaves it",
        ),
        kept(
            "stage-kept",
            "the stage of a killed run is taken as if it were on the disk",
        ),
        flaw(
            "live-stages",
            Beside::Sweep,
            Flaw::LiveStages,
            &[K3],
            "stages are swept that somebody holds",
        ),
        flaw(
            "every-folder",
            Beside::Folder,
            Flaw::EveryFolder,
            &[K3],
            "every folder is swept that the store does not name",
        ),
        flaw(
            "undone-by-name",
            Beside::Folder,
            Flaw::UndoneByName,
            &[K3],
            "what the note names is removed, whoever made it since",
        ),
        flaw(
            "replaces",
            Beside::Folder,
            Flaw::Replaces,
            &[K3],
            "a rename replaces what is there",
        ),
    ]
}
