//! `backup` in its world: what is right holds, and every error is found.

use std::ops::ControlFlow::{Break, Continue};

use qubes_fsm::check::explore::{Limits, Verdict, explore};
use qubes_fsm::check::phases::backup::{Flaw, Step, Writing};
use qubes_fsm::fsm::backup::{
    Backup, Effect, End, Event, Failure, Over, Plan, State, Target, Variant,
};

use crate::{Found, fails, holds};

const FILE: Target = Target::File;
const STREAM: Target = Target::Stream;

fn troubled(target: Target) -> Writing {
    Writing::troubled(target, &[2, 3], 2)
}

//= spec/phases.md#b1-under-the-name-stands-a-whole-archive
//= spec/phases.md#b2-done-means-whole-and-durable
//= spec/phases.md#b4-canceled-iff-accepted-and-nothing-there
#[test]
fn holds_in_every_shape() {
    let shapes = [
        (FILE, vec![4, 4], 1, [745, 775, 25]),
        (FILE, vec![2, 3], 2, [797, 827, 22]),
        (FILE, vec![2, 3, 2], 1, [741, 777, 27]),
        (FILE, vec![0, 2, 3], 1, [699, 734, 27]),
        (STREAM, vec![4, 4], 1, [270, 298, 23]),
        (STREAM, vec![2, 3], 2, [259, 287, 20]),
        (STREAM, vec![2, 3, 2], 1, [271, 305, 25]),
        (STREAM, vec![0, 2, 3], 1, [253, 286, 25]),
    ];
    for (target, lengths, faults, counts) in shapes {
        let name = format!("{target:?} {lengths:?} {faults}");
        let model = Writing::troubled(target, &lengths, faults);
        holds(&name, &model, counts);
    }
    // Every length that matters, in every place.
    for target in [FILE, STREAM] {
        for first in 0..=4 {
            for second in 0..=4 {
                let model = Writing::troubled(target, &[first, second], 1);
                let report = explore(&model, Limits::default());
                assert!(report.proves(), "{target:?} {first} {second}");
            }
        }
    }
}

#[test]
fn honest_ends_done_and_nothing_else_happens() {
    for target in [FILE, STREAM] {
        let report =
            explore(&Writing::honest(target, &[4, 3, 0]), Limits::default());
        assert!(report.proves());
        // One way through, so one edge less than states.
        assert_eq!(report.edges + 1, report.states);
    }
}

//= spec/phases.md#b1c-the-same-after-a-power-cut
//= spec/phases.md#b5-no-child-and-no-temporary-file-is-left
//= spec/phases.md#b6-the-first-failure-is-the-cause
#[test]
fn mutants_are_found() {
    let rows: [(_, _, &Found); 18] = [
        (
            FILE,
            Variant::ExitIgnored,
            &[("B1", 16), ("B1c", 17), ("B2", 17), ("B5", 17), ("B6", 11)],
        ),
        (
            STREAM,
            Variant::ExitIgnored,
            &[("B2", 15), ("B3", 17), ("B5", 15), ("B6", 10)],
        ),
        (FILE, Variant::ReapedLate, &[]),
        (STREAM, Variant::ReapedLate, &[("B3", 16)]),
        (STREAM, Variant::DecidesLate, &[("B2", 17), ("B3", 16), ("B4", 19)]),
        (FILE, Variant::Undecided, &[("B4", 20)]),
        (STREAM, Variant::Undecided, &[("B3", 16), ("B4", 19)]),
        (FILE, Variant::DecidesPublished, &[("B4", 21)]),
        (FILE, Variant::Unsynced, &[("B1c", 19), ("B2", 19)]),
        (FILE, Variant::RenamedFirst, &[("B1c", 19)]),
        (FILE, Variant::DirUnsynced, &[("B2", 19)]),
        (FILE, Variant::CauseReplaced, &[("B4", 4), ("B6", 4)]),
        (FILE, Variant::StopSkipped, &[("B5", 7)]),
        (STREAM, Variant::StopSkipped, &[("B5", 6)]),
        (FILE, Variant::RemoveSkipped, &[("B5", 4)]),
        (FILE, Variant::LeftUnsaid, &[("B5", 5)]),
        (FILE, Variant::MacFirst, &[("B1", 19), ("B1c", 20), ("B2", 20)]),
        (STREAM, Variant::MacFirst, &[("B2", 18)]),
    ];
    for (target, variant, wanted) in rows {
        let mut model = troubled(target);
        model.plan.variant = variant;
        fails(&format!("{target:?} {variant:?}"), &model, wanted);
    }
}

//= spec/phases.md#b7-no-empty-chunk-behind-others
//= spec/phases.md#b8-what-a-child-said-is-kept
#[test]
fn flaws_of_a_driver_are_found() {
    let rows: [(_, _, &Found); 11] = [
        (FILE, Flaw::FinalName, &[("B1", 1), ("B1c", 2), ("B4", 5)]),
        (FILE, Flaw::NoLookAhead, &[("B7", 9)]),
        (STREAM, Flaw::NoLookAhead, &[("B7", 9)]),
        (
            FILE,
            Flaw::ByteLost,
            &[("B1", 19), ("B1c", 20), ("B2", 20), ("B7", 14)],
        ),
        (STREAM, Flaw::ByteLost, &[("B2", 18), ("B7", 14)]),
        (
            FILE,
            Flaw::NumbersGoOn,
            &[("B1", 19), ("B1c", 20), ("B2", 20), ("B7", 11)],
        ),
        (STREAM, Flaw::NumbersGoOn, &[("B2", 18), ("B7", 11)]),
        (FILE, Flaw::StderrLate, &[("L", 4)]),
        (FILE, Flaw::StderrLost, &[("B8", 10)]),
        (FILE, Flaw::KilledFails, &[("B6", 9)]),
        (STREAM, Flaw::KilledFails, &[("B6", 8)]),
    ];
    for (target, flaw, wanted) in rows {
        let model = Writing { flaw, ..troubled(target) };
        fails(&format!("{target:?} {flaw:?}"), &model, wanted);
    }
}

/// The archiver dies behind its last byte: only its exit status tells, and
/// the mac of the last chunk is never written.
//= spec/phases.md#b3-a-stream-is-whole-only-once-decided
#[test]
fn the_last_mac_waits_for_the_archiver() {
    let model = troubled(STREAM);
    let report = explore(&model, Limits::default());
    let dies = "a child dies";
    let twin = report.verdicts.iter().find(|(name, ..)| *name == dies);
    assert!(matches!(twin, Some((.., Verdict::Holds))));
    let mut wrong = model;
    wrong.plan.variant = Variant::ReapedLate;
    let report = explore(&wrong, Limits::default());
    let Some(run) = report
        .verdicts
        .iter()
        .find(|(name, ..)| name.starts_with("B3"))
        .and_then(|(name, ..)| report.violation(name))
    else {
        panic!("B3 holds")
    };
    let steps: Vec<_> = run.prefix.iter().map(|(step, _)| *step).collect();
    assert!(steps.iter().any(|step| matches!(step, Step::Dies(..))));
    let last = steps.last();
    assert!(
        matches!(last, Some(Step::Answer(Effect::EmitMac(_), Event::Ok))),
        "{last:?}"
    );
}

/// What fails behind the rename leaves the archive where it is.
#[test]
fn what_is_in_place_stays() {
    let (files, variant) = (1, Variant::Right);
    let plan = Plan { files, target: FILE, variant };
    let state = State::SyncingDir;
    let failed = Backup { plan, state }.step(Event::Failed(Failure(7)));
    let stopped = failed.and_then(|machine| machine.step(Event::Ok));
    let end = End::Failed { cause: Failure(7), published: true };
    let over = State::Over(Over { end, left: false });
    assert_eq!(stopped.map(|machine| machine.state), Ok(over));
}

/// Whatever an effect allows is taken, from every state that any answer leads
/// to; nothing else is.
#[test]
fn every_answer_has_its_row() {
    let events = [
        Event::Ok,
        Event::Filled { more: true },
        Event::Filled { more: false },
        Event::Failed(Failure(3)),
        Event::Canceled,
    ];
    for (target, wanted) in [(FILE, 49), (STREAM, 40)] {
        let plan = Plan { files: 2, target, variant: Variant::Right };
        let mut machines = vec![Backup::new(plan)];
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
                // Two chunks of each file.
                let deep =
                    |state| matches!(state, State::Filling(at) if at.chunk > 1);
                if let Ok(to) = taken
                    && !deep(to.state)
                    && !machines.contains(&to)
                {
                    machines.push(to);
                }
            }
        }
        assert_eq!(machines.len(), wanted, "{target:?}");
    }
}
