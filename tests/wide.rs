//! The search with threads, fingerprints and representatives says what the
//! plain one says; and that renaming is harmless is looked at, state by state.

#![cfg(feature = "check")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Mutex;
use std::thread::{self, ThreadId};
use std::time::Duration;

use qubes_fsm::check::explore::{
    Coverage, Limits, Report, Trace, Verdict, explore,
};
use qubes_fsm::check::golden::Golden;
use qubes_fsm::check::lock::{Sessions, World};
use qubes_fsm::check::partial_order::Ordered;
use qubes_fsm::check::symmetry::Symmetric;
use qubes_fsm::check::wide::{How, search};
use qubes_fsm::check::{Kind, Model, Property};
use qubes_fsm::fsm::protocol::NAMED;

const PLAIN: How = How {
    threads: 1,
    fingerprints: false,
    symmetry: false,
    partial_order: false,
};

/// Every way to search but for the number of threads.
const WAYS: [How; 4] = [
    PLAIN,
    How { fingerprints: true, ..PLAIN },
    How { symmetry: true, ..PLAIN },
    How { fingerprints: true, symmetry: true, ..PLAIN },
];

/// What each property of safety comes to, and in how many steps.
fn verdicts<M: Model>(report: &Report<M>) -> Vec<(&str, Option<usize>, bool)> {
    let safety = report.verdicts.iter();
    let safety = safety.filter(|(_, kind, _)| *kind != Kind::Eventually);
    safety
        .map(|(name, _, verdict)| match verdict {
            Verdict::Holds => (*name, None, true),
            Verdict::Violated(Some(trace)) => {
                (*name, Some(trace.prefix.len()), false)
            }
            Verdict::Violated(None) => (*name, None, false),
            Verdict::Undecided => panic!("{name} is undecided"),
        })
        .collect()
}

/// Every step of a run is one of the model's.
fn assert_run<M: Model>(model: &M, trace: &Trace<M>)
where
    M::Step: Debug,
{
    assert!(model.initial().contains(&trace.initial));
    let mut state = trace.initial.clone();
    for (step, next) in &trace.prefix {
        let mut steps = Vec::new();
        model.steps(&state, &mut steps);
        assert!(steps.iter().any(|(_, after)| after == next), "{step:?}");
        state = next.clone();
    }
}

fn stores() -> Vec<Sessions> {
    let mut stores = Vec::new();
    for protocol in NAMED {
        for (writers, readers, saves) in
            [(1, 0, 1), (2, 0, 1), (2, 1, 1), (3, 0, 1), (1, 2, 1), (2, 0, 2)]
        {
            stores.extend(Sessions::new(protocol, writers, readers, saves));
        }
    }
    assert!(stores.len() > 25);
    stores
}

#[test]
fn the_store_gets_the_same_verdicts() {
    for model in stores() {
        let plain = explore(&model, Limits::default());
        for how in WAYS {
            for threads in [1, 2] {
                let how = How { threads, ..how };
                let found = search(&model, how, Limits::default());
                let said = format!("{model:?} {how:?}");
                assert_eq!(verdicts(&found), verdicts(&plain), "{said}");
                if how.symmetry {
                    assert!(found.states <= plain.states, "{said}");
                } else {
                    assert_eq!(found.states, plain.states, "{said}");
                    assert_eq!(found.edges, plain.edges, "{said}");
                }
                assert_eq!(found.depth, plain.depth, "{said}");
                let all = match how.fingerprints {
                    true => Coverage::Bounded,
                    false => Coverage::Exhaustive,
                };
                assert_eq!(found.coverage, all, "{said}");
                for (.., verdict) in &found.verdicts {
                    if let Verdict::Violated(Some(trace)) = verdict {
                        assert_run(&model, trace);
                    }
                }
            }
        }
    }
}

/// Numbers of TLC and stateright; TLC counts the beginning as a transition.
#[test]
fn the_golden_model_has_the_known_counts() {
    for (processes, states, transitions, by_symmetry, fewer) in [
        (2, 100, 149, 52, 77),
        (3, 1_399, 2_872, 272, 530),
        (4, 25_765, 67_925, 1_508, 3_591),
    ] {
        let model = Golden { processes, recheck: true };
        for how in WAYS {
            for threads in [1, 2, 3] {
                let how = How { threads, ..how };
                let report = search(&model, how, Limits::default());
                let wanted = match how.symmetry {
                    true => (by_symmetry, fewer - 1),
                    false => (states, transitions - 1),
                };
                assert_eq!((report.states, report.edges), wanted, "{how:?}");
            }
        }
    }
    let how = How { threads: 2, symmetry: true, ..PLAIN };
    let model = Golden { processes: 5, recheck: true };
    let report = search(&model, how, Limits::default());
    assert_eq!((report.states, report.edges), (8_936, 24_901));
    // Without the comparison it loses an update, with any number of names.
    let model = Golden { recheck: false, ..model };
    let report = search(&model, how, Limits::default());
    let trace = report.violation("no lost update").unwrap();
    assert_run(&model, trace);
}

/// The same run is found whatever the number of threads.
#[test]
fn threads_change_nothing() {
    let model = Sessions::new(NAMED[0], 3, 0, 1).unwrap();
    for how in WAYS {
        let runs: Vec<String> = (1..=4)
            .map(|threads| {
                let how = How { threads, ..how };
                let report = search(&model, how, Limits::default());
                format!("{:?}", report.verdicts)
            })
            .collect();
        assert!(runs[0].contains("Violated"));
        assert!(runs.iter().all(|run| *run == runs[0]), "{how:?}");
    }
}

/// The golden model, and which threads took its steps.
#[derive(Debug)]
struct Watched {
    golden: Golden,
    threads: Mutex<HashSet<ThreadId>>,
}

impl Model for Watched {
    type State = <Golden as Model>::State;
    type Step = <Golden as Model>::Step;

    fn initial(&self) -> Vec<Self::State> {
        self.golden.initial()
    }

    fn steps(
        &self,
        state: &Self::State,
        steps: &mut Vec<(Self::Step, Self::State)>,
    ) {
        self.threads.lock().unwrap().insert(thread::current().id());
        self.golden.steps(state, steps);
    }

    fn is_end(&self, state: &Self::State) -> bool {
        self.golden.is_end(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property {
            name: "nothing lost",
            kind: Kind::Always,
            test: |model, state| model.golden.nothing_lost(state),
        }]
    }
}

impl Symmetric for Watched {
    fn representative(&self, state: &Self::State) -> Self::State {
        self.golden.representative(state)
    }
}

impl Ordered for Watched {
    fn alone(&self, state: &Self::State) -> Option<usize> {
        self.golden.alone(state)
    }
}

/// Layers that are worth it are divided, among more threads than shards too;
/// the run that is found stays the same.
#[test]
fn large_layers_are_divided_among_threads() {
    for fingerprints in [false, true] {
        let mut runs = Vec::new();
        for threads in [1, 3, 40] {
            let model = Watched {
                golden: Golden { processes: 5, recheck: false },
                threads: Mutex::default(),
            };
            let how = How { threads, fingerprints, ..PLAIN };
            let report = search(&model, how, Limits::default());
            runs.push((
                report.states,
                report.edges,
                report.depth,
                format!("{:?}", report.verdicts),
            ));
            let seen = model.threads.into_inner().unwrap().len();
            assert_eq!(seen > 1, threads > 1, "{seen} of {threads}");
            assert!(seen <= threads, "{seen} of {threads}");
        }
        assert!(runs[0].3.contains("Violated(Some"));
        assert!(runs.iter().all(|run| *run == runs[0]));
    }
}

/// A limit of states is one for all threads together: as many as there are
/// is enough, and one less is not.
#[test]
fn threads_share_one_limit() {
    let small = explore(&golden(4), Limits::default()).states;
    for (processes, all, threads) in
        [(4, small, 1), (4, small, 3), (5, 587_767, 2), (5, 587_767, 8)]
    {
        for left in [0, 1, all / 2] {
            let how = How { threads, fingerprints: true, ..PLAIN };
            let states_max = all - left;
            let limits = Limits { states_max, ..Limits::default() };
            let report = search(&golden(processes), how, limits);
            let cut = report.coverage == Coverage::Cut;
            assert_eq!(cut, left > 0, "{threads} threads, {left} less");
            assert_eq!(report.states, states_max, "{threads} threads");
        }
    }
}

fn golden(processes: usize) -> Golden {
    Golden { processes, recheck: true }
}

/// Liveness is not looked at, and nobody is told that it holds.
#[test]
fn liveness_is_left_out_by_name() {
    let model = Sessions::new(NAMED[3], 2, 0, 1).unwrap();
    let plain = explore(&model, Limits::default());
    let wide = search(&model, PLAIN, Limits::default());
    assert!(plain.proves() && plain.proves_safety() && wide.proves_safety());
    assert!(!wide.proves());
    assert_eq!(plain.left_out.len(), 0);
    let eventually = plain.verdicts.iter();
    let eventually =
        eventually.filter(|(_, kind, _)| *kind == Kind::Eventually);
    let names: Vec<_> = eventually.map(|(name, ..)| *name).collect();
    assert!(!names.is_empty());
    assert_eq!(wide.left_out, names);
}

#[test]
fn a_cut_search_proves_nothing() {
    let model = Golden { processes: 4, recheck: true };
    for how in WAYS {
        let limits = Limits { states_max: 500, ..Limits::default() };
        let report = search(&model, how, limits);
        assert_eq!(report.coverage, Coverage::Cut, "{how:?}");
        assert_eq!(report.states, 500, "{how:?}");
        assert!(!report.proves(), "{how:?}");
        let limits = Limits { time_max: Duration::ZERO, ..Limits::default() };
        let report = search(&model, how, limits);
        assert_eq!(report.coverage, Coverage::Cut, "{how:?}");
    }
}

/// All orders of so many.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for number in 0..count {
        all = all
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, number);
                    order
                })
            })
            .collect();
    }
    all
}

/// In every state of small instances: to rename processes that are alike and
/// then to step is to step and then to rename; what is true stays true; and
/// all names give one representative.
#[test]
fn renaming_and_stepping_change_places() {
    let mut looked = 0;
    for model in stores() {
        let fits = |order: &Vec<usize>| {
            let mut pairs = order.iter().enumerate();
            pairs.all(|(one, other)| model.are_alike(one, *other))
        };
        let mut orders = orders(model.processes());
        orders.retain(fits);
        for state in states(&model) {
            let mut after = Vec::new();
            model.steps(&state, &mut after);
            let least = model.representative(&state);
            for order in &orders {
                let renamed = state.renamed(order);
                let mut steps = Vec::new();
                model.steps(&renamed, &mut steps);
                let steps: Vec<_> = steps.into_iter().map(|s| s.1).collect();
                assert_eq!(steps.len(), after.len());
                for (_, after) in &after {
                    assert!(steps.contains(&after.renamed(order)));
                }
                for property in model.properties() {
                    assert_eq!(
                        (property.test)(&model, &state),
                        (property.test)(&model, &renamed),
                        "{}",
                        property.name
                    );
                }
                assert_eq!(model.representative(&renamed), least);
                looked += 1;
            }
        }
    }
    assert!(looked > 10_000, "{looked}");
}

fn states(model: &Sessions) -> Vec<World> {
    let mut states = model.initial();
    let mut known: HashSet<_> = states.iter().copied().collect();
    let mut next = 0;
    while let Some(state) = states.get(next).copied() {
        next += 1;
        let mut steps = Vec::new();
        model.steps(&state, &mut steps);
        for (_, state) in steps {
            if known.insert(state) {
                states.push(state);
            }
        }
    }
    states
}
