//! `backup` and `restore` after a crash: the next run finds what was left.

use qubes_fsm::check::phases::World;
use qubes_fsm::check::phases::backup_again::{Place, WritingAgain};
use qubes_fsm::check::phases::restore::Reading;
use qubes_fsm::check::phases::restore_again::{Beside, ReadingAgain};
use qubes_fsm::check::phases::rows::all as rows;

use crate::{all, found, holds};

/// The rows of the table, right ones with their counts.
//= spec/phases.md#b1c-the-same-after-a-power-cut
//= spec/phases.md#b9-a-crash-blocks-no-later-run
//= spec/phases.md#b10-what-a-crash-left-is-swept
//= spec/phases.md#b11-no-living-run-loses-its-file
//= spec/phases.md#r2-what-is-published-is-whole
//= spec/phases.md#r11-done-means-durable
//= spec/phases.md#r12-a-crash-blocks-no-later-run
//= spec/phases.md#r13-what-a-crash-left-is-swept
//= spec/phases.md#r14-what-is-not-ours-stays
#[test]
fn whatever_a_crash_leaves_the_next_run_goes_on() {
    let counts = [
        [566, 1_325, 20],
        [660, 2_088, 22],
        [690, 2_183, 23],
        [2_406, 7_939, 24],
        [602, 1_772, 57],
        [843, 2_349, 77],
        [17_705, 27_317, 77],
        [674, 1_332, 78],
        [414, 811, 56],
        [1_842, 4_175, 76],
    ];
    let mut counts = counts.into_iter();
    for phase in rows().into_iter().filter(|phase| !phase.mutant) {
        let name = format!("{} {}", phase.model, phase.world.bounds());
        match phase.world {
            World::WritingAgain(model) => {
                holds(&name, &model, counts.next().unwrap_or_default());
            }
            World::ReadingAgain(model) => {
                holds(&name, &model, counts.next().unwrap_or_default());
            }
            World::Members(_)
            | World::Ahead(_)
            | World::Cancel(_)
            | World::Writing(_)
            | World::Reading(_)
            | World::Committing(_) => {}
        }
    }
    assert_eq!(counts.next(), None);
}

/// More of everything, where the table has one of each.
#[test]
fn more_crashes_change_nothing() {
    for place in [Place::Unnamed, Place::Renamed, Place::Linked] {
        let report = all(&WritingAgain::new(place, 3));
        assert!(report.proves(), "{place:?}");
        let report = all(&WritingAgain::beside(place, 2));
        assert!(place == Place::Unnamed || report.proves(), "{place:?}");
    }
    let honest = Reading::honest(2, 1);
    for overwrite in [false, true] {
        for beside in [Beside::Nobody, Beside::File, Beside::Restore] {
            let model = ReadingAgain {
                beside,
                ..ReadingAgain::new(honest, 3, overwrite)
            };
            let report = all(&model);
            assert!(report.proves(), "{overwrite} {beside:?}");
        }
    }
}

/// Without the crash no mutant of crashes is seen but by who is beside it.
#[test]
fn without_a_crash_nothing_is_left() {
    for phase in rows().into_iter().filter(|phase| phase.mutant) {
        let seen = match phase.world {
            World::WritingAgain(model) => {
                found(&all(&WritingAgain { crashes: 0, ..model }))
            }
            World::ReadingAgain(model) => {
                found(&all(&ReadingAgain { crashes: 0, ..model }))
            }
            World::Members(_)
            | World::Ahead(_)
            | World::Cancel(_)
            | World::Writing(_)
            | World::Reading(_)
            | World::Committing(_) => continue,
        };
        let live = ["B1", "B11", "R14", "R2"];
        let other = seen.iter().find(|(name, _)| !live.contains(name));
        assert_eq!(other, None, "{} {}", phase.model, phase.protocol);
    }
}
