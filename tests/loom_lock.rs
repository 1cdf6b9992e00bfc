//! The store under loom: the schedules of real threads, one by one.
//!
//! loom keeps to itself what it does in statics: the models run one at a
//! time. How many schedules there are depends on loom; what they show does
//! not.

#![cfg(feature = "check")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use qubes_fsm::check::Coverage;
use qubes_fsm::check::interleave::{Bounds, Interleaved, interleave};
use qubes_fsm::check::lock::{
    NO_FAILURE, Progress, S1, S1_STALE, S2, S3, S5, Sessions,
};
use qubes_fsm::fsm::protocol::{HISTORY_2013, HISTORY_2016, Protocol, SHIPPED};

/// Far longer than any of these takes: a test is not to be cut.
const TIME_MAX: Duration = Duration::from_secs(600);

fn run(
    protocol: Protocol,
    (writers, readers): (usize, usize),
    bounds: Bounds,
) -> Interleaved {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let model = Sessions::new(protocol, writers, readers, 1).unwrap();
    interleave(model, bounds)
}

fn bounds(
    property: Option<&'static str>,
    preemptions: Option<usize>,
) -> Bounds {
    Bounds { property, preemptions, time_max: TIME_MAX }
}

/// Makes the calls of a violation again and looks whether it is one.
fn is_real(protocol: Protocol, writers: usize, found: &Interleaved) -> bool {
    let violation = found.violation.as_ref().unwrap();
    let model = Sessions::new(protocol, writers, 0, 1).unwrap();
    let mut world = model.start();
    for call in &violation.calls {
        let progress = model.advance(&mut world, call.process);
        assert_eq!(progress, Progress::Moved(*call));
    }
    let mut named = Sessions::SAFETY.into_iter();
    let (_, holds) =
        named.find(|(name, _)| *name == violation.property).unwrap();
    !holds(&model, &world)
}

#[test]
fn the_lost_update_of_2013_is_found() {
    let found = run(HISTORY_2013, (2, 0), bounds(Some(S1), None));
    assert_eq!(found.violation.as_ref().unwrap().property, S1);
    assert!(found.executions > 1, "the first schedule has no race");
    assert_eq!(found.coverage, Coverage::Bounded);
    assert!(is_real(HISTORY_2013, 2, &found));
}

#[test]
fn two_preemptions_find_the_races_of_history() {
    for protocol in [HISTORY_2013, HISTORY_2016] {
        for property in [S1, S1_STALE, S2] {
            let found = run(protocol, (2, 0), bounds(Some(property), Some(2)));
            let violation = found.violation.as_ref().unwrap();
            assert_eq!(violation.property, property, "{protocol:?}");
            assert!(is_real(protocol, 2, &found));
        }
    }
    // All properties at once: the first that fails is S2.
    let found = run(HISTORY_2013, (2, 0), bounds(None, Some(2)));
    assert_eq!(found.violation.unwrap().property, S2);
}

#[test]
fn shipped_holds_in_every_schedule_of_two_writers() {
    let found = run(SHIPPED, (2, 0), bounds(None, None));
    assert_eq!(found.violation, None);
    assert_eq!(found.coverage, Coverage::Exhaustive);
    // More than any bound allows: the search did not end early.
    let bounded = run(SHIPPED, (2, 0), bounds(None, Some(3)));
    assert_eq!(bounded.coverage, Coverage::Bounded);
    assert!(found.executions > bounded.executions);
}

#[test]
fn shipped_holds_for_more_within_two_preemptions() {
    for processes in [(3, 0), (2, 1)] {
        let once = run(SHIPPED, processes, bounds(None, Some(1)));
        let twice = run(SHIPPED, processes, bounds(None, Some(2)));
        for found in [&once, &twice] {
            assert_eq!(found.violation, None, "{processes:?}");
            assert_eq!(found.coverage, Coverage::Bounded);
        }
        assert!(once.executions < twice.executions, "{processes:?}");
    }
}

#[test]
fn a_limit_of_time_is_a_cut_and_no_pass() {
    let limits = Bounds { time_max: Duration::ZERO, ..bounds(None, None) };
    let found = run(SHIPPED, (3, 0), limits);
    assert_eq!(found.violation, None);
    assert_eq!(found.coverage, Coverage::Cut);
}

/// What is looked at under loom is what the explorer looks at.
#[test]
fn loom_looks_at_every_property_of_safety() {
    let names: Vec<_> =
        Sessions::SAFETY.into_iter().map(|(name, _)| name).collect();
    let wanted = [S1, S1_STALE, S2, S3, S5, NO_FAILURE];
    assert_eq!(names, wanted);
}
