//! `commit` in its world: what is right holds, and every error is found.

use std::ops::ControlFlow::{Break, Continue};

use qubes_fsm::check::phases::commit::{Beside, Committing, Flaw};
use qubes_fsm::check::phases::commit_rules::K1;
use qubes_fsm::check::phases::words::lines;
use qubes_fsm::fsm::commit::{
    Commit, Effect, End, Event, Failure, Over, Plan, State, Variant,
};

use crate::{Found, all, fails, holds};

fn troubled(beside: Beside) -> Committing {
    Committing::troubled(2, beside, 1)
}

fn mutant(beside: Beside, variant: Variant) -> Committing {
    let base = troubled(beside);
    Committing { plan: Plan { variant, ..base.plan }, ..base }
}

//= spec/phases.md#k1-an-entry-has-its-folder
//= spec/phases.md#k2-all-qubes-or-none
//= spec/phases.md#k4-done-means-in-the-store
#[test]
fn holds_whoever_is_beside_it() {
    for (beside, counts) in [
        (Beside::Nobody, [632, 1_073, 31]),
        (Beside::Writer, [1_994, 3_878, 34]),
        (Beside::SameName, [1_771, 3_401, 35]),
        (Beside::Sweep, [2_165, 4_422, 35]),
        (Beside::Folder, [985, 2_006, 31]),
    ] {
        holds(&format!("{beside:?}"), &troubled(beside), counts);
    }
    let more = Committing::troubled(3, Beside::Writer, 2);
    holds("more", &more, [8_918, 26_056, 37]);
    // Every other that has twice the trouble.
    for beside in
        [Beside::Nobody, Beside::SameName, Beside::Sweep, Beside::Folder]
    {
        let model = Committing::troubled(3, beside, 2);
        assert!(all(&model).proves(), "{beside:?}");
    }
}

#[test]
fn honest_ends_done_and_nothing_else_happens() {
    let report = all(&Committing::honest(2, Beside::Nobody));
    assert!(report.proves());
    // One way through, so one edge less than states.
    assert_eq!(report.edges + 1, report.states);
}

#[test]
fn mutants_are_found() {
    use Beside::{Nobody, SameName, Sweep};
    let rows: [(_, _, &Found); 15] = [
        (Nobody, Variant::EntryFirst, &[("K1", 9), ("K4", 12)]),
        (Nobody, Variant::SavedFirst, &[("K1", 12), ("K4", 18)]),
        (
            Nobody,
            Variant::OnePerQube,
            &[("K1", 17), ("K2", 15), ("K4", 17), ("K6", 27)],
        ),
        (
            Nobody,
            Variant::CancelSaves,
            &[("K1", 15), ("K2", 14), ("K4", 16), ("K6", 26)],
        ),
        (Nobody, Variant::Unnoted, &[("K5", 13), ("K6", 23)]),
        (Nobody, Variant::ForgetsEarly, &[("K4", 16), ("K5", 17), ("K6", 27)]),
        (Nobody, Variant::ForgetsOwed, &[("K5", 17), ("K6", 28)]),
        (Nobody, Variant::NotUndone, &[("K5", 16), ("K6", 27)]),
        (Nobody, Variant::Undecided, &[("K4", 17)]),
        (Sweep, Variant::SweptUnlocked, &[("K1", 15), ("K5", 17), ("K6", 25)]),
        (Nobody, Variant::FilesUnsynced, &[("K1", 15)]),
        (Nobody, Variant::DirsUnsynced, &[("K1", 15)]),
        (Sweep, Variant::UnlockedEarly, &[("K1", 18), ("K5", 17)]),
        (SameName, Variant::CheckedEarly, &[("K3", 18)]),
        (SameName, Variant::Unchecked, &[("K1", 27), ("K3", 17)]),
    ];
    for (beside, variant, wanted) in rows {
        fails(&format!("{variant:?}"), &mutant(beside, variant), wanted);
    }
    assert_eq!(Variant::default(), Variant::Right);
}

//= spec/phases.md#k3-what-is-not-ours-stays
//= spec/phases.md#k5-nothing-is-left-unsaid
//= spec/phases.md#k6-only-others-are-in-the-way
#[test]
fn flaws_of_a_driver_are_found() {
    let rows: [(_, _, &Found); 7] = [
        (Beside::Writer, Flaw::LoadedEarly, &[("K3", 18)]),
        (Beside::Sweep, Flaw::JudgedUnsure, &[("K5", 23), ("K6", 34)]),
        (Beside::Nobody, Flaw::LockFile, &[("L", 2)]),
        (Beside::Sweep, Flaw::LiveStages, &[("K3", 9)]),
        (Beside::Folder, Flaw::EveryFolder, &[("K3", 3)]),
        (Beside::Folder, Flaw::UndoneByName, &[("K3", 14)]),
        (Beside::Folder, Flaw::Replaces, &[("K3", 12)]),
    ];
    for (beside, flaw, wanted) in rows {
        let model = Committing { flaw, ..troubled(beside) };
        fails(&format!("{flaw:?}"), &model, wanted);
    }
}

/// Only a kill leaves what was never on the disk and reads well, and only a
/// later power cut shows it.
//= spec/phases.md#k1-an-entry-has-its-folder
#[test]
fn a_kill_and_then_a_cut_find_what_one_of_them_does_not() {
    let once = troubled(Beside::Nobody);
    let once = Committing { flaw: Flaw::StageKept, ..once };
    fails("once", &once, &[]);
    let twice = Committing { crashes: 2, ..once };
    fails("twice", &twice, &[("K1", 22)]);
    let report = all(&twice);
    let Some(run) = report.violation(K1) else { panic!("{K1}: holds") };
    let text: Vec<_> =
        lines(&twice, run, K1).into_iter().map(|line| line.text).collect();
    let crashes = ["ended by kill", "power cut"];
    let crashes = crashes.map(|word| text.iter().any(|t| t.contains(word)));
    assert_eq!(crashes, [true, true], "{text:?}");
}

/// What is in the store, and may not be durable, is not undone: the note
/// stays, and the next run judges.
#[test]
fn an_unsure_save_is_left_to_the_next_run() {
    let plan = Plan { qubes: 2, variant: Variant::Right };
    let mut commit = Commit { plan, state: State::Saving(0, 2) };
    let mut effects = Vec::new();
    let answers = [Event::Unsure(Failure(7)), Event::Ok, Event::Ok];
    for event in answers {
        if let Continue(effect) = commit.effect() {
            effects.push(effect);
        }
        match commit.step(event) {
            Ok(next) => commit = next,
            Err(refused) => panic!("{refused}"),
        }
    }
    let save = Effect::Save { from: 0, to: 2 };
    assert_eq!(effects, [save, Effect::Unlock, Effect::Clear]);
    let end = End::Failed { cause: Failure(7), saved: true };
    assert_eq!(commit.state, State::Over(Over { end, owed: true }));
}

/// Whatever an effect allows is taken, from every state that any answer leads
/// to; nothing else is.
#[test]
fn every_answer_has_its_row() {
    let events = [
        Event::Ok,
        Event::Whole,
        Event::Taken,
        Event::Unsure(Failure(3)),
        Event::Failed(Failure(3)),
        Event::Canceled,
    ];
    let plan = Plan { qubes: 2, variant: Variant::Right };
    let mut machines = vec![Commit::new(plan)];
    let mut next = 0;
    while let Some(&machine) = machines.get(next) {
        next += 1;
        for event in events {
            let allowed = match machine.effect() {
                Continue(effect) => effect.allows(event),
                Break(_) => false,
            };
            let taken = machine.step(event);
            assert_eq!(taken.is_ok(), allowed, "{machine:?} {event:?}");
            if let Ok(to) = taken
                && !machines.contains(&to)
            {
                machines.push(to);
            }
        }
    }
    assert_eq!(machines.len(), 67);
}
