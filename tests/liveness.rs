//! Liveness: what weak fairness excuses, and what it does not.
//!
//! Small graphs, by hand and at random. Every counterexample is walked
//! through the model again; every verdict on a random graph is compared with
//! that of an oracle that tries all sets of states.

#![cfg(feature = "check")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(clippy::panic, reason = "a test may fail loudly")]

use proptest::prelude::*;

use qubes_fsm::check::explore::{Limits, Trace, Verdict, explore};
use qubes_fsm::check::liveness::UNFAIR;
use qubes_fsm::check::{Coverage, Model, Property};

/// A graph from state 0; an edge is (from, actor, to).
#[derive(Clone, Debug)]
struct Maze {
    edges: Vec<(usize, usize, usize)>,
    goals: Vec<usize>,
}

impl Model for Maze {
    type State = usize;
    /// Who goes, and where to.
    type Step = (usize, usize);

    fn initial(&self) -> Vec<usize> {
        vec![0]
    }
    fn steps(&self, state: &usize, steps: &mut Vec<(Self::Step, usize)>) {
        for (from, actor, to) in &self.edges {
            if from == state {
                steps.push(((*actor, *to), *to));
            }
        }
    }
    fn is_end(&self, _: &usize) -> bool {
        true
    }
    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::eventually(GOAL, |maze, state| {
            maze.goals.contains(state)
        })]
    }
    fn actor(&self, step: &Self::Step) -> usize {
        step.0
    }
}

const GOAL: &str = "comes to the goal";

impl Maze {
    fn new(edges: &[(usize, usize, usize)], goals: &[usize]) -> Self {
        Self { edges: edges.to_vec(), goals: goals.to_vec() }
    }

    /// The way to avoid the goal for ever, looked at closely.
    fn escape(&self) -> Option<Trace<Self>> {
        let report = explore(self, Limits::default());
        assert_eq!(report.coverage, Coverage::Exhaustive);
        match &report.verdicts[0].2 {
            Verdict::Holds => None,
            Verdict::Violated(Some(run)) => {
                self.retrace(run).unwrap();
                Some(run.clone())
            }
            other @ (Verdict::Violated(None) | Verdict::Undecided) => {
                panic!("{other:?}")
            }
        }
    }

    fn after(&self, state: usize) -> Vec<((usize, usize), usize)> {
        let mut steps = Vec::new();
        self.steps(&state, &mut steps);
        steps
    }

    fn reachable(&self) -> Vec<usize> {
        let mut states = vec![0];
        let mut next = 0;
        while let Some(&state) = states.get(next) {
            for (_, to) in self.after(state) {
                if !states.contains(&to) {
                    states.push(to);
                }
            }
            next += 1;
        }
        states
    }

    fn actors(&self) -> Vec<usize> {
        let states = self.reachable();
        let mut actors: Vec<_> = self
            .edges
            .iter()
            .filter(|(from, ..)| states.contains(from))
            .map(|(_, actor, _)| *actor)
            .filter(|actor| *actor != UNFAIR)
            .collect();
        actors.sort_unstable();
        actors.dedup();
        actors
    }

    /// Goes the prefix, then round the cycle: every step is one of the
    /// model's, no goal on the cycle, and nobody is treated unfairly.
    fn retrace(&self, run: &Trace<Self>) -> Result<(), String> {
        let mut at = run.initial;
        let go = |from: usize, to: &((usize, usize), usize)| {
            let steps = self.after(from);
            steps.contains(to).then_some(to.1).ok_or_else(|| {
                format!("no step {to:?} from {from} in {steps:?}")
            })
        };
        for step in &run.prefix {
            at = go(at, step)?;
        }
        let entry = at;
        let mut states = vec![entry];
        let mut moved = Vec::new();
        for step in &run.cycle {
            at = go(at, step)?;
            states.push(at);
            moved.push(step.0.0);
        }
        if at != entry {
            return Err(format!("the cycle ends in {at}, not in {entry}"));
        }
        if let Some(goal) = states.iter().find(|s| self.goals.contains(s)) {
            return Err(format!("the cycle visits the goal {goal}"));
        }
        if run.cycle.is_empty() {
            let mut steps = self.after(entry);
            steps.retain(|((who, _), _)| *who != UNFAIR);
            return match steps.is_empty() {
                true => Ok(()),
                false => Err(format!("{entry} is no dead end: {steps:?}")),
            };
        }
        let unfair = self.actors().into_iter().find(|actor| {
            let idle = |state: &usize| {
                self.after(*state).iter().all(|((who, _), _)| who != actor)
            };
            !moved.contains(actor) && !states.iter().any(idle)
        });
        match unfair {
            Some(actor) => Err(format!("{actor} could always move: {run:?}")),
            None => Ok(()),
        }
    }

    /// The oracle: is there a set of states without a goal in which a fair
    /// run can stay? Tries all.
    fn can_escape(&self) -> bool {
        let states = self.reachable();
        let actors = self.actors();
        (1u32..1 << states.len()).any(|set| {
            let inside: Vec<usize> = (0..states.len())
                .filter(|bit| set & (1 << bit) != 0)
                .map(|bit| states[bit])
                .collect();
            if inside.iter().any(|state| self.goals.contains(state)) {
                return false;
            }
            if let [only] = inside[..]
                && self.after(only).iter().all(|((who, _), _)| *who == UNFAIR)
            {
                return true;
            }
            self.is_connected(&inside)
                && actors.iter().all(|actor| {
                    inside.iter().any(|state| {
                        let after = self.after(*state);
                        let mut own =
                            after.iter().filter(|((who, _), _)| who == actor);
                        let idle = own.clone().next().is_none();
                        idle || own.any(|(_, to)| inside.contains(to))
                    })
                })
        })
    }

    /// From each state to each, by at least one step, all inside.
    fn is_connected(&self, inside: &[usize]) -> bool {
        inside.iter().all(|start| {
            let mut seen: Vec<usize> = Vec::new();
            let mut todo = vec![*start];
            while let Some(state) = todo.pop() {
                for (_, to) in self.after(state) {
                    if inside.contains(&to) && !seen.contains(&to) {
                        seen.push(to);
                        todo.push(to);
                    }
                }
            }
            seen.len() == inside.len()
        })
    }
}

#[test]
fn a_spinning_actor_is_harmless() {
    // Actor 0 spins for ever; actor 1 could go on all the time.
    let maze = Maze::new(&[(0, 0, 0), (0, 1, 1)], &[1]);
    assert!(maze.escape().is_none());
    assert!(!maze.can_escape());
}

#[test]
fn one_actor_that_may_choose_may_choose_wrong_for_ever() {
    let maze = Maze::new(&[(0, 0, 0), (0, 0, 1)], &[1]);
    let run = maze.escape().unwrap();
    assert_eq!((run.prefix.len(), run.cycle), (0, vec![((0, 0), 0)]));
}

#[test]
fn two_that_undo_each_other_are_a_livelock() {
    // Both must be up at once; whoever is up alone gives way to the other.
    let maze = Maze::new(&[(3, 0, 0), (0, 0, 1), (1, 1, 2), (2, 0, 1)], &[9]);
    let run = maze.escape().unwrap();
    assert_eq!(run.prefix, [((0, 1), 1)]);
    assert_eq!(run.cycle, [((1, 2), 2), ((0, 1), 1)]);
}

#[test]
fn waiting_now_and_then_is_no_excuse_for_the_others() {
    // Actor 1 can go to the goal, but only in state 0: strong fairness would
    // excuse this cycle, weak fairness does not.
    let maze = Maze::new(&[(0, 0, 1), (1, 0, 0), (0, 1, 2)], &[2]);
    let run = maze.escape().unwrap();
    assert_eq!(run.cycle.len(), 2);
}

#[test]
fn a_dead_end_is_no_goal() {
    let maze = Maze::new(&[(0, 0, 1), (0, 1, 2), (1, 0, 3)], &[2]);
    let run = maze.escape().unwrap();
    assert_eq!(run.prefix, [((0, 1), 1), ((0, 3), 3)]);
    assert!(run.cycle.is_empty());
}

#[test]
fn a_dead_end_that_is_the_goal_is_none() {
    let maze = Maze::new(&[(0, 0, 1), (0, 1, 2)], &[1, 2]);
    assert!(maze.escape().is_none());
}

#[test]
fn a_cycle_in_which_somebody_is_passed_over_is_not_reported() {
    // Two actors go round; a third could leave in every state.
    let ring = [(0, 0, 1), (1, 1, 2), (2, 0, 0)];
    let exits = [(0, 2, 3), (1, 2, 3), (2, 2, 3)];
    let maze = Maze::new(&[&ring[..], &exits[..]].concat(), &[3]);
    assert!(maze.escape().is_none());
    // Without one of the exits the third has to wait there.
    let maze = Maze::new(&[&ring[..], &exits[..2]].concat(), &[3]);
    assert_eq!(maze.escape().unwrap().cycle.len(), 3);
}

#[test]
fn a_goal_inside_the_only_loop_is_met_again_and_again() {
    let maze = Maze::new(&[(0, 0, 1), (1, 1, 2), (2, 0, 0)], &[1]);
    assert!(maze.escape().is_none());
    // With a way round it, it is not.
    let maze = Maze::new(&[(0, 0, 1), (1, 1, 2), (2, 0, 0), (0, 1, 2)], &[1]);
    assert!(maze.escape().is_some());
}

#[test]
fn a_goal_that_was_met_once_must_be_met_again() {
    // Through the goal into a loop without it.
    let maze = Maze::new(&[(0, 0, 1), (1, 0, 2), (2, 0, 1)], &[0]);
    let run = maze.escape().unwrap();
    assert_eq!((run.prefix.len(), run.cycle.len()), (1, 2));
}

#[test]
fn an_actor_beside_another_on_the_same_way_is_seen() {
    // Both actors lead from 0 to 1, and both must move: from 1 only the
    // first goes on, so the second is idle there, but not in the twin maze.
    let maze = Maze::new(&[(0, 0, 1), (0, 1, 1), (1, 0, 0)], &[9]);
    assert!(maze.escape().is_some());
    let maze = Maze::new(&[(0, 0, 1), (0, 1, 1), (1, 0, 0), (1, 1, 2)], &[2]);
    let run = maze.escape().unwrap();
    assert!(run.cycle.iter().any(|((actor, _), _)| *actor == 1), "{run:?}");
}

#[test]
fn the_nearest_loop_is_reported() {
    let maze = Maze::new(&[(0, 0, 1), (1, 0, 2), (2, 0, 2), (1, 0, 1)], &[9]);
    let run = maze.escape().unwrap();
    assert_eq!((run.prefix.len(), run.cycle.len()), (1, 1));
}

#[test]
fn a_cut_search_says_nothing_of_liveness() {
    let maze = Maze::new(&[(0, 0, 1), (1, 0, 2), (2, 0, 2)], &[2]);
    let limits = Limits { states_max: 2, ..Limits::default() };
    let report = explore(&maze, limits);
    assert!(matches!(report.verdicts[0].2, Verdict::Undecided));
    assert!(maze.escape().is_none());
}

#[test]
fn what_may_never_come_is_no_way_out() {
    // The only way to the goal is a step that nobody owes.
    let run = Maze::new(&[(0, 0, 1), (1, UNFAIR, 2)], &[2]).escape().unwrap();
    assert_eq!((run.prefix.len(), run.cycle.len()), (1, 0));
    // And beside a loop it excuses nothing either.
    let maze = Maze::new(&[(0, 0, 1), (1, 0, 0), (1, UNFAIR, 2)], &[2]);
    assert_eq!(maze.escape().unwrap().cycle.len(), 2);
    // It may come again and again, and hold nobody up.
    let loops = [(0, UNFAIR, 1), (1, UNFAIR, 0), (0, 0, 2), (1, 0, 2)];
    assert!(Maze::new(&loops, &[2]).escape().is_none());
}

fn mazes() -> impl Strategy<Value = Maze> {
    (1..=8usize, 1..=3usize).prop_flat_map(|(states, actors)| {
        let edge = (0..states, 0..actors, 0..states);
        let edges = prop::collection::vec(edge, 0..=16);
        let goals = prop::collection::vec(0..states, 0..=2);
        (edges, goals, any::<bool>()).prop_map(|(mut edges, goals, unfair)| {
            for (_, actor, _) in edges.iter_mut().filter(|_| unfair) {
                *actor = if *actor == 0 { UNFAIR } else { *actor };
            }
            Maze { edges, goals }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// The verdict is the oracle's, and every counterexample is real.
    #[test]
    fn random_mazes_are_judged_as_by_the_oracle(maze in mazes()) {
        let report = explore(&maze, Limits::default());
        let run = match &report.verdicts[0].2 {
            Verdict::Holds => None,
            Verdict::Violated(Some(run)) => Some(run),
            other @ (Verdict::Violated(None) | Verdict::Undecided) => {
                return Err(TestCaseError::fail(format!("{other:?}")));
            }
        };
        prop_assert_eq!(run.is_some(), maze.can_escape());
        if let Some(run) = run {
            let retraced = maze.retrace(run);
            prop_assert!(retraced.is_ok(), "{:?}: {:?}", retraced, run);
        }
    }
}
