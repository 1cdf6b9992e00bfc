//! The gate behind loom's mutex, in more models than `check` runs.
//!
//! Every model says which ends its schedules reach: one in which the worker
//! never ends by itself would find nothing wrong with a missing decision.
//! Mutants that only hang are left to the explorer: a deadlock that loom
//! finds while a guard is held aborts the whole test.

#![cfg(feature = "check")]

use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use qubes_fsm::check::Coverage;
use qubes_fsm::check::phases::cancel::{Mutant, Outcome};
use qubes_fsm::check::phases::rows::{Schedule, schedules};
use qubes_fsm::check::phases::schedules::{Life, PAIRS, Scheduled, Schedules};
use qubes_fsm::check::plan::schedule_row;

static ONE_AT_A_TIME: StdMutex<()> = StdMutex::new(());

/// Executions, which ends they reached, and the property that is violated.
fn run(model: Schedules) -> (u64, Vec<Outcome>, Option<String>) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let found = model.run(Duration::from_secs(3600));
    let Scheduled { executions, outcomes, violated, .. } = found;
    let short = |name: String| name.split(' ').next().map(str::to_owned);
    (executions, outcomes, violated.and_then(short))
}

fn model(mutant: Mutant, lives: [Life; 2]) -> Schedules {
    Schedules::new(mutant, lives)
}

/// Worker and canceler, every schedule, no bound.
#[test]
fn the_gate_holds_in_every_schedule_of_two_threads() {
    for (lives, wanted) in PAIRS {
        let (executions, outcomes, violated) = run(model(Mutant::Right, lives));
        println!("{lives:?}: {executions} executions");
        assert_eq!(violated, None, "{lives:?}");
        assert_eq!(outcomes, wanted, "{lives:?}");
        assert!(executions > 20, "{lives:?}: {executions} are too few");
    }
}

/// A child that fails at any moment, and a second canceler: two preemptions.
#[test]
fn the_gate_holds_for_more_threads_within_two_preemptions() {
    let all = [Outcome::Failed, Outcome::Canceled];
    for (lives, cancelers) in [
        ([Life::MayFail, Life::Hangs], 1),
        ([Life::MayFail, Life::EndsWell], 2),
        ([Life::EndsWell, Life::MayFail], 2),
    ] {
        let base = model(Mutant::Right, lives);
        let once = run(Schedules { cancelers, preemptions: Some(1), ..base });
        let twice = run(Schedules { cancelers, preemptions: Some(2), ..base });
        println!("{lives:?}, {cancelers}: {} executions", twice.0);
        assert_eq!(twice.2, None, "{lives:?}");
        assert_eq!(twice.1, all, "{lives:?}");
        assert!(once.0 < twice.0, "{lives:?}");
    }
}

/// The time is looked at every 256 schedules; by default loom has 20,000.
#[test]
fn a_limit_ends_it_soon() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let base = model(Mutant::Right, [Life::MayFail, Life::EndsWell]);
    let many = Schedules { cancelers: 2, preemptions: Some(2), ..base };
    let found = many.run(Duration::ZERO);
    assert!(found.executions <= 256, "{}", found.executions);
    assert_eq!(found.coverage, Coverage::Cut);
    assert_eq!(found.violated, None);
}

#[test]
fn mutants_of_the_gate_are_found() {
    let [hang, late, good, bad] = PAIRS.map(|(lives, _)| lives);
    for (mutant, lives, wanted) in [
        (Mutant::FlagAfterKill, hang, "C3"),
        (Mutant::LookThenPublish, good, "C1"),
        (Mutant::FailUndecided, bad, "C1"),
        (Mutant::RecordDropped, hang, "C3"),
        (Mutant::ReapFirst, late, "C4"),
        (Mutant::SignalLater, late, "C4"),
        (Mutant::RefusedLeft, hang, "C2"),
    ] {
        let (executions, _, violated) = run(model(mutant, lives));
        println!("{mutant:?}: {executions} executions");
        assert_eq!(violated.as_deref(), Some(wanted), "{mutant:?}");
    }
}

/// The twin is what this is about: a worker that never comes to an end of
/// its own finds nothing wrong without a decision.
#[test]
fn a_model_without_its_own_ends_is_blind() {
    let [hang, ..] = PAIRS.map(|(lives, _)| lives);
    for mutant in [Mutant::LookThenPublish, Mutant::FailUndecided] {
        let (_, outcomes, violated) = run(model(mutant, hang));
        assert_eq!(violated, None, "{mutant:?}");
        assert_eq!(outcomes, [Outcome::Canceled], "{mutant:?}");
    }
}

/// Several models are one row, and that says what is true of all of them,
/// wherever the one stands of which least was seen.
#[test]
fn a_row_of_several_models_says_the_weakest() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (lives, ends) = PAIRS[0];
    let within = |preemptions| {
        let base = model(Mutant::Right, lives);
        (Schedules { preemptions, ..base }, ends)
    };
    let (all, one, two) = (within(None), within(Some(1)), within(Some(2)));
    let hour = Duration::from_secs(3600);
    for (models, coverage, bound) in [
        (vec![all, all], "exhaustive", None),
        (vec![all, one], "bounded", Some("1 preemptions")),
        (vec![one, all], "bounded", Some("1 preemptions")),
        (vec![two, one, all], "bounded", Some("1 preemptions")),
        (vec![one, two], "bounded", Some("1 preemptions")),
    ] {
        let first = schedules().swap_remove(0);
        let row = schedule_row(&Schedule { models, ..first }, hour);
        assert_eq!((&*row.coverage, &*row.verdict), (coverage, "holds"));
        assert_eq!(row.bound.as_deref(), bound);
    }
}
