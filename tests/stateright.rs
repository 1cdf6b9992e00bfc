//! A second opinion: stateright searches the same models.
//!
//! State type and next-state function are ours, the search and the set of
//! states are not: equal counts mean that neither forgets a state.

#![cfg(feature = "check")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(clippy::panic, reason = "a test may fail loudly")]

use qubes_fsm::check::explore::{Limits, Report, explore};
use qubes_fsm::check::golden::Golden;
use qubes_fsm::check::lock::{S1, Sessions};
use qubes_fsm::check::{Coverage, Model};
use qubes_fsm::fsm::protocol::{
    HISTORY_2013, HISTORY_2014, HISTORY_2016, LOCK_FILE, SHIPPED,
};
use stateright::{Checker, HasDiscoveries, Property};

/// What must hold in every state, by which model.
type Test<M> = fn(&M, &<M as Model>::State) -> bool;

/// One of our models in stateright's terms; an action is the number of a
/// step.
struct Theirs<M: Model> {
    model: M,
    safe: Test<M>,
}

impl<M: Model> stateright::Model for Theirs<M> {
    type State = M::State;
    type Action = usize;

    fn init_states(&self) -> Vec<M::State> {
        self.model.initial()
    }

    fn actions(&self, state: &M::State, actions: &mut Vec<usize>) {
        let mut steps = Vec::new();
        self.model.steps(state, &mut steps);
        actions.extend(0..steps.len());
    }

    fn next_state(&self, last: &M::State, action: usize) -> Option<M::State> {
        let mut steps = Vec::new();
        self.model.steps(last, &mut steps);
        steps.into_iter().nth(action).map(|(_, state)| state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SAFE, |theirs: &Self, state| {
                (theirs.safe)(&theirs.model, state)
            }),
            // Never discovered: the search must see everything.
            Property::always("true", |_, _| true),
        ]
    }
}

const SAFE: &str = "safe";

/// Unique states, steps, and the length of a run that is not safe.
type Found = (usize, usize, Option<usize>);

fn theirs<M>(model: M, safe: Test<M>) -> Found
where
    M: Model + Send + Sync + 'static,
    M::State: Send + Sync + 'static,
{
    let checker = stateright::Model::checker(Theirs { model, safe })
        .threads(1)
        .finish_when(HasDiscoveries::All)
        .spawn_bfs()
        .join();
    let length = checker.discovery(SAFE).map(|path| path.into_actions().len());
    // Theirs counts every state that a step leads to, and the first ones.
    let steps = checker.state_count() - 1;
    (checker.unique_state_count(), steps, length)
}

/// Counts are equal, and either both find a run or none does. Theirs is the
/// last one found: it may be longer.
fn assert_alike(ours: Found, theirs: Found) {
    assert_eq!((theirs.0, theirs.1), (ours.0, ours.1));
    match (ours.2, theirs.2) {
        (None, None) => {}
        (Some(shortest), Some(other)) => assert!(shortest <= other),
        (ours, theirs) => panic!("ours {ours:?}, theirs {theirs:?}"),
    }
}

fn ours<M: Model>(model: &M, property: &str) -> Found {
    let report: Report<M> = explore(model, Limits::default());
    assert_eq!(report.coverage, Coverage::Exhaustive);
    let length = report.violation(property).map(|run| run.prefix.len());
    (report.states, report.edges, length)
}

#[test]
fn both_count_the_golden_model_alike() {
    for (processes, states, edges) in
        [(2, 100, 148), (3, 1_399, 2_871), (4, 25_765, 67_924)]
    {
        let golden = Golden { processes, recheck: true };
        let wanted = (states, edges, None);
        assert_eq!(ours(&golden, "no lost update"), wanted);
        assert_eq!(theirs(golden, Golden::nothing_lost), wanted);
    }
}

#[test]
fn both_find_the_race_without_the_recheck() {
    for processes in 2..=3 {
        let golden = Golden { processes, recheck: false };
        let (states, edges, length) = ours(&golden, "no lost update");
        assert!(length.is_some());
        let found = theirs(golden, Golden::nothing_lost);
        assert_alike((states, edges, length), found);
    }
}

fn no_lost_update(
    model: &Sessions,
    world: &<Sessions as Model>::State,
) -> bool {
    let (_, holds) =
        Sessions::SAFETY.into_iter().find(|(name, _)| *name == S1).unwrap();
    holds(model, world)
}

#[test]
fn both_count_the_store_alike() {
    let models = [
        (SHIPPED, 2, 0, 1, false),
        (SHIPPED, 3, 0, 1, false),
        (SHIPPED, 2, 1, 1, false),
        (SHIPPED, 2, 0, 2, false),
        (HISTORY_2013, 2, 0, 1, true),
        (HISTORY_2014, 2, 1, 1, false),
        (HISTORY_2016, 2, 0, 1, true),
        (LOCK_FILE, 2, 0, 1, false),
    ];
    for (protocol, writers, readers, saves, loses) in models {
        let model = Sessions::new(protocol, writers, readers, saves).unwrap();
        let (states, edges, length) = ours(&model, S1);
        assert_eq!(length.is_some(), loses, "{model:?}");
        let found = theirs(model, no_lost_update);
        assert_alike((states, edges, length), found);
    }
}
