//! The table of mutants: each row is found as it says, and the table itself
//! can tell when one is not.

#![cfg(feature = "check")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use qubes_fsm::check::explore::Limits;
use qubes_fsm::check::mutants::{Mutant, Subject, all};
use qubes_fsm::check::phases::rows as phase_rows;
use qubes_fsm::check::report::{HOLDS, UNDECIDED, VIOLATED};
use qubes_fsm::check::trouble::{Flaw, Troubled};
use qubes_fsm::fsm::protocol::SHIPPED;

fn run(mutant: &Mutant) -> qubes_fsm::check::report::Row {
    mutant.run(Limits::default())
}

#[test]
fn each_row_is_found_by_its_property_and_at_its_length() {
    let mut survivors = Vec::new();
    for mutant in all() {
        let row = run(&mutant);
        assert!(row.expected, "{}: {:?}", mutant.name, row.note);
        assert_eq!(row.coverage, "exhaustive", "{}", mutant.name);
        let first = mutant.found.first();
        assert_eq!(row.steps, first.map(|(_, steps)| *steps));
        let verdict = if first.is_none() { HOLDS } else { VIOLATED };
        assert_eq!(row.verdict, verdict, "{}", mutant.name);
        if first.is_none() {
            survivors.push(mutant.name);
        }
        assert!(!mutant.about.is_empty());
    }
    assert_eq!(
        survivors,
        [
            "fixed-name-swept",
            "fixed-name-truncated",
            "signal-later-by-pidfd",
            "reaped-late",
            "last-mac-optional",
            "lost-forgotten",
        ]
    );
}

#[test]
fn the_table_has_every_mutant_there_is() {
    let rows = all();
    let phases = phase_rows::all().into_iter().filter(|p| p.mutant).count();
    let of_phases = |row: &&Mutant| matches!(row.subject, Subject::Phase(_));
    assert_eq!(rows.iter().filter(of_phases).count(), phases);
    assert!(rows.len() >= 100, "{}", rows.len());
    let used: Vec<Flaw> = rows
        .iter()
        .filter_map(|row| match row.subject {
            Subject::Store(model) => Some(model.flaw),
            Subject::Phase(_) => None,
        })
        .collect();
    // The enum's order; the last is the last.
    let last = Flaw::StatFirst as usize;
    let mut numbers: Vec<_> = used.iter().map(|f| *f as usize).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, Vec::from_iter(0..=last));
}

/// Where each open sweeps, no save finds a leftover: that nothing falls says
/// nothing of the sweep.
#[test]
fn a_survivor_that_never_came_near_is_said_to_be() {
    let rows = all();
    let row = rows.iter().find(|row| row.name == "fixed-name-swept").unwrap();
    let alone = Troubled::new(SHIPPED, (1, 0, 1), 1, 0).unwrap();
    let swept = Troubled { flaw: Flaw::SweptEarly, ..alone };
    let subject = Subject::Store(swept);
    let blind = run(&Mutant { subject, about: "no error", ..*row });
    assert_eq!(blind.verdict, HOLDS);
    assert!(!blind.expected);
    assert_eq!(
        blind.note.as_deref(),
        Some("no error: never reached: a save finds a leftover")
    );
}

#[test]
fn a_row_that_is_wrong_is_said_to_be() {
    let rows = all();
    let row = rows.iter().find(|row| row.name == "file-not-synced").unwrap();
    for (found, wanted) in [
        // Another length, another property, nothing.
        (
            "S4 nothing acknowledged is gone in 15",
            &[("S4 nothing acknowledged is gone", 15)][..],
        ),
        ("S3 never torn in 14", &[("S3 never torn", 14)]),
        ("nothing", &[]),
    ] {
        let row = run(&Mutant { found: wanted, ..*row });
        assert!(!row.expected);
        assert_eq!(
            row.note.unwrap(),
            format!(
                "no fsync of the new file: found S4 nothing acknowledged is \
                 gone in 14; wanted {found}"
            )
        );
    }
    // A search that was cut has found nothing for sure, also of a row that
    // is wrong.
    for found in [row.found, &[]] {
        let cut = Mutant { found, ..*row };
        let cut = cut.run(Limits { states_max: 2_000, ..Limits::default() });
        assert!(cut.expected);
        assert_eq!((cut.coverage.as_str(), cut.steps), ("cut", None));
        assert_eq!(
            (cut.verdict.as_str(), cut.property.as_str()),
            (UNDECIDED, "all")
        );
        let note = "no fsync of the new file: cut by a limit";
        assert_eq!(cut.note.as_deref(), Some(note));
    }
}
