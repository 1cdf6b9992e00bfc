//! The worlds of the phase machines: counts, verdicts, and mutants.
//!
//! Every count and every length is pinned, so that no change of a machine or
//! of its world goes unseen. What is right must hold with all its twins; each
//! mutant must violate exactly what is written beside it. A length counts the
//! steps of the environment too; the step "wait" is not counted.

#![cfg(feature = "check")]
#![expect(clippy::panic, reason = "a test may fail loudly")]

mod again;
mod backup;
mod commit;
mod stuck;

use qubes_fsm::check::explore::{
    Limits, NO_DEADLOCK, Report, Verdict, explore,
};
use qubes_fsm::check::phases::ahead::Pool;
use qubes_fsm::check::phases::cancel::{Cancelation, Mutant};
use qubes_fsm::check::phases::members::Source;
use qubes_fsm::check::phases::restore::{Binding, Edit, Flaw, Reading, Step};
use qubes_fsm::check::{Coverage, Kind, Model};
use qubes_fsm::fsm::members::{Announces, Members};
use qubes_fsm::fsm::restore::{Cause, End, Failure, Plan, State, Variant};
use qubes_fsm::fsm::{ahead, members};

/// States, edges, depth.
type Counts = [usize; 3];
/// What is violated, and in how many steps.
type Found = [(&'static str, usize)];

fn all<M: Model>(model: &M) -> Report<M> {
    let report = explore(model, Limits::default());
    assert_eq!(report.coverage, Coverage::Exhaustive);
    report
}

/// The short names of what is violated, twins excluded; a deadlock is a
/// violation of L too, and shown there.
fn found<M: Model>(report: &Report<M>) -> Vec<(&'static str, usize)> {
    let verdicts = report.verdicts.iter();
    let verdicts = verdicts.filter(|(name, kind, _)| {
        *kind != Kind::Sometimes && *name != NO_DEADLOCK
    });
    verdicts
        .filter_map(|(name, _, verdict)| match verdict {
            Verdict::Holds => None,
            Verdict::Violated(run) => {
                let short = name.split(' ').next().unwrap_or(name);
                Some((short, run.as_ref().map_or(0, |r| r.prefix.len())))
            }
            Verdict::Undecided => panic!("{name}: undecided"),
        })
        .collect()
}

/// What is right: everything holds, the twins too.
fn holds<M: Model>(name: &str, model: &M, counts: Counts) {
    let report = all(model);
    let verdicts = report.verdicts.iter();
    let broken = verdicts.filter(|v| !matches!(v.2, Verdict::Holds));
    let broken: Vec<_> = broken.map(|(name, ..)| name).collect();
    assert!(report.proves(), "{name}: {broken:?}");
    let is = [report.states, report.edges, report.depth];
    assert_eq!(is, counts, "{name}");
}

/// What is wrong: found, by these properties and no others.
fn fails<M: Model>(name: &str, model: &M, wanted: &Found) {
    assert_eq!(found(&all(model)), wanted, "{name}");
}

//= spec/phases.md#m1-only-whole-members-are-given
//= spec/phases.md#m2-in-order-each-once
//= spec/phases.md#m3-a-clean-end-means-everything
//= spec/phases.md#l-every-fair-path-ends
#[test]
fn members_holds() {
    for (announces, number, counts) in [
        (Announces::Before, 4, [76, 114, 18]),
        (Announces::Before, 6, [112, 170, 26]),
        (Announces::After, 4, [65, 92, 18]),
        (Announces::After, 6, [93, 132, 26]),
    ] {
        let name = format!("{announces:?} {number}");
        holds(&name, &Source::new(announces, number), counts);
    }
}

#[test]
fn members_with_less_room_waits_for_ever() {
    let source = |announces, room| Source { room, ..Source::new(announces, 4) };
    fails("before, 1", &source(Announces::Before, 1), &[("L", 3)]);
    fails("before, 2", &source(Announces::Before, 2), &[("L", 7)]);
    fails("after, 1", &source(Announces::After, 1), &[("L", 4)]);
    // More room than is needed does no harm.
    for announces in [Announces::Before, Announces::After] {
        fails("more", &source(announces, 4), &[]);
    }
}

#[test]
fn members_mistaken_for_the_other_kind_is_found() {
    let mistaken = |announces, taken_for, dies| Source {
        machine: Members::new(taken_for),
        dies,
        ..Source::new(announces, 4)
    };
    let (before, after) = (Announces::Before, Announces::After);
    fails("read too early", &mistaken(before, after, true), &[("M1", 3)]);
    fails("read too early", &mistaken(before, after, false), &[("M1", 3)]);
    fails(
        "last whole member missing",
        &mistaken(after, before, true),
        &[("M3", 5), ("L", 7)],
    );
    fails("no room", &mistaken(after, before, false), &[("L", 7)]);
}

#[test]
fn members_mutants_are_found() {
    use members::Variant;
    let rows: [(_, _, &Found); 4] = [
        (Variant::ReadAheadKept, Announces::After, &[("M2", 19), ("M3", 19)]),
        (Variant::HeldKept, Announces::Before, &[("M2", 10)]),
        (Variant::GivenAfterDeath, Announces::Before, &[("M1", 5), ("M3", 5)]),
        (Variant::LastDropped, Announces::Before, &[("M3", 17)]),
    ];
    for (variant, announces, wanted) in rows {
        let mut source = Source::new(announces, 4);
        source.machine.variant = variant;
        fails(&format!("{variant:?}"), &source, wanted);
    }
    assert_eq!(Variant::default(), Variant::Right);
}

//= spec/phases.md#a1-in-order-each-once
//= spec/phases.md#a2-no-more-chunks-than-slots
//= spec/phases.md#a3-as-if-serial
//= spec/phases.md#a4-nothing-runs-at-the-end
#[test]
fn ahead_holds() {
    for (slots, chunks, counts) in [
        (1, 4, [485, 405, 18]),
        (2, 4, [1_213, 1_634, 18]),
        (3, 4, [2_403, 4_203, 18]),
        (4, 6, [43_935, 100_448, 26]),
    ] {
        let variant = ahead::Variant::Right;
        let pool = Pool { slots, chunks, variant };
        holds(&format!("{slots}, {chunks}"), &pool, counts);
    }
}

#[test]
fn ahead_mutants_are_found() {
    use ahead::Variant;
    let rows: [(_, &Found); 5] = [
        (Variant::AsFinished, &[("A1", 4), ("A3", 4)]),
        (Variant::BadFirst, &[("A1", 4), ("A3", 4)]),
        (Variant::SourceFirst, &[("A3", 3)]),
        (Variant::NoWait, &[("A4", 4)]),
        (Variant::NoBound, &[("A2", 3)]),
    ];
    for (variant, wanted) in rows {
        let pool = Pool { slots: 2, chunks: 4, variant };
        fails(&format!("{variant:?}"), &pool, wanted);
    }
    assert_eq!(Variant::default(), Variant::Right);
}

//= spec/phases.md#c1-canceled-iff-accepted
//= spec/phases.md#c2-at-an-end-no-child-is-left
//= spec/phases.md#c3-failed-only-by-itself
//= spec/phases.md#c4-no-signal-to-others
//= spec/phases.md#l-every-fair-path-ends
#[test]
fn cancel_holds() {
    for (cancelers, stubborn, counts) in [
        (1, false, [174, 297, 18]),
        (1, true, [170, 287, 18]),
        (2, false, [588, 1_286, 19]),
        (2, true, [572, 1_238, 19]),
    ] {
        let base = Cancelation::new(cancelers);
        let model = Cancelation { stubborn, ..base };
        holds(&format!("{cancelers}, {stubborn}"), &model, counts);
    }
}

#[test]
fn cancel_mutants_are_found() {
    let rows: [(_, &Found); 13] = [
        (Mutant::FlagAfterKill, &[("C1", 12), ("C3", 11), ("C4", 9), ("L", 6)]),
        (Mutant::RegisterBlind, &[("L", 4)]),
        (Mutant::SecondUnregistered, &[("L", 11)]),
        (Mutant::FlagOnly, &[("L", 4)]),
        (Mutant::LookThenPublish, &[("C1", 18)]),
        (Mutant::FailUndecided, &[("C1", 10)]),
        (Mutant::RecordDropped, &[("C1", 10), ("C3", 10)]),
        (Mutant::ReapFirst, &[("C4", 7)]),
        (Mutant::SignalLater, &[("C4", 9)]),
        (Mutant::SignalLaterByPidfd, &[]),
        (Mutant::RefusedLeft, &[("C2", 6)]),
        (Mutant::SecondSignals, &[]),
        (Mutant::TermOnly, &[]),
    ];
    for (mutant, wanted) in rows {
        let model = Cancelation { mutant, ..Cancelation::new(1) };
        fails(&format!("{mutant:?}"), &model, wanted);
        // A second canceler changes no length, but it is what this one needs.
        let second: &Found = if mutant == Mutant::SecondSignals {
            &[("C4", 10)]
        } else {
            wanted
        };
        let model = Cancelation { mutant, ..Cancelation::new(2) };
        fails(&format!("{mutant:?}, two"), &model, second);
    }
    // Children that obey hide that nobody sends KILL.
    let base = Cancelation::new(1);
    let model = Cancelation { mutant: Mutant::TermOnly, ..base };
    let model = Cancelation { stubborn: true, ..model };
    fails("TERM only, stubborn", &model, &[("L", 4)]);
}

//= spec/phases.md#r7-what-is-honest-is-restored
#[test]
fn restore_of_an_honest_archive_ends_well() {
    let honest = Reading::honest(2, 2);
    holds("honest", &honest, [35, 34, 34]);
    for digest in 0..3_usize {
        let mut reading = honest;
        reading.archive.digest = digest as u8;
        for (verify, hold, edges) in [
            (false, false, 34),
            (true, false, 31),
            (true, true, 32),
            (false, true, 35),
        ] {
            let plan = Plan { verify, hold, ..reading.plan };
            let reading = Reading { plan, ..reading };
            let edges = edges + digest;
            let counts = [edges + 1, edges, edges];
            holds(&format!("{plan:?}, {digest}"), &reading, counts);
        }
        // Omitted, since nothing vouches for what the header would say.
        reading.archive.headerless = true;
        let counts = [31 + digest, 30 + digest, 30 + digest];
        holds(&format!("headerless, {digest}"), &reading, counts);
    }
}

/// What binds the chunks, against what an attacker with so many edits does.
/// R3 cannot hold where nothing binds; all else does.
//= spec/phases.md#r3-what-is-published-was-backed-up
//= spec/phases.md#r3x-the-same-of-qubesxml
#[test]
fn restore_is_as_good_as_what_binds_the_chunks() {
    let unbound: [(&Found, Counts); 3] = [
        (&[("R3", 21), ("R3x", 11)], [2_963, 3_826, 35]),
        (&[("R3", 17), ("R3x", 11)], [12_193, 16_794, 35]),
        (&[("R3", 17), ("R3x", 11)], [27_515, 39_418, 35]),
    ];
    let rows: [(_, _, [(&Found, Counts); 3]); 5] = [
        (Binding::Nothing, false, unbound),
        (
            Binding::Checksum,
            false,
            [
                // One chunk is all of `qubes.xml`: its checksum is no help.
                (&[("R3x", 11)], [2_874, 3_718, 35]),
                (&[("R3", 21), ("R3x", 11)], [11_276, 15_563, 35]),
                (&[("R3", 17), ("R3x", 11)], [23_944, 34_254, 35]),
            ],
        ),
        (
            Binding::PerChunk,
            false,
            [
                (&[], [2_230, 2_844, 35]),
                (&[], [5_389, 7_285, 35]),
                (&[], [7_468, 10_337, 35]),
            ],
        ),
        // Published file by file, a manifest comes too late.
        (Binding::ManifestAtEnd, false, unbound),
        (
            Binding::ManifestAtEnd,
            true,
            [
                (&[], [2_696, 3_582, 35]),
                (&[], [11_351, 16_111, 35]),
                (&[], [26_164, 38_471, 35]),
            ],
        ),
    ];
    for (binding, hold, columns) in rows {
        for (edits, (wanted, counts)) in (1..).zip(columns) {
            let base = Reading::attacked(2, 2, edits);
            let plan = Plan { hold, ..base.plan };
            let reading = Reading { plan, binding, ..base };
            let name = format!("{binding:?}, hold {hold}, {edits} edits");
            let report = all(&reading);
            assert_eq!(found(&report), wanted, "{name}");
            let is = [report.states, report.edges, report.depth];
            assert_eq!(is, counts, "{name}");
            // The twins are met even where a property fails.
            let twins = report.verdicts.iter();
            let mut twins = twins.filter(|v| v.1 == Kind::Sometimes);
            assert!(twins.all(|v| matches!(v.2, Verdict::Holds)), "{name}");
        }
    }
}

#[test]
fn restore_that_keeps_going_holds() {
    for (chunks, edits, hold, verify, counts) in [
        (2, 3, false, false, [33_953, 51_506, 35]),
        (3, 3, false, false, [78_165, 130_466, 43]),
        (2, 2, true, false, [15_011, 21_821, 35]),
        (3, 2, false, true, [30_462, 46_535, 40]),
    ] {
        let base = Reading::attacked(2, chunks, edits);
        let plan = Plan { keep_going: true, hold, verify, ..base.plan };
        let name = format!("{chunks}, {edits}, hold {hold}");
        holds(&name, &Reading { plan, ..base }, counts);
    }
}

//= spec/phases.md#r9-one-archive-one-meaning
#[test]
fn restore_takes_one_form_of_an_archive() {
    let base = Reading::attacked(2, 2, 3);
    holds("names", &Reading { names: true, ..base }, [7_833, 10_357, 35]);
}

fn mutant(base: Reading, variant: Variant) -> Reading {
    Reading { plan: Plan { variant, ..base.plan }, ..base }
}

//= spec/phases.md#r1-nothing-unverified-is-decoded
//= spec/phases.md#r2-what-is-published-is-whole
//= spec/phases.md#r4-done-means-everything
//= spec/phases.md#r5-canceled-iff-accepted
//= spec/phases.md#r10-done-means-a-header
#[test]
fn restore_mutants_are_found() {
    let base = Reading::attacked(2, 3, 2);
    let keeps = Plan { keep_going: true, ..base.plan };
    let keeps = Reading { plan: keeps, ..base };
    let verify = Plan { verify: true, ..base.plan };
    let verify = Reading { plan: verify, ..base };
    let names = Reading { names: true, ..Reading::attacked(2, 3, 3) };
    let honest = Reading::honest(2, 2);
    let mut third = honest;
    third.archive.headerless = true;
    third.archive.digest = 2;
    let mut manifest = Reading::attacked(2, 2, 2);
    manifest.binding = Binding::ManifestAtEnd;
    manifest.plan.hold = true;
    let rows: [(_, _, &Found); 19] = [
        (base, Variant::FeedsEarly, &[("R1", 6)]),
        (third, Variant::DigestForgotten, &[("R7", 8)]),
        (
            base,
            Variant::PublishesEarly,
            &[("R2", 6), ("R3", 12), ("R3x", 6), ("R4", 38)],
        ),
        (base, Variant::NumbersUnchecked, &[("R3", 17)]),
        (honest, Variant::LastUnfinished, &[("R7", 32)]),
        (base, Variant::NotCounted, &[("R4", 9)]),
        (keeps, Variant::ErrorsLogged, &[("R4", 23)]),
        (verify, Variant::VerifiesMacsOnly, &[("R4", 7), ("R8", 10)]),
        (base, Variant::SuccessUndecided, &[("R5", 38)]),
        (base, Variant::FailureUndecided, &[("R5", 3)]),
        (manifest, Variant::ManifestIgnored, &[("R3", 28), ("R3x", 31)]),
        (manifest, Variant::RenamesEarly, &[("R5", 33)]),
        (base, Variant::StrippedHeaderIsDone, &[("R10", 38)]),
        (names, Variant::FilesTwice, &[("R9", 48)]),
        (names, Variant::MacNameUnchecked, &[("R9", 42)]),
        // These survive: the inner end and the count catch what they let
        // through. Kept for their clearer messages.
        (base, Variant::LastMacOptional, &[]),
        (keeps, Variant::LastMacOptional, &[]),
        (base, Variant::LostForgotten, &[]),
        (keeps, Variant::LostForgotten, &[]),
    ];
    for (base, variant, wanted) in rows {
        fails(&format!("{variant:?}"), &mutant(base, variant), wanted);
        // The same world finds nothing wrong with what is right.
        fails("right", &mutant(base, Variant::Right), &[]);
    }
    assert_eq!(Variant::default(), Variant::Right);
}

//= spec/phases.md#r6-nothing-temporary-is-left
//= spec/phases.md#r8-verified-means-decoded
#[test]
fn flaws_of_the_driver_are_found() {
    let base = Reading::attacked(2, 3, 2);
    let verify = Plan { verify: true, ..base.plan };
    let verify = Reading { plan: verify, ..base };
    let names = Reading { names: true, ..Reading::attacked(2, 3, 3) };
    let rows: [(_, _, &Found); 4] = [
        (base, Flaw::AnyEnd, &[("R2", 13), ("R3", 13)]),
        (verify, Flaw::AnyEnd, &[("R8", 23)]),
        (base, Flaw::LeavesTemporary, &[("R6", 7)]),
        (names, Flaw::IndexAnywhere, &[("R9", 42)]),
    ];
    for (base, flaw, wanted) in rows {
        fails(&format!("{flaw:?}"), &Reading { flaw, ..base }, wanted);
    }
    // Two edits leave no way to end well with another file first.
    let fewer = Reading { edits: 2, flaw: Flaw::IndexAnywhere, ..names };
    fails("two edits", &fewer, &[]);
}

/// With two chunks a file nothing lies between begin and end: only a chunk
/// that comes again shows that numbers are unchecked.
#[test]
fn a_chunk_that_is_repeated_needs_no_third() {
    let base = Reading::attacked(2, 2, 2);
    let unchecked = mutant(base, Variant::NumbersUnchecked);
    fails("repeated", &unchecked, &[("R3", 21)]);
}

/// How reading ends if the archive is cut before the member at `place`.
fn cut_at(place: u8) -> State {
    let reading = Reading { edits: 1, ..Reading::honest(2, 2) };
    let cut = Edit::Jump(reading.archive.len());
    let mut worlds = reading.initial();
    loop {
        let Some(world) = worlds.pop() else { panic!("it has no end") };
        if reading.is_end(&world) {
            return world.state;
        }
        let mut steps = Vec::new();
        reading.steps(&world, &mut steps);
        let wanted = |step: &Step| match step {
            Step::Answer(..) => true,
            Step::Edit(edit, _) => world.place == place && *edit == cut,
            Step::Cancel => false,
        };
        // An edit is offered after what is honest.
        let next = steps.into_iter().rfind(|(step, _)| wanted(step));
        worlds.extend(next.map(|(_, world)| world));
    }
}

#[test]
fn an_archive_that_is_cut_anywhere_fails() {
    let members = Reading::honest(2, 2).archive.len();
    assert_eq!(members, 12);
    for place in 0..members {
        let failed = |cause| State::Over(End::Failed(cause));
        let wanted = match place {
            // Without a header, with half a pair, with nothing behind it.
            0..=3 | 5 | 7 | 9 | 11 => failed(Cause::Truncated),
            // After `qubes.xml`, and after the first of two whole files.
            4 | 8 => failed(Cause::Missing),
            // Within a file: the decoder has not seen its inner end.
            _ => failed(Cause::Failed(Failure(1))),
        };
        assert_eq!(cut_at(place), wanted, "{place}");
    }
    assert_eq!(cut_at(members), State::Over(End::Done));
}
